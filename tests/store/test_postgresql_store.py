"""PostgreSQL: a node says when the database is gone, tells nothing stale for long, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import asyncpg
import httpx2
import pytest

from keyrelay.errors import DatabaseUnreachable
from keyrelay.settings import Settings
from keyrelay.store import postgresql
from keyrelay.store.engine import open_store
from keyrelay.store.model import Conflict
from keyrelay.store.postgresql import PostgresqlStore
from live import ANONYMOUS, BASIC, SMTP, V2
from stores import add_roles
from submissions import hand_in

pytestmark = pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)


@pytest.fixture
def outage(postgres):
    """Stop the database, and start it again at the latest when the test ends."""
    stopped = []

    class Outage:
        def begin(self) -> None:
            postgres.kill()
            stopped.append(True)

        def end(self) -> None:
            if stopped:
                stopped.clear()
                postgres.resume()

    yield Outage()
    Outage().end()


def test_while_the_database_is_gone_changes_are_refused_and_reads_stay_right(fresh_settings, start, outage):
    server = start(fresh_settings)
    before = server.put_v2(BASIC).json()
    outage.begin()
    for _ in range(3):
        refused = server.put_v2(ANONYMOUS)
        assert refused.status_code == 503
        assert set(refused.json()) == {"ErrorCode", "Message"}
        assert refused.headers["retry-after"]
        read = server.get(SMTP, headers=V2)
        assert read.json() == before if read.status_code == 200 else read.status_code == 503
    assert httpx2.get(server.url + "/livez", timeout=30).status_code == 200
    assert httpx2.get(server.url + "/readyz", timeout=30).status_code == 503
    outage.end()
    deadline = time.monotonic() + 10
    while (answer := server.put_v2(ANONYMOUS)).status_code != 200:
        assert answer.status_code == 503
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.get_v2()["Host"] == ANONYMOUS["Host"]
    assert server.run(lambda node: node.keeper.history())[0].revision == 2


def test_while_the_database_is_gone_nobody_is_told_that_they_asked_too_often(fresh_settings, start, outage):
    few = {"tests_per_minute": 2, "submissions_per_minute": 2, "address_submissions_per_minute": 2}
    server = start(replace(fresh_settings, worker=False, **few))
    server.put_v2(ANONYMOUS).raise_for_status()
    outage.begin()
    for number in range(12):
        assert hand_in(server).status_code == 503
        assert server.post("/api/v1/diagnoses", json={}).status_code == 503
        assert server.get(SMTP, headers=V2, auth=("admin", f"guess {number}")).status_code == 503
    outage.end()
    deadline = time.monotonic() + 10
    while (answer := hand_in(server)).status_code != 202:
        assert answer.status_code == 503
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.get(SMTP, headers=V2, auth=("admin", "a guess")).status_code == 401


def test_reads_are_refused_once_nobody_knows_whether_they_are_still_right(fresh_settings, start, outage, monkeypatch):
    monkeypatch.setattr(postgresql, "_STALE_SECONDS", 1.0)
    server = start(fresh_settings)
    server.put_v2(BASIC)
    outage.begin()
    deadline = time.monotonic() + 10
    while (answer := server.get(SMTP, headers=V2)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status_code == 503
    assert set(answer.json()) == {"ErrorCode", "Message"}
    outage.end()
    while (answer := server.get(SMTP, headers=V2)).status_code != 200:
        assert time.monotonic() < deadline + 10
        time.sleep(0.05)
    assert answer.json()["Host"] == BASIC["Host"]


def test_a_sign_in_that_nobody_remembers_is_refused_as_unavailable_not_as_wrong(fresh_settings, start, outage):
    server = start(fresh_settings)
    server.put_v2(BASIC)
    server.add_user("newcomer", "a password of ours", "/")
    outage.begin()
    answer = httpx2.get(server.url + SMTP, auth=("newcomer", "a password of ours"), timeout=30)
    assert answer.status_code == 503


def test_a_database_that_has_become_read_only_is_said_and_still_read(fresh_settings, start):
    server = start(fresh_settings)
    before = server.put_v2(BASIC).json()
    name = fresh_settings.database_url.rpartition("/")[2]
    run(fresh_settings, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    cut(fresh_settings)
    time.sleep(0.2)
    refused = server.put_v2(ANONYMOUS)
    assert refused.status_code == 503
    assert set(refused.json()) == {"ErrorCode", "Message"}
    assert server.get_v2() == before


def test_a_connection_cut_under_way_costs_a_503_at_the_most(fresh_settings, start):
    server = start(fresh_settings)
    server.put_v2(BASIC)
    statuses = []
    for number in range(12):
        cut(fresh_settings)
        statuses += [server.put_v2(BASIC | {"SenderName": f"PKI {number} {turn}"}).status_code for turn in range(3)]
        assert statuses[-1] == 200
    assert set(statuses) <= {200, 503}
    assert server.run(lambda node: node.keeper.history())[0].revision == 1 + statuses.count(200)


@pytest.mark.parametrize("steps", range(4))
def test_closing_ends_also_at_the_moment_a_notification_arrives(fresh_settings, steps):
    async def close() -> bool:
        store = await PostgresqlStore.open(fresh_settings.database_url)
        await asyncio.sleep(0.1)  # until it waits for one
        store._wake.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        done, _ = await asyncio.wait({closing}, timeout=5)
        return bool(done)

    assert asyncio.run(close())


def test_a_change_that_fails_leaves_nothing_and_the_next_one_works(fresh_settings):
    async def work() -> list:
        store = await open_store(fresh_settings)
        with pytest.raises(ZeroDivisionError):
            await add_roles(store, "half", then=ZeroDivisionError())
        with pytest.raises(Conflict):
            await add_roles(store, "twice", "twice")
        await add_roles(store, "whole")
        rows = [tuple(row) for row in await store.rows("SELECT name FROM role")]
        assert store.marks == {"access": 1, "keys": 0, "outbox": 0, "pam": 0, "profile": 0}
        await store.close()
        return rows

    assert asyncio.run(work()) == [("whole",)]


def test_changes_of_several_topics_at_once_never_lock_each_other_out(fresh_settings):
    async def work() -> dict:
        store = await open_store(fresh_settings)

        async def change(*topics) -> None:
            async with store.change(*topics):
                await asyncio.sleep(0.01)

        await asyncio.gather(*(change(*topics) for topics in [("access", "profile"), ("profile", "access")] * 8))
        marks = dict(store.marks)
        await store.close()
        return marks

    assert asyncio.run(work()) == {"access": 16, "keys": 0, "outbox": 0, "pam": 0, "profile": 16}


def test_a_database_that_is_not_there_is_said_without_the_password(fresh_settings, postgres):
    for url in (
        postgres.url("no_such_database"),
        fresh_settings.database_url.replace(f":{postgres.port}/", ":1/"),
        fresh_settings.database_url.replace("keyrelay:", "nobody:"),
    ):
        with pytest.raises(DatabaseUnreachable) as raised:
            asyncio.run(open_store(Settings(database_url=url)))
        assert postgres.password not in str(raised.value)


def run(settings: Settings, sql: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(settings.database_url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(execute())


def cut(settings: Settings) -> None:
    run(
        settings,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
