"""The short way of a request and its answer through uvicorn, for a body that has come and an answer that is whole.

uvicorn hands a body on by an event, and writes the head and the body of an answer one after the other. Nearly all that
we do needs neither: a look at the body that is there, and one write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from keyrelay.api.answers import Header
from keyrelay.api.conventions import BODY_THAT_CAME

_WITHOUT_BODY = frozenset({204, 304})


def lay(cycle: RequestResponseCycle) -> None:
    """Lay the short way for a request that begins. What it is not for goes uvicorn's way."""
    cycle.scope[BODY_THAT_CAME] = lambda: _body(cycle)  # type: ignore[literal-required]  # beside what ASGI knows
    cycle.send = _Sender(cycle).send  # type: ignore[method-assign]


def _body(cycle: RequestResponseCycle) -> bytes | None:
    if cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.scope.pop(BODY_THAT_CAME, None)  # type: ignore[misc]  # it would keep what keeps it
    cycle.message_event.clear()  # what comes next is that the caller goes away
    cycle.flow.resume_reading()
    return body


class _Sender:
    """``send`` of one request: keeps the head until it is known what follows."""

    __slots__ = ("_cycle", "_head")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head: Message | None = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        head, self._head = self._head, None
        if head is None or message.get("more_body"):
            if head is not None:
                await RequestResponseCycle.send(self._cycle, head)  # type: ignore[arg-type]  # a message of ASGI
            await RequestResponseCycle.send(self._cycle, message)
            return
        if self._cycle.flow.write_paused and not self._cycle.disconnected:
            await self._cycle.flow.drain()
        if not self._cycle.disconnected:
            write(self._cycle, head["status"], head["headers"], message.get("body", b""))
        del self._cycle.send  # each would keep the other until the collector comes


def write(cycle: RequestResponseCycle, status: int, own_headers: Iterable[Header], body: bytes) -> None:
    """Write an answer that is whole, to a caller who is still there."""
    headers = [*cycle.default_headers, *own_headers]
    if (b"connection", b"close") in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        headers.append((b"connection", b"close"))
    cycle.response_started, cycle.waiting_for_100_continue = True, False
    if cycle.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
        body = b""
    cycle.transport.write(b"%s%s\r\n%s" % (_status_line(status), encoded(headers), body))
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def encoded(headers: Iterable[Header]) -> bytes:
    """Headers as they go over the wire. Raises ValueError for one that would end before its end."""
    lines = [b"%s: %s\r\n" % header for header in headers]
    text = b"".join(lines)
    if not text.count(b"\n") == text.count(b"\r") == len(lines):
        raise ValueError("a header holds a line break")
    return text


@lru_cache(maxsize=100)
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
