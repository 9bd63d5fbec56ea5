"""Requests that are begun and never finished: nobody who has not signed in may hold a connection or memory by them."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing

import httpx2
import pytest

from keyrelay.api import conventions, protocol
from live import ANONYMOUS, SMTP, V2, LiveServer
from wire import AUTHORIZATION


@pytest.fixture
def hurried_server(sqlite_settings, start, monkeypatch) -> LiveServer:
    """A server that gives up after half a second where it gives up after many."""
    monkeypatch.setattr(protocol, "_HEAD_SECONDS", 0.25)
    monkeypatch.setattr(conventions, "_BODY_SECONDS", 0.5)
    return start(sqlite_settings)


def dial(server: LiveServer) -> socket.socket:
    url = httpx2.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=10)


@pytest.mark.parametrize("begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"PUT / HTTP/1.1\r\nX-Long: aaaa"])
def test_a_head_that_is_never_finished_ends_the_connection(hurried_server, begun):
    with closing(dial(hurried_server)) as opened:
        opened.sendall(begun)
        assert opened.recv(1000) == b""


def test_a_head_that_comes_in_pieces_is_waited_for(hurried_server):
    with closing(dial(hurried_server)) as opened:
        for piece in (b"GET /livez HT", b"TP/1.1\r\nHos", b"t: x\r\n\r\n"):
            opened.sendall(piece)
            time.sleep(0.05)
        assert opened.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_connection_that_is_used_again_and_again_stays_open(hurried_server):
    with closing(dial(hurried_server)) as opened:
        for _ in range(8):
            opened.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert opened.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.1)


def test_a_connection_on_which_nothing_comes_any_more_is_closed(hurried_server):
    with closing(dial(hurried_server)) as opened:
        opened.sendall(f"GET {SMTP} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert opened.recv(10_000).startswith(b"HTTP/1.1 ")
        began = time.monotonic()
        assert opened.recv(1000) == b""
        assert 0.2 < time.monotonic() - began < 5


def test_whoever_waits_for_an_answer_is_answered_also_when_the_next_request_has_begun(hurried_server, sqlite_settings):
    with (
        closing(dial(hurried_server)) as opened,
        closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")  # the answer waits for it
        body = json.dumps(ANONYMOUS)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **V2}
        named = "\r\n".join(f"{name}: {value}" for name, value in fields.items())
        whole = f"PUT {SMTP} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\n{named}\r\n\r\n{body}"
        opened.sendall(f"{whole}GET /livez HTTP/1.1\r\nHo".encode())
        time.sleep(1.2)
        other.execute("COMMIT")
        assert opened.recv(10_000).startswith(b"HTTP/1.1 200")
        assert opened.recv(1000) == b"", "and then the next one is waited for no longer"


def test_a_body_that_never_comes_is_answered_408(hurried_server):
    def dribble():
        yield b'{"Host":'
        time.sleep(2)
        yield b"}"

    answer = hurried_server.put(SMTP, content=dribble(), headers={"content-type": "application/json"})
    assert answer.status_code == 408
    assert list(answer.json()) == ["ErrorCode", "Message"]


@pytest.mark.parametrize("trailer", [b"a: b\r\n" * 1000, b"x" * 6000])
def test_trailers_without_end_end_the_connection(module_server, trailer):
    with closing(dial(module_server)) as opened:
        opened.sendall(b"PUT /KeyfactorAPI/SMTP HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        assert sent_until_cut_off(opened, trailer) < 20_000_000  # what the sockets' buffers take


def sent_until_cut_off(opened: socket.socket, piece: bytes) -> int:
    sent = 0
    while sent < 50_000_000:
        try:
            opened.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            break
        sent += len(piece)
    return sent
