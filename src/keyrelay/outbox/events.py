"""What becomes of messages, told as it happens to all who listen: the changes that the books of all nodes tell of.

Each desk of each node numbers its entries, and commits them in that order. So whoever remembers the last number of each
has missed nothing and hears nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import itemgetter

import msgspec

from keyrelay.errors import KeyrelayError, TooManyListeners
from keyrelay.outbox.model import State
from keyrelay.outbox.records import moment
from keyrelay.store.model import Reader

_logger = logging.getLogger(__name__)

_EVERY_SECONDS = 0.5
_MOST_LISTENERS = 100
_MOST_WAITING = 20_000  # changes for one listener, before it has lost the thread
_REMEMBERED = 20_000  # changes, for listeners that come back
_LINGERS_SECONDS = 60.0  # after the last listener has left
_AT_ONCE = 200  # entries of a desk, each of many changes
_FAR_BEHIND = 5000  # entries: after a long time without the store

_changes = msgspec.json.Decoder(list[tuple[str, State]])


@dataclass(frozen=True, slots=True)
class Change:
    """A submission has gone into a state. ``at`` is wall time; ``mark`` is what to come back with to hear the rest."""

    mark: str
    id: str
    state: State
    at: datetime


@dataclass(frozen=True, slots=True)
class Lost:
    """Changes may have been missed here: what the listener knows of messages is to be read anew."""


Told = Change | Lost


class Listener:
    """One who listens."""

    def __init__(self) -> None:
        self._waiting: deque[Told] = deque()
        self._told = asyncio.Event()

    async def next(self, seconds: float) -> tuple[Told, ...]:
        """What has happened since, as soon as anything has; nothing when so many seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        self._told.clear()
        found = tuple(self._waiting)
        self._waiting.clear()
        return found

    def tell(self, changes: Iterable[Told]) -> None:
        self._waiting.extend(changes)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.clear()
            self._waiting.append(Lost())
        if self._waiting:
            self._told.set()


class Feed:
    """The changes on all nodes, for those who listen on this one. The store is looked at only while somebody does."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._listeners: set[Listener] = set()
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._heard: dict[str, int] = {}  # the last number, by desk
        self._remembered: deque[Change] = deque(maxlen=_REMEMBERED)
        self._name = ""
        self._number = 0

    @asynccontextmanager
    async def listen(self, mark: str | None = None) -> AsyncIterator[Listener]:
        """Hear of all that happens from here on; or from ``mark`` on, the last one that the listener has heard.

        Where that is not known any more, Lost is told first. Raises TooManyListeners or StoreUnavailable.
        """
        if len(self._listeners) >= _MOST_LISTENERS:
            raise TooManyListeners(f"{_MOST_LISTENERS} listen already.", retry_after=10)
        listener = Listener()
        self._listeners.add(listener)
        try:
            await self._begin()
            if mark is not None:
                listener.tell(self._since(mark))
            yield listener
        finally:
            self._listeners.discard(listener)

    def poke(self) -> None:
        """Something was committed here: no need to wait."""
        self._poked.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _begin(self) -> None:
        async with self._starting:
            if self._task is None:
                self._heard = await self._newest()
                self._remembered.clear()
                self._name, self._number = secrets.token_hex(4), 0
                self._task = asyncio.create_task(self._follow(), name="keyrelay-feed", context=Context())

    def _since(self, mark: str) -> Iterator[Told]:
        """What was told after this mark."""
        name, _, digits = mark.partition("-")
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1  # noqa: PLR2004
        oldest = self._number - len(self._remembered)
        if name != self._name or not oldest <= number <= self._number:
            yield Lost()
            return
        yield from islice(self._remembered, number - oldest, None)

    # --- Following the books ---------------------------------------------------------------------------------

    async def _follow(self) -> None:
        left_at = time.monotonic()
        while True:
            self._poked.clear()
            try:
                await self._hear()
            except KeyrelayError:
                pass  # nothing is lost by waiting
            except Exception:
                _logger.exception("the feed of events failed")
            now = time.monotonic()
            left_at = now if self._listeners else left_at
            if now > left_at + _LINGERS_SECONDS:
                self._task = None
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._poked.wait()

    async def _hear(self) -> None:
        newest = await self._newest()
        behind = {desk: heard for desk in newest if (heard := self._heard.get(desk, 0)) < newest[desk]}
        if sum(newest[desk] - heard for desk, heard in behind.items()) > _FAR_BEHIND:
            self._tell_lost()
        else:
            rows = [await self._entries(desk, heard, newest[desk]) for desk, heard in behind.items()]
            # One desk takes a message in that another sends: so by the time, and within a desk in its own order.
            self._tell(merge(*rows, key=itemgetter(0)))
        self._heard |= newest

    async def _entries(self, desk: str, heard: int, newest: int) -> list[tuple[int, str]]:
        entries: list[tuple[int, str]] = []
        while rows := await self._reader.rows(_AFTER, desk, heard, newest):
            entries += [(at, changes) for _, at, changes in rows]
            heard = rows[-1][0]
            await asyncio.sleep(0)  # SQLite answers in this very thread
        return entries

    def _tell(self, entries: Iterable[tuple[int, str]]) -> None:
        told = []
        for at, changes in entries:
            when = moment(at)
            for name, state in _changes.decode(changes):
                self._number += 1
                told.append(Change(f"{self._name}-{self._number}", name, state, when))
        self._remembered.extend(told)
        for listener in self._listeners:
            listener.tell(told)

    def _tell_lost(self) -> None:
        self._number += 1
        self._remembered.clear()
        for listener in self._listeners:
            listener.tell([Lost()])

    async def _newest(self) -> dict[str, int]:
        """The last number of every desk that has written anything."""
        return {desk: serial for desk, serial in await self._reader.rows(_NEWEST) if desk is not None}


_AFTER = (
    "SELECT serial, at, changes FROM outbox_event WHERE node = $1 AND serial > $2 AND serial <= $3"  # noqa: S608 - a constant
    f" ORDER BY serial LIMIT {_AT_ONCE}"
)
# From desk to desk along the index, for there may be many entries of each.
_NEWEST = (
    "WITH RECURSIVE desk (node) AS (SELECT MIN(node) FROM outbox_event UNION ALL"
    " SELECT (SELECT MIN(node) FROM outbox_event WHERE node > desk.node) FROM desk WHERE desk.node IS NOT NULL)"
    " SELECT node, (SELECT MAX(serial) FROM outbox_event WHERE outbox_event.node = desk.node) FROM desk"
    " WHERE node IS NOT NULL"
)
