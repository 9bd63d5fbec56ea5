"""POST /api/v1/messages without a task: what programs do all day.

Only what is plain is taken in so: a message that came with the head of its request, from somebody whose credentials
were checked before, with nothing that has to be waited for or refused. Everything else takes the long road, which gives
the same answer; until it is known that it need not, nothing has happened.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from keyrelay import request_id, traces
from keyrelay.access.permissions import SUBMIT
from keyrelay.api import short_way
from keyrelay.api.answers import Answer
from keyrelay.api.operations import Resource, blamed
from keyrelay.api.submitting import Submitting
from keyrelay.api.visits import Visit, Visits

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.api.entrance import Taken

_RFC822 = b"message/rfc822"
# What asks for more than a plain answer.
_MORE = frozenset({b"idempotency-key", b"content-encoding", b"origin", b"expect"})


class QuickSubmissions:
    """Takes them in for one process, once there was a first message."""

    def __init__(self, messages: Resource, submitting: Submitting, visits: Visits) -> None:
        self._messages = messages
        self._services = messages.services
        self._submitting = submitting
        self._visits = visits
        self._headers = messages.style.headers(messages.operations["POST"], 1, messages.path)

    def expect(self, cycle: RequestResponseCycle) -> bool:
        """Whether a request may be one, by its head."""
        return (
            cycle.scope["path"] == self._messages.path
            and cycle.scope["method"] == "POST"
            and self._submitting.has_begun
            and not traces.recorded()
        )

    def take(self, cycle: RequestResponseCycle) -> bool:
        """Take in the message of a request that is whole. False when it has to take the long road."""
        try:
            return self._take(cycle)
        except Exception:  # noqa: BLE001 - the long road comes to it as well, and answers it
            return False

    def _take(self, cycle: RequestResponseCycle) -> bool:
        scope: Scope = cycle.scope  # type: ignore[assignment]  # it is what it is handed on as
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization")
        if authorization is None or headers.get(b"content-type") != _RFC822 or len(headers) != len(scope["headers"]):
            return False
        if not _MORE.isdisjoint(headers) or cycle.flow.write_paused:
            return False
        self._services.store.look()
        identity = self._services.sign_in.remembered(authorization)
        if identity is None or not identity.may(SUBMIT):
            return False
        began = time.perf_counter()
        visit = self._visits.begin(scope)
        query = scope["query_string"].decode("latin-1")
        taken = self._submitting.entrance.take_in_now(identity, visit.address, query, bytes(cycle.body))
        if taken is None:
            return False
        cycle.body = bytearray()  # a connection may stay open for long
        visit.route, visit.user = self._messages.path, identity.name
        self._services.figures.sign_ins["accepted"] += 1
        taken.receipt.add_done_callback(partial(self._answer, cycle, taken, visit, began), context=Context())
        return True

    def _answer(
        self, cycle: RequestResponseCycle, taken: Taken, visit: Visit, began: float, _: asyncio.Future[object]
    ) -> None:
        request_id.enter(visit.id)
        try:
            answer = taken.answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets one clear answer
            answer = self._messages.explain(error)
        visit.status = answer.status
        try:
            self._send(cycle, answer.with_headers(*self._headers))
        except Exception as error:  # noqa: BLE001 - the event loop would print what callers have sent
            blamed(error)
            cycle.transport.close()
        finally:
            cycle.on_response = lambda: None  # it would keep the connection, which keeps it
            self._visits.end(visit, time.perf_counter() - began)

    def _send(self, cycle: RequestResponseCycle, answer: Answer) -> None:
        # Of a connection that is closed, uvicorn tells the newest request alone.
        if not cycle.disconnected and not cycle.transport.is_closing():
            short_way.write(cycle, answer.status, answer.whole_head, answer.body)
