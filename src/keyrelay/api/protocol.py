"""HTTP/1.1 as uvicorn speaks it, with bounds before anybody has signed in, and our own words for what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from keyrelay.api import short_way
from keyrelay.api.answers import Answer
from keyrelay.api.problems import keyfactor_answer
from keyrelay.errors import HeadTooLarge, KeyrelayError, NotHttp

_HELD_BYTES = 64 * 1024
_HEAD_SECONDS = 10.0
_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """Keeps 64 KiB of an unfinished head (or of trailers), and waits ten to twenty seconds for it to be finished.

    What the application can answer ``at_once`` is sent without a task.
    """

    _held = 0
    _moved = False
    _unfinished: object = None
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._read = getattr(self.app, "at_once", _nothing)
        self._clock = self.loop.call_later(_HEAD_SECONDS, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        self._held = 0 if self._moved else self._held + len(data)
        if self._held > _HELD_BYTES and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"The head of the request has more than {_HELD_BYTES} bytes."))

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        super().on_message_complete()

    def shutdown(self) -> None:
        super().shutdown()
        # Nobody waits for the end of an answer that has none, such as a stream of events.
        if self._answering() and self.scope["state"].get("endless"):
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if (whole := self._at_once(cycle)) is None:
            self._unset_keepalive_if_required()  # armed when an answer before it was sent at once
            short_way.lay(cycle)
            super()._start_asgi_task(cycle, app)
            return
        date = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
        self.transport.write(b"HTTP/1.1 200 OK\r\n%s%s" % (date, whole))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response()

    def _at_once(self, cycle: RequestResponseCycle) -> bytes | None:
        # Not what has waited for an answer before it: a thousand of those would call each other.
        if cycle is not self.cycle or not cycle.keep_alive or self.flow.write_paused or self.transport.is_closing():
            return None
        answer: bytes | None = self._read(cycle.scope)
        return answer

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(NotHttp("What was sent is no HTTP/1.1."))

    def _tick(self) -> None:
        # One timer for a connection and none for a request: what is unfinished at two ticks is given up.
        unfinished = None if self._has_request() else self._begun() or self
        if unfinished is not None and unfinished is self._unfinished:
            self.transport.close()
            return
        self._unfinished = unfinished
        self._clock = self.loop.call_later(_HEAD_SECONDS, self._tick)

    def _begun(self) -> Any:
        return self.scope  # None before the first byte, whatever uvicorn's types say

    def _has_request(self) -> bool:
        # uvicorn adds the method when the head is complete.
        return "method" in (self._begun() or ())

    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def _refuse(self, error: KeyrelayError) -> None:
        if not self._answering():
            self.transport.write(_bytes(keyfactor_answer(error, str).with_headers((b"connection", b"close"))))
        self.transport.close()


def _nothing(scope: Any) -> None:
    """For an application that answers nothing at once."""


def _bytes(answer: Answer) -> bytes:
    return b"HTTP/1.1 %d %s\r\n%s" % (answer.status, _REASONS[answer.status], answer.encoded)
