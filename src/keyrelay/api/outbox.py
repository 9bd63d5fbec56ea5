"""``/api/v1/outbox``: how the outbox stands, and its brake; ``/api/v1/events``: what becomes of messages, live."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.types import Send

from keyrelay.access.permissions import MODIFY_MESSAGES, READ_MESSAGES
from keyrelay.api.answers import Answer, Events
from keyrelay.api.diagnoses import EVENT_STREAM
from keyrelay.api.messages import answered, read_nothing
from keyrelay.api.operations import Call, Operation, Resource, Services, Style, caller_gone
from keyrelay.api.outbox_desk import OutboxDesk
from keyrelay.api.visits import ENDLESS

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.api.message_documents import Document
    from keyrelay.outbox.events import Listener, Told
    from keyrelay.outbox.overview import Overview

_PATH = "/api/v1/outbox"
_MEGABYTE = 1024 * 1024
_ALIVE_SECONDS = 15.0  # between two signs of life, where nothing happens: proxies cut what is silent
_LONGEST_SECONDS = 900.0  # then the caller comes back, and is asked again who it is
_BEGIN = b"retry: 2000\n\n"
_STILL_HERE = b": still here\n\n"
_LOST = b"event: lost\ndata: {}\n\n"


def resources(style: Style, services: Services, desk: OutboxDesk) -> list[Resource]:
    outbox = OutboxOperations(services, desk)

    def resource(path: str, **operations: Operation) -> Resource:
        return Resource(path, operations, style, services)

    return [
        resource(_PATH, GET=Operation({1: outbox.get}, READ_MESSAGES)),
        resource(f"{_PATH}/pause", POST=Operation({1: outbox.pause}, MODIFY_MESSAGES)),
        resource(f"{_PATH}/resume", POST=Operation({1: outbox.resume}, MODIFY_MESSAGES)),
        resource("/api/v1/events", GET=Operation({1: outbox.events}, READ_MESSAGES)),
    ]


class OutboxOperations:
    """The operations on the outbox as a whole, for one process."""

    def __init__(self, services: Services, desk: OutboxDesk) -> None:
        self._services = services
        self._desk = desk

    async def get(self, call: Call) -> Answer:  # noqa: ARG002 - a handler
        _, document = await standing(self._services, self._desk)
        return answered(document)

    async def pause(self, call: Call) -> Answer:
        await read_nothing(call)
        await self._desk.steering.pause()
        return await self.get(call)

    async def resume(self, call: Call) -> Answer:
        await read_nothing(call)
        await self._desk.steering.resume()
        return await self.get(call)

    async def events(self, call: Call) -> Answer:
        """Begins to listen before it answers: what is read after that is not older than the events."""
        call.request.scope["state"][ENDLESS] = True
        listening = AsyncExitStack()
        mark = call.request.headers.get("last-event-id")
        listener = await listening.enter_async_context(self._desk.feed.listen(mark))
        events = _events(call.request, listener)
        return _Stream(200, headers=(EVENT_STREAM,), events=events, listening=listening)


async def standing(services: Services, desk: OutboxDesk) -> tuple[Overview, Document]:
    """How the outbox stands now, and the same as it is shown. Raises StoreUnavailable."""
    from keyrelay.api.message_documents import overview_document
    from keyrelay.outbox.overview import overview

    found = await overview(desk.office)
    most = services.settings.outbox_megabytes * _MEGABYTE
    return found, overview_document(found, most, (await services.keeper.snapshot()).profile)


class _Stream(Events, frozen=True):
    """Events to somebody who listens until it has been sent, however that ends."""

    listening: AsyncExitStack = msgspec.field(default_factory=AsyncExitStack)

    async def send(self, send: Send) -> None:
        async with self.listening:
            await super().send(send)


async def _events(request: Request, listener: Listener) -> AsyncIterator[bytes]:
    gone = asyncio.create_task(caller_gone(request), name="keyrelay-caller-gone")
    hearing = None
    ends_at = time.monotonic() + _LONGEST_SECONDS
    try:
        yield _BEGIN
        while time.monotonic() < ends_at:
            hearing = asyncio.create_task(listener.next(_ALIVE_SECONDS), name="keyrelay-listener")
            await asyncio.wait({hearing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            yield _written(hearing.result()) or _STILL_HERE
    finally:
        tasks = [task for task in (gone, hearing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _written(told: Sequence[Told]) -> bytes:
    """As server-sent events (the HTML standard, section 9.2)."""
    return b"".join(map(_event, told))


@lru_cache(maxsize=1024)  # each is written to everybody who listens
def _event(told: Told) -> bytes:
    from keyrelay.api.message_documents import instant
    from keyrelay.outbox.events import Lost

    if isinstance(told, Lost):
        return _LOST
    data = json.dumps({"id": told.id, "state": told.state, "at": instant(told.at)})
    return f"id: {told.mark}\nevent: message\ndata: {data}\n\n".encode()
