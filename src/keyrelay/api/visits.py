"""Each request from its beginning to its end: its id, its line in the log, its figures and its span.

Nothing that a caller has sent is told: the route stands for the path, and of headers, query and body there is nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from keyrelay import log, request_id, traces
from keyrelay.api.callers import Callers
from keyrelay.api.figures import Figures

ENDLESS = "endless"  # in the state of a request whose answer would keep a server from stopping
OTHER = "other"
_VISIT = "visit"
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Somebody may be trying what they must not; and what is our fault, or the database's.
_SERIOUS = frozenset({401, 403, 429})

_logger = logging.getLogger(__name__)


class Visit(msgspec.Struct):
    """One request. ``route`` and ``user`` are known once it was found out what is asked, and by whom."""

    id: str
    address: str
    method: str
    route: str = OTHER
    user: str | None = None
    status: int | None = None

    @property
    def status_class(self) -> str:
        """Such as 4xx; ``gone`` when the caller went away before there was an answer."""
        return "gone" if self.status is None else f"{self.status // 100}xx"


def visit_of(scope: Scope) -> Visit:
    """The visit that a request is."""
    visit: Visit = scope["state"][_VISIT]
    return visit


class Visits:
    """Receives the requests of one process, and hands them to ``handle``."""

    def __init__(self, callers: Callers, figures: Figures, handle: Callable[..., Awaitable[None]]) -> None:
        self._callers = callers
        self._figures = figures
        self._handle = handle

    async def receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope.setdefault("state", {})
        visit = state[_VISIT] = self.begin(scope)
        request_id.enter(visit.id)
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
            await send(message)

        parent = _parent(scope) if traces.recorded() else None
        with traces.span(visit.method, "server", parent=parent) as span:
            try:
                await self._handle(scope, receive, noting)
            finally:
                self.end(visit, time.perf_counter() - began, endless=ENDLESS in state)
                _tell(visit, span)

    def begin(self, scope: Scope) -> Visit:
        """A request begins."""
        peer = scope["client"][0] if scope["client"] else None
        number = self._callers.request_id(peer, scope["headers"])
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        return Visit(number, self._callers.address(peer, scope["headers"]), method)

    def end(self, visit: Visit, seconds: float, *, endless: bool = False) -> None:
        """It was answered, or its caller has gone away."""
        self._figures.requests[visit.route, visit.method, visit.status_class] += 1
        if not endless:
            self._figures.seconds[visit.route].observe(seconds)
        _log(visit, seconds)


def _log(visit: Visit, seconds: float) -> None:
    level = _level(visit)
    facts = {
        "method": visit.method,
        "route": visit.route,
        "status": visit.status,
        "milliseconds": round(seconds * 1000, 1),
        "user": visit.user,
        "address": visit.address,
    }
    log.line(_logger, level, "request", facts)


def _level(visit: Visit) -> int:
    status = visit.status or 0
    if status in _SERIOUS or status >= 500:  # noqa: PLR2004 - RFC 9110 section 15.6
        return logging.WARNING
    refused = status >= 400  # noqa: PLR2004 - RFC 9110 section 15.5
    return logging.INFO if refused or visit.method not in _READS else logging.DEBUG


def _tell(visit: Visit, span: traces.Span) -> None:
    if not traces.recorded():
        return
    span.rename(f"{visit.method} {visit.route}")
    span.note(
        {
            "http.request.method": visit.method,
            "http.route": visit.route,
            "http.response.status_code": visit.status or 0,
            "keyrelay.request_id": visit.id,
        }
    )
    if (visit.status or 0) >= 500:  # noqa: PLR2004 - RFC 9110 section 15.6
        span.failed()


def _parent(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == b"traceparent"]
    return given[0].decode("latin-1") if len(given) == 1 else None
