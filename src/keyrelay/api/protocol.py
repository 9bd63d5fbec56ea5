"""HTTP/1.1 as uvicorn speaks it, with bounds before anybody has signed in, and our own words for what is no HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from keyrelay import request_id
from keyrelay.api import short_way
from keyrelay.api.answers import PRIVATE, Answer
from keyrelay.api.doors import PROBE
from keyrelay.api.problems import keyfactor_answer
from keyrelay.api.visits import ENDLESS
from keyrelay.errors import HeadTooLarge, KeyrelayError, NotHttp, TooManyConnections

if TYPE_CHECKING:
    from keyrelay.api.app import Application

_HELD_BYTES = 64 * 1024
_HEAD_SECONDS = 10.0
_CROWD_SECONDS = 1.0
_REASONS = {400: b"Bad Request", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}

_logger = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """Keeps 64 KiB of an unfinished head (or of trailers), and waits ten to twenty seconds for it, or for another one.

    The application's quick reads and submissions are answered without a task. Its doors say how many connections there
    may be.
    """

    _held = 0
    _moved = False
    _unfinished: tuple[object, int] = (None, 0)
    _clock: asyncio.TimerHandle | None = None
    _let_in = False
    _receiving = False
    _held_back: tuple[RequestResponseCycle, ASGI3Application] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        application: Application = self.app.application
        self._reads, self._submissions = application.quick_reads, application.quick_submissions
        self._doors = application.doors
        self._let_in = self._doors.enter(self)
        if self._let_in:
            self._clock = self.loop.call_later(_HEAD_SECONDS, self._tick)
        else:
            self._clock = self.loop.call_later(_CROWD_SECONDS, self.turn_away)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._doors.leave(self, was_let_in=self._let_in)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._moved = False
        self._receiving = True
        super().data_received(data)
        self._receiving = False
        if self._held_back is not None:
            (cycle, app), self._held_back = self._held_back, None
            self._take_the_long_road(cycle, app)
        self._held = 0 if self._moved else self._held + len(data)
        if self._held > _HELD_BYTES:
            self._refuse(HeadTooLarge(f"The head of the request has more than {_HELD_BYTES} bytes."))

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        super().on_message_complete()
        if self._held_back is not None and self._held_back[0] is self.cycle and self._submissions.take(self.cycle):
            self._held_back = None

    def on_response_complete(self) -> None:
        """As uvicorn's, but without a timer for each answer: ``_tick`` sees connections on which nothing comes."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def shutdown(self) -> None:
        super().shutdown()
        # Nobody waits for the end of an answer that has none, such as a stream of events.
        if self._answering() and self.scope["state"].get(ENDLESS):
            self.transport.close()

    def turn_away(self) -> None:
        """There are as many connections as may be, and this one is no probe, or has not said so in time."""
        if not self._has_request():
            self._refuse_crowd()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if not self._let_in:
            if cycle.scope["path"] != PROBE:
                cycle.response_started = cycle.response_complete = True
                self._refuse_crowd()
                return
            cycle.keep_alive = False
        elif (whole := self._at_once(cycle)) is not None:
            self.transport.write(b"HTTP/1.1 200 OK\r\n%s%s" % (_lines(cycle.default_headers), whole))
            cycle.response_started = cycle.response_complete = True
            cycle.on_response()
            return
        if self._receiving and self._submissions.expect(cycle):
            self._held_back = cycle, app  # until it is known whether its body has come with its head
            return
        self._take_the_long_road(cycle, app)

    def _take_the_long_road(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        short_way.lay(cycle)
        super()._start_asgi_task(cycle, app)

    def _at_once(self, cycle: RequestResponseCycle) -> bytes | None:
        # Not what has waited for an answer before it: a thousand of those would call each other.
        if cycle is not self.cycle or not cycle.keep_alive or self.flow.write_paused or self.transport.is_closing():
            return None
        return self._reads.answer(cycle.scope)  # type: ignore[arg-type]  # it is what it is handed on as

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(NotHttp("What was sent is no HTTP/1.1."))

    def _tick(self) -> None:
        # One timer for a connection and none for a request: what is unfinished at two ticks is given up.
        unfinished, left = self._unfinished_now()
        if unfinished is not None and unfinished is self._unfinished[0] and left == self._unfinished[1]:
            # What nobody reads is not waited for, as closing would.
            (self.transport.abort if left else self.transport.close)()
            return
        self._unfinished = unfinished, left
        self._clock = self.loop.call_later(_HEAD_SECONDS, self._tick)

    def _unfinished_now(self) -> tuple[object, int]:
        """What the other side has begun, and how much of our answer it has not taken yet."""
        if unread := self.transport.get_write_buffer_size():
            return self, unread
        if self._is_waited_for():
            return None, 0
        return self._begun() or self, 0

    def _begun(self) -> Any:
        return self.scope  # None before the first byte, whatever uvicorn's types say

    def _has_request(self) -> bool:
        # uvicorn adds the method when the head is complete.
        return "method" in (self._begun() or ())

    def _is_waited_for(self) -> bool:
        """Whether there is a request without its answer, also when the next one has begun."""
        cycle: Any = self.cycle  # None before the first request
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    def _answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def _refuse_crowd(self) -> None:
        self._refuse(TooManyConnections(f"{self._doors.most} connections are open to this process, as many as may be."))

    def _refuse(self, error: KeyrelayError) -> None:
        if self.transport.is_closing():
            return
        if not self._answering():
            with request_id.within(request_id.new()):
                answer = keyfactor_answer(error, str).with_headers(*PRIVATE, (b"connection", b"close"))
                self._doors.refused[answer.status] += 1
                address = self.client[0] if self.client else None
                facts = {"code": error.code, "status": answer.status, "address": address}
                _logger.info("a request was not read", extra={"facts": facts})
            self.transport.write(_bytes(answer, self.server_state.default_headers))
        self.transport.close()


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


def _bytes(answer: Answer, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    head = _lines(default_headers)
    return b"HTTP/1.1 %d %s\r\n%s%s" % (answer.status, _REASONS[answer.status], head, answer.encoded)
