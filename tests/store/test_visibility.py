"""A change is seen at once on its node and on every process of the same SQLite file, within a second elsewhere."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time

import asyncpg
import httpx2
import pytest

from keyrelay.store import postgresql
from live import ADMIN_PASSWORD, ANONYMOUS, BASIC, SMTP, V1, V2, Command, LiveServer, run_keyrelay

_ADMIN = ("admin", ADMIN_PASSWORD)
_ELSEWHERE_SECONDS = 1.0


@pytest.fixture
def command(request, sqlite_settings):
    """Start real servers on one SQLite file."""
    environment = {"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}
    with contextlib.ExitStack() as running:

        def start(*options: str) -> Command:
            command = Command.serve(environment, *options)
            running.callback(command.stop)
            command.wait_until_alive()
            return command

        start.environment = environment
        yield start


def revision_of(answer: httpx2.Response) -> int:
    return int(answer.raise_for_status().headers["etag"].strip('"').partition("-")[0])


def test_no_read_that_begins_after_an_answered_put_shows_an_older_profile(server):
    answered = [server.put_v2(BASIC).headers["etag"]]
    reads: list[int] = []
    too_old: list[str] = []
    done = threading.Event()

    def read(headers):
        with httpx2.Client(base_url=server.url, auth=_ADMIN, headers=headers, timeout=30) as client:
            while not done.is_set():
                floor = int(answered[-1].strip('"').partition("-")[0])
                answer = client.get(SMTP)
                shown = answer.json()
                reads.append(1)
                if revision_of(answer) < floor or (floor > 1 and shown["SenderName"] != f"PKI {revision_of(answer)}"):
                    too_old.append(f"{answer.headers['etag']} {shown['SenderName']} after {floor}")

    threads = [threading.Thread(target=read, args=(headers,)) for headers in (V1, V2, V1, V2)]
    for thread in threads:
        thread.start()
    for number in range(2, 80):
        answer = server.put_v2(BASIC | {"SenderName": f"PKI {number}"})
        assert revision_of(answer) == number
        answered.append(answer.headers["etag"])
    done.set()
    for thread in threads:
        thread.join(30)
    assert too_old == []
    assert len(reads) > 50


def test_two_processes_on_one_sqlite_file_see_each_others_changes_at_once(command):
    servers = command(), command()
    clients = [httpx2.Client(base_url=server.url, auth=_ADMIN, timeout=30) for server in servers]
    for number in range(60):
        here, there = clients if number % 2 else reversed(clients)
        put = here.put(SMTP, json=BASIC | {"SenderName": f"PKI {number}"}, headers=V2)
        headers = V1 if number % 3 else V2
        got = there.get(SMTP, headers=headers)
        assert (revision_of(got), got.json()["SenderName"]) == (revision_of(put), f"PKI {number}")
    for client in clients:
        client.close()


def test_a_change_on_the_command_line_is_seen_at_once_by_servers_on_the_same_file(command):
    servers = command(), command()
    for server in servers:
        httpx2.put(server.url + SMTP, json=ANONYMOUS, headers=V2, auth=_ADMIN, timeout=30).raise_for_status()
    patch = json.dumps({"sender_name": "From a terminal"})
    assert run_keyrelay(command.environment, "smtp", "set", "-", given=patch).returncode == 0
    for server in servers:
        got = httpx2.get(server.url + SMTP, headers=V2, auth=_ADMIN, timeout=30)
        assert (revision_of(got), got.json()["SenderName"]) == (3, "From a terminal")


def test_the_command_line_sees_at_once_what_a_server_answered(command):
    server = command()
    put = httpx2.put(server.url + SMTP, json=ANONYMOUS, headers=V2, auth=_ADMIN, timeout=30)
    assert put.status_code == 200
    done = run_keyrelay(command.environment, "smtp", "get", "--json")
    assert json.loads(done.stdout)["host"] == ANONYMOUS["Host"]


def test_every_worker_of_a_server_sees_a_put_at_once(command):
    server = command("--workers", "2")
    for number in range(12):
        put = httpx2.put(
            server.url + SMTP, json=ANONYMOUS | {"SenderName": f"PKI {number}"}, headers=V2, auth=_ADMIN, timeout=30
        )
        for _ in range(6):  # each on a connection of its own, so that any worker may answer
            got = httpx2.get(server.url + SMTP, headers=V2, auth=_ADMIN, timeout=30)
            assert (revision_of(got), got.json()["SenderName"]) == (revision_of(put), f"PKI {number}")


@pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
class TestTwoNodesOnPostgresql:
    def test_a_put_is_seen_on_the_other_node_within_a_second(self, fresh_settings, start):
        nodes = [start(fresh_settings), start(fresh_settings)]
        waits = []
        for number in range(10):
            here, there = nodes if number % 2 else reversed(nodes)
            revision = revision_of(here.put_v2(BASIC | {"SenderName": f"PKI {number}"}))
            waits.append(seconds_until_shown(there, revision))
        assert max(waits) < _ELSEWHERE_SECONDS, waits

    def test_a_put_is_seen_within_a_second_when_notifications_are_lost(self, fresh_settings, start, monkeypatch):
        here = start(fresh_settings)
        monkeypatch.setattr(postgresql, "_CHANNEL", "somewhere_else")
        there = start(fresh_settings)
        time.sleep(0.1)  # until it listens where nobody speaks
        monkeypatch.undo()
        waits = []
        for number in range(4):
            revision = revision_of(here.put_v2(BASIC | {"SenderName": f"PKI {number}"}))
            waits.append(seconds_until_shown(there, revision))
            time.sleep(random.uniform(0, 0.4))
        assert max(waits) < _ELSEWHERE_SECONDS, waits

    def test_a_put_is_seen_within_a_second_when_the_listening_connection_is_cut(self, fresh_settings, start):
        here, there = start(fresh_settings), start(fresh_settings)
        here.put_v2(BASIC)
        waits = []
        for number in range(5):
            time.sleep(random.uniform(0.05, 0.5))
            cut_connections(there)
            revision = revision_of(put_until_answered(here, BASIC | {"SenderName": f"PKI {number}"}))
            waits.append(seconds_until_shown(there, revision))
            seconds_until_shown(here, revision)
        assert max(waits) < _ELSEWHERE_SECONDS, waits


def seconds_until_shown(server: LiveServer, revision: int) -> float:
    """Whoever asks later sees it. When a request began counts, and not how long its answer took."""
    began = time.monotonic()
    while True:
        seconds = time.monotonic() - began
        answer = server.get(SMTP, headers=V2)
        if answer.status_code == 200 and revision_of(answer) >= revision:
            return seconds
        assert seconds < 10, "the change does not arrive"
        time.sleep(0.005)


def put_until_answered(server: LiveServer, body: dict) -> httpx2.Response:
    """A connection that was cut may cost one 503, never more than a moment of them."""
    for _ in range(20):
        answer = server.put_v2(body)
        if answer.status_code == 200:
            return answer
        assert answer.status_code == 503, answer.text
        time.sleep(0.01)
    raise AssertionError("the node does not go on")


def cut_connections(server: LiveServer) -> None:
    """End every connection to the server's database, the listening one of each node included."""

    async def cut(node) -> None:
        connection = await asyncpg.connect(node.settings.database_url)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.close()

    server.run(cut)
