"""The read that is answered without a task, on real connections: nothing of HTTP is lost on the quick road."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from starlette.types import Scope

from complaints import OWN
from keyrelay.api import protocol
from keyrelay.api.quick_reads import QuickReads
from keyrelay.server import Served
from live import ANONYMOUS, BASIC, SMTP, LiveServer
from wire import AUTHORIZATION, JSON, connection, head, read_answer, read_answers

V2 = "x-keyfactor-api-version: 2"
_IDLE_SECONDS = 5  # after which uvicorn closes
GET = head("GET", SMTP, AUTHORIZATION, V2)


@pytest.fixture
def quick(sqlite_server: LiveServer, monkeypatch) -> list[object]:
    """What was answered at once, in order; None for what had to take the long road."""
    answers: list[object] = []
    answer = QuickReads.answer

    def noted(reads: QuickReads, scope: Scope) -> object:
        answers.append(answer(reads, scope))
        return answers[-1]

    assert sqlite_server.put_v2(BASIC).status_code == 200
    sqlite_server.get_v2()
    monkeypatch.setattr(QuickReads, "answer", noted)
    return answers


def at_end(opened: socket.socket) -> bool:
    opened.settimeout(5)
    return opened.recv(1) == b""


def test_a_plain_read_is_answered_at_once(sqlite_server, quick):
    with connection(sqlite_server) as opened:
        for _ in range(3):
            opened.sendall(GET)
            answer = read_answer(opened)
            assert (answer.status_code, answer.json()["Host"]) == (200, BASIC["Host"])
            assert "date" in answer.headers
    assert [type(whole) for whole in quick] == [bytes] * 3


def test_a_read_that_arrives_in_pieces_is_answered_at_once(sqlite_server, quick):
    with connection(sqlite_server) as opened:
        for octet in (GET[:9], GET[9:40], GET[40:]):
            opened.sendall(octet)
            time.sleep(0.02)
        assert read_answer(opened).status_code == 200
    assert [type(whole) for whole in quick] == [bytes]


def test_a_thousand_reads_in_one_go_are_answered_in_order(sqlite_server, quick):
    one = head("GET", SMTP, AUTHORIZATION, "x-keyfactor-api-version: 1")
    with connection(sqlite_server) as opened:
        opened.sendall((GET + one) * 500)
        answers = read_answers(opened, 1000)
    assert ["Deprecation" in answer.headers for answer in answers] == [False, True] * 500
    assert len(quick) == 1000


def test_reads_behind_a_slow_request_wait_for_its_answer(sqlite_server, quick):
    body = b'{"Host": "late.example", "Port": 25, "SenderAccount": "pki@example.org", "SenderName": "PKI",'
    body += b' "RelayAuthenticationType": 0}'
    put = head("PUT", SMTP, AUTHORIZATION, V2, JSON, f"Content-Length: {len(body)}") + body
    with connection(sqlite_server) as opened:
        opened.sendall(put + GET * 500)
        answers = read_answers(opened, 501)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["Host"] for answer in answers} == {"late.example"}


def test_a_slow_request_behind_a_read_may_take_longer_than_a_connection_may_be_idle(sqlite_server, quick, monkeypatch):
    serve = Served.__call__

    async def slowly(served: Served, *asgi: Any) -> None:
        await asyncio.sleep(_IDLE_SECONDS + 1)
        await serve(served, *asgi)

    monkeypatch.setattr(Served, "__call__", slowly)
    with connection(sqlite_server) as opened:
        opened.sendall(GET + head("GET", OWN, AUTHORIZATION))
        assert [answer.status_code for answer in read_answers(opened, 2)] == [200, 200]


@pytest.mark.parametrize(
    "request_head",
    [
        head("GET", SMTP, AUTHORIZATION, V2, "Connection: close"),
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["Connection: close", "HTTP/1.0"],
)
def test_who_wants_the_connection_closed_gets_the_answer_and_the_end(sqlite_server, quick, request_head):
    with connection(sqlite_server) as opened:
        opened.sendall(request_head)
        answer = read_answer(opened)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert at_end(opened)


def test_a_body_on_a_read_is_passed_over(sqlite_server, quick):
    with connection(sqlite_server) as opened:
        for framing, body in (
            ("Content-Length: 4", b"null"),
            ("Transfer-Encoding: chunked", b"4\r\nnull\r\n0\r\n\r\n"),
        ):
            opened.sendall(head("GET", SMTP, AUTHORIZATION, V2, framing) + body + GET)
            assert [answer.status_code for answer in read_answers(opened, 2)] == [200, 200]


def test_an_idle_connection_is_closed_after_a_quick_answer_too(sqlite_server, quick, monkeypatch):
    monkeypatch.setattr(protocol, "_HEAD_SECONDS", 0.25)
    with connection(sqlite_server) as opened:
        opened.sendall(GET)
        read_answer(opened)
        began = time.monotonic()
        assert opened.recv(1) == b""
        assert 0.2 < time.monotonic() - began < 5


def send_forever(opened: socket.socket, piece: bytes) -> None:
    """For as long as any of it is taken; no more than 40 MB."""
    for _ in range(2500):
        opened.sendall(piece)


def test_one_that_asks_and_never_reads_does_not_fill_the_memory(sqlite_server, quick):
    with connection(sqlite_server) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(3)
        with pytest.raises(TimeoutError):
            send_forever(opened, GET * 100)
    assert sqlite_server.put_v2(ANONYMOUS).status_code == 200


def test_a_quick_answer_ends_with_the_credentials_it_rests_on(sqlite_server, quick):
    with connection(sqlite_server) as opened:
        opened.sendall(GET)
        assert read_answer(opened).status_code == 200
        sqlite_server.add_user("somebody", "a long password")
        opened.sendall(GET)
        assert read_answer(opened).status_code == 200
    assert [type(whole) for whole in quick] == [bytes, type(None)]
