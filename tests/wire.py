"""HTTP as octets on a socket, for what no client library would do."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2

from live import ADMIN_PASSWORD, Command, LiveServer

AUTHORIZATION = "Authorization: Basic " + base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
JSON = "Content-Type: application/json"


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: keyrelay", *headers, "", ""]).encode()


@contextmanager
def connection(server: LiveServer | Command) -> Iterator[socket.socket]:
    url = httpx2.URL(server.url)
    with closing(socket.create_connection((url.host, url.port), timeout=20)) as opened:
        yield opened


def read_answer(opened: socket.socket) -> httpx2.Response:
    """Read one answer to its last octet, and not beyond."""
    with opened.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = httpx2.Headers()
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        body = stream.read(int(headers["content-length"]))
    assert len(body) == int(headers["content-length"])
    return httpx2.Response(status, headers=headers, content=body)


def read_answers(opened: socket.socket, count: int) -> list[httpx2.Response]:
    """Read so many that come one behind the other, and perhaps beyond."""
    stream = opened.makefile("rb")
    answers = []
    for _ in range(count):
        status = int(stream.readline().split()[1])
        headers = httpx2.Headers([line.decode().strip().split(": ", 1) for line in iter(stream.readline, b"\r\n")])
        answers.append(httpx2.Response(status, headers=headers, content=stream.read(int(headers["content-length"]))))
    return answers
