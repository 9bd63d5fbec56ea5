"""The bound on connections: those that are open go on, a probe gets through, and everybody else hears why not."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx2
import pytest

from complaints import complaint
from keyrelay import listening
from keyrelay.api import doors, protocol
from live import ANONYMOUS, SMTP
from wire import AUTHORIZATION, connection, head, read_answer

MOST = 5
GET = head("GET", SMTP, AUTHORIZATION)
PROBE = head("GET", "/livez")


@pytest.fixture
def full(sqlite_settings, start):
    """A server with as many connections as it may have, and those."""
    server = start(replace(sqlite_settings, connections=MOST))
    server.put_v2(ANONYMOUS).raise_for_status()
    server.client.close()
    with ExitStack() as opened:
        held = []
        while len(held) < MOST:
            one = opened.enter_context(connection(server))
            one.sendall(PROBE)
            if read_answer(one).headers.get("connection") != "close":  # that of the client may not have ended yet
                held.append(one)
        yield server, held
        for one in held:
            one.close()
        server.client = httpx2.Client(base_url=server.url)


def asked(server, octets):
    with connection(server) as opened:
        opened.sendall(octets)
        answer = read_answer(opened)
        opened.settimeout(5)
        assert opened.recv(1) == b""
        return answer


def test_one_too_many_is_answered_503_with_a_time_to_come_back_and_closed(full):
    server, _ = full
    for octets in (GET, head("PUT", SMTP, "Content-Length: 5") + b"{", head("GET", "/readyz"), head("GET", "/livez/x")):
        answer = asked(server, octets)
        assert str(MOST) in complaint(answer, 503)
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("2", "close")


def test_one_that_says_nothing_is_answered_503_without_a_request(full, monkeypatch):
    server, _ = full
    began = time.monotonic()
    complaint(asked(server, b""), 503)
    complaint(asked(server, b"GET /li"), 503)
    assert 1 < time.monotonic() - began < 20


def test_those_that_are_open_go_on(full):
    server, held = full
    for _ in range(3):
        assert asked(server, GET).status_code == 503
        for one in held:
            one.sendall(GET)
            assert read_answer(one).status_code == 200


def test_a_probe_gets_through_and_is_closed(full):
    server, _ = full
    for _ in range(20):
        answer = asked(server, PROBE)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_a_probe_gets_through_a_crowd_that_waits(full):
    server, _ = full
    with ExitStack() as opened:
        crowd = [opened.enter_context(connection(server)) for _ in range(doors._CROWD * 3)]
        for one in crowd:
            one.sendall(b"GET /livez HTTP/1.1\r\nX-Wait: ")
        assert asked(server, PROBE).status_code == 200
        for one in crowd:
            complaint(read_answer(one), 503)


def test_who_asks_twice_in_one_go_is_refused_once(full):
    server, _ = full
    assert asked(server, GET * 50).status_code == 503


def test_when_one_ends_another_may_come(full):
    server, held = full
    held.pop().close()
    deadline = time.monotonic() + 5
    while (answer := asked_and_left(server)).status_code == 503:
        assert time.monotonic() < deadline
    assert answer.status_code == 200


def asked_and_left(server):
    with connection(server) as opened:
        opened.sendall(GET)
        return read_answer(opened)


def test_what_is_open_and_what_was_refused_is_counted(full):
    server, held = full
    assert [asked(server, GET).status_code for _ in range(3)] == [503] * 3
    held[0].sendall(head("GET", "/metrics", AUTHORIZATION))
    told = read_answer(held[0]).text
    assert f"keyrelay_http_connections {MOST}\n" in told
    assert f"keyrelay_http_connections_limit {MOST}\n" in told
    (refused,) = [line for line in told.splitlines() if 'route="unread"' in line]
    assert int(refused.rpartition(" ")[2]) >= 3


def test_connections_that_end_in_any_way_are_no_longer_counted(sqlite_settings, start):
    server = start(replace(sqlite_settings, connections=MOST))
    for octets in (b"", b"GET", b"\0\r\n\r\n", PROBE, GET, b"x" * 100_000) * 4:
        with connection(server) as opened:
            opened.sendall(octets)
    assert server.node is not None
    deadline = time.monotonic() + 5
    while server.get("/livez").headers.get("connection") == "close":
        assert time.monotonic() < deadline
    assert doors_of(server).open <= 2


def doors_of(server):
    (any_connection,) = list(server._server.server_state.connections)[:1]
    return any_connection._doors


# --- Connections that nobody uses ----------------------------------------------------------------------------


@pytest.fixture
def hurried(sqlite_settings, start, monkeypatch):
    """A server that gives up after a quarter of a second where it gives up after ten."""
    monkeypatch.setattr(protocol, "_HEAD_SECONDS", 0.25)
    return start(sqlite_settings)


@pytest.mark.parametrize(
    ("request_head", "trickle"),
    [
        (head("GET", "/livez"), b"\r\n"),
        (head("GET", "/livez", "Content-Length: 1000000"), b"x"),
        (head("GET", SMTP, AUTHORIZATION, "Content-Length: 1000000"), b"x"),
        (head("GET", "/livez", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    ],
    ids=["an empty line", "a body", "a body of a quick read", "a chunked body"],
)
def test_bytes_that_belong_to_nothing_do_not_hold_a_connection(hurried, request_head, trickle):
    with connection(hurried) as opened:
        opened.sendall(request_head)
        assert read_answer(opened).status_code == 200
        began = time.monotonic()
        opened.settimeout(0.1)
        while time.monotonic() - began < 15:
            try:
                opened.sendall(trickle)
                if opened.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("path", ["/docs/keyrelay.json", "/docs"])
def test_who_never_reads_does_not_hold_a_connection(hurried, path):
    with connection(hurried) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.sendall(head("GET", path) * 200)
        deadline = time.monotonic() + 30
        while connections(hurried):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_who_reads_slowly_gets_all_of_it(sqlite_settings, start, monkeypatch):
    monkeypatch.setattr(protocol, "_HEAD_SECONDS", 1.0)
    with connection(start(sqlite_settings)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.sendall(head("GET", "/docs/keyrelay.json", "Connection: close"))
        size = 0
        while piece := opened.recv(16_384):
            size += len(piece)
            time.sleep(0.1)
        assert size > 100_000


def connections(server):
    return len(server._server.server_state.connections)


def test_a_tls_handshake_that_is_never_finished_ends_the_connection(sqlite_settings, start, monkeypatch):
    monkeypatch.setattr(listening, "_HANDSHAKE_SECONDS", 0.3)
    server = start(replace(sqlite_settings, self_signed=True))
    for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with connection(server) as opened:
            opened.sendall(begun)
            began = time.monotonic()
            assert opened.recv(1000) == b""
            assert time.monotonic() - began < 5


def test_a_process_asks_for_as_many_files_as_it_may_have_connections():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        listening.make_room(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024
        listening.make_room(1000)
        wanted = 1000 + listening._OTHER_FILES
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (wanted if before[1] < 0 else min(wanted, before[1]))
        listening.make_room(10**12)  # more than there can be: as many as there can
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
