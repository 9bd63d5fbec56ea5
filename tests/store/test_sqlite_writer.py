"""Changes on SQLite: whole or not at all, in which thread, and in turn with those of other processes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest

from keyrelay.store import sqlite_writer
from keyrelay.store.model import Conflict
from stores import add_roles, on_store, role


def test_a_change_that_fails_leaves_nothing_and_the_next_one_works(sqlite_settings):
    async def work(store) -> list:
        marks = store.marks
        with pytest.raises(ZeroDivisionError):
            await add_roles(store, "half", then=ZeroDivisionError())
        assert (store.marks, await store.rows("SELECT * FROM role")) == (marks, [])
        with pytest.raises(Conflict):
            await add_roles(store, "twice", "twice")
        await add_roles(store, "whole")
        return [tuple(row) for row in await store.rows("SELECT name FROM role")]

    assert on_store(sqlite_settings, work) == [("whole",)]


@pytest.mark.parametrize("moment", ["beginning", "under_way"])
def test_a_change_that_is_cancelled_leaves_nothing_and_the_next_one_works(sqlite_settings, moment):
    async def work(store) -> list:
        started = asyncio.Event()

        async def change_for_long() -> None:
            async with store.change("access") as change:
                await change.run("INSERT INTO role (name) VALUES ('cancelled')")
                started.set()
                await asyncio.sleep(30)

        with contextlib.closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other:
            if moment == "beginning":
                other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(change_for_long())
            if moment == "beginning":
                await asyncio.sleep(0.1)  # it waits for the other program's transaction
            else:
                await started.wait()
            task.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.change("access") as change:
            await change.run("INSERT INTO role (name) VALUES ('next')")
        return [tuple(row) for row in await store.rows("SELECT name FROM role")]

    assert on_store(sqlite_settings, work) == [("next",)]


def test_whoever_writes_without_a_pause_keeps_nobody_out(sqlite_settings):
    ended = threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other:
            while not ended.is_set():
                with contextlib.suppress(sqlite3.OperationalError):
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("UPDATE change_mark SET version = version + 1 WHERE topic = 'profile'")
                    other.execute("COMMIT")

    async def work(store) -> int:
        async with asyncio.timeout(20):
            for number in range(50):
                await store.perform(role(f"here {number}"))
                await store.perform(role(f"aside {number}"), length="long")
        return len(await store.rows("SELECT * FROM role"))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert on_store(sqlite_settings, work) == 100
    finally:
        ended.set()
        thread.join()


def test_a_transaction_begins_in_the_same_turn_of_the_loop_as_its_first_statement(sqlite_settings, monkeypatch):
    """Other processes wait for as long as it lasts, and not until a busy loop comes round to it."""
    turns, at = [0], []
    begun = sqlite_writer._begun

    def noted(*given, **more) -> bool:
        at.append(turns[0])
        return begun(*given, **more)

    def work():
        at.append(turns[0])
        yield from role("one")

    async def run(store) -> None:
        def turn() -> None:
            turns[0] += 1
            asyncio.get_running_loop().call_soon(turn)

        turn()
        await asyncio.sleep(0.01)
        await store.perform(work())

    monkeypatch.setattr(sqlite_writer, "_begun", noted)
    on_store(sqlite_settings, run)
    assert len(at) == 2
    assert at[0] == at[1] > 0


@pytest.fixture
def committed(monkeypatch) -> list[str]:
    """Where commits were made."""
    found = []
    here, there = sqlite_writer.Writer._commit_here, sqlite_writer.Writer._commit

    def noted_here(writer) -> None:
        found.append("here")
        here(writer)

    def noted_there(writer, connection) -> None:
        assert threading.current_thread() is not threading.main_thread()
        found.append("there")
        there(writer, connection)

    monkeypatch.setattr(sqlite_writer.Writer, "_commit_here", noted_here)
    monkeypatch.setattr(sqlite_writer.Writer, "_commit", noted_there)
    return found


def test_a_brief_transaction_is_committed_where_it_began(sqlite_settings, committed, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "_QUICK", 10.0)

    async def work(store) -> list[str]:
        for length in ("brief", "usual", "long", "brief"):
            await store.perform(role(f"{length} {len(committed)}"), length=length)
        async with store.change("access"):
            pass
        return [name for (name,) in await store.rows("SELECT name FROM role ORDER BY name")]

    assert on_store(sqlite_settings, work) == ["brief 0", "brief 3", "long 2", "usual 1"]
    assert committed == ["here", "there", "there", "here", "there"]


def test_a_slow_disk_is_waited_for_in_the_thread_and_tried_again_ever_more_rarely(
    sqlite_settings, committed, monkeypatch
):
    monkeypatch.setattr(sqlite_writer, "_QUICK", 1e-9)  # nothing is so quick
    monkeypatch.setattr(sqlite_writer, "_MOST_ELSEWHERE", 4)

    async def work(store) -> None:
        for number in range(12):
            await store.perform(role(f"slow {number}"), length="brief")
        monkeypatch.setattr(sqlite_writer, "_QUICK", 10.0)
        for number in range(8):
            await store.perform(role(f"quick {number}"), length="brief")

    on_store(sqlite_settings, work)
    assert committed == [*(["here", *["there"] * 4] * 2), "here", "there", *["there"] * 3, *["here"] * 5]


def test_the_longer_a_commit_took_the_later_one_is_made_there_again(sqlite_settings, committed, monkeypatch):
    class Slow(sqlite3.Connection):
        def execute(self, sql, *values):
            if sql == "COMMIT":
                time.sleep(seconds[0])
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: connect(*given, factory=Slow, **more))
    monkeypatch.setattr(sqlite_writer, "_QUICK", 0.01)
    seconds = [0.0]

    async def work(store) -> None:
        for number, slow in enumerate((0.0, 0.28, 0.0, 0.0, 0.0, 0.0, 0.0)):
            seconds[0] = slow
            await store.perform(role(str(number)), length="brief")

    on_store(sqlite_settings, work)
    assert committed == ["here", "here", "there", "there", "there", "here", "here"]


@pytest.mark.parametrize("how", ["brief", "usual", "long", "change"])
def test_a_long_log_is_written_into_the_file_in_the_thread(sqlite_settings, monkeypatch, how):
    monkeypatch.setattr(sqlite_writer, "PAGES_AHEAD", 40)
    where = []
    keep = sqlite_writer.Writer._keep_log_short

    def noted(writer, connection) -> None:
        where.append(threading.current_thread() is threading.main_thread())
        keep(writer, connection)

    monkeypatch.setattr(sqlite_writer.Writer, "_keep_log_short", noted)

    async def work(store) -> list[int]:
        ahead = []
        for number in range(60):
            if how == "change":
                await add_roles(store, str(number))
            else:
                await store.perform(role(str(number)), length=how)
            ahead.append(store._writer._log.pages() - store._writer._log.written())
        return ahead

    ahead = on_store(sqlite_settings, work)
    assert 20 < max(ahead) <= 40
    assert ahead.count(0) >= 2
    assert not any(where)


def test_a_log_that_could_be_written_into_the_file_in_part_is_soon_written_as_a_whole(sqlite_settings, monkeypatch):
    """Until then it cannot begin anew: here somebody reads, and in service other processes add to it meanwhile."""
    monkeypatch.setattr(sqlite_writer, "PAGES_AHEAD", 200)

    async def work(store) -> list[int]:
        pages = []
        with contextlib.closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as reader:
            for number in range(300):
                await store.perform(role(str(number)), length="brief")
                pages.append(store._writer._log.pages())
                if 180 < pages[-1] <= 200 and not reader.in_transaction:
                    reader.execute("BEGIN")
                    reader.execute("SELECT * FROM role").fetchall()
                if pages[-1] > 230 and reader.in_transaction:
                    reader.execute("COMMIT")
        return pages

    assert 230 < max(on_store(sqlite_settings, work)) < 260


def test_no_commit_writes_the_log_into_the_file_by_itself(sqlite_settings):
    async def pages(store) -> int:
        return await store._writer.do(lambda writer: writer.execute("PRAGMA wal_autocheckpoint").fetchone()[0])

    assert on_store(sqlite_settings, pages) == 0


@pytest.mark.parametrize("cancels", [1, 2])
def test_a_transaction_that_is_cancelled_while_it_is_committed_does_not_disturb_the_next(sqlite_settings, cancels):
    async def work(store) -> set[str]:
        slow = threading.Event()
        store._writer._orders.put(lambda: slow.wait(5))  # the thread is busy when the commit is ordered
        task = asyncio.create_task(store.perform(role("cancelled")))
        await asyncio.sleep(0.05)
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(0.01)
        following = asyncio.create_task(store.perform(role("next")))
        await asyncio.sleep(0.05)
        slow.set()
        await following
        with pytest.raises(asyncio.CancelledError):
            await task
        return {row[0] for row in await store.rows("SELECT name FROM role")}

    assert "next" in on_store(sqlite_settings, work)


@pytest.mark.parametrize("moment", ["before it begins", "while another process writes"])
def test_a_transaction_in_the_thread_whose_caller_is_gone_never_meets_the_next_one(
    sqlite_settings, moment, monkeypatch
):
    """Nobody waits for it any more, and the thread still uses the connection."""
    # The next one looks while the thread sleeps between two looks of its own.
    monkeypatch.setattr(sqlite_writer, "_SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(sqlite_writer, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(sqlite_writer, "_LOOKS_HERE", 100)

    def many(prefix: str):
        for number in range(400):
            time.sleep(0.0005)  # the threads take turns
            yield "INSERT INTO role (name) VALUES ($1)", (f"{prefix} {number}",)

    async def work(store) -> dict[str, int]:
        blocked = threading.Event()
        with contextlib.closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other:
            if moment == "before it begins":
                store._writer._orders.put(lambda: blocked.wait(5))
            else:
                other.execute("BEGIN IMMEDIATE")
            gone = asyncio.create_task(store.perform(many("gone"), length="long"))
            await asyncio.sleep(0.05)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            following = asyncio.create_task(store.perform(many("next")))
            await asyncio.sleep(0.02)
            blocked.set()
            if other.in_transaction:
                other.execute("COMMIT")
            await following
        names = [row[0].split()[0] for row in await store.rows("SELECT name FROM role")]
        return {prefix: names.count(prefix) for prefix in ("gone", "next")}

    kept = on_store(sqlite_settings, work)
    assert kept["next"] == 400
    assert kept["gone"] in {0, 400}
