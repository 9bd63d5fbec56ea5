"""Refused accesses, told in the audit trail within a second, and without letting anybody fill it (decision 0026).

They are noted in memory, which costs the refused request nothing. The first of a kind (user, address, route, verb and
reason) is told at once; those that follow within a minute are counted, and told as one when it is over. What is beyond
the rations is only counted, and told as one number a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Actor, Category, Deed, Kind, Level, Operation
from keyrelay.errors import KeyrelayError
from keyrelay.store.model import Conflict, Store

_logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two transactions
_MINUTE = 60.0
_MOST_KINDS, _MOST_OF_STRANGERS = 1000, 800  # that are remembered
_MOST_AT_ONCE = 100  # entries in one transaction
_CLOSING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused. ``user``: who has signed in, or the name that was tried, or nothing.

    ``roles``: those of the user; None when nobody has signed in. ``reason``: the code of the error.
    """

    user: str
    address: str
    route: str
    verb: str
    reason: str
    roles: tuple[str, ...] | None = None


@dataclass(slots=True)
class _Kind:
    """Refusals of one kind: how many have not been told yet, since and until when, and when they are due."""

    due: float
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, count: int, first: datetime, last: datetime) -> None:
        self.count += count
        self.first, self.last = self.first or first, last


@dataclass(slots=True)
class Ration:
    """How many may be told singly: so many at once, and one more every ``seconds``."""

    burst: int
    seconds: float
    used: float = 0.0
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.used = max(0.0, self.used - (now - self.at) / self.seconds)
        self.at = now
        if self.used + 1 > self.burst:
            return False
        self.used += 1
        return True


class Refusals:
    """Those of one process. ``clock`` gives seconds that never go back."""

    def __init__(self, store: Store, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._kinds: OrderedDict[Refusal, _Kind] = OrderedDict()  # least recently refused first
        self._untold = _Kind(0.0)
        # Strangers can make up names and addresses without end, and must not use up what users have.
        self._strangers, self._users = Ration(200, 10.0), Ration(200, 2.0)
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, refusal: Refusal) -> None:
        """Note a refusal, within the event loop. It never waits, and never fails."""
        now, at = self._clock(), datetime.now(UTC)
        kind = self._kinds.get(refusal)
        if kind is not None:
            self._kinds.move_to_end(refusal)
        elif self._room(now, _MOST_KINDS if refusal.roles is not None else _MOST_OF_STRANGERS):
            kind = self._kinds[refusal] = _Kind(now + _EVERY)
        (kind or self._untold).add(1, at, at)
        if self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._tell(), name="keyrelay-refusals")

    async def close(self) -> None:
        """Tell what is left, and end."""
        self._closing.set()
        if (task := self._task) is not None:
            await asyncio.wait({task}, timeout=_CLOSING_SECONDS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if left := self._left():
            _logger.warning("refused accesses were not recorded", extra={"facts": {"count": left}})

    def _left(self) -> int:
        return self._untold.count + sum(kind.count for kind in self._kinds.values())

    def _room(self, now: float, most: int) -> bool:
        """Whether there is room for another kind; those that were told and whose minute is over make it."""
        while len(self._kinds) >= most:
            refusal, kind = next(iter(self._kinds.items()))
            if kind.count or kind.due > now:
                return False
            del self._kinds[refusal]
        return True

    # --- Telling ---------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Tell what is due, until there is nothing left to tell, or no time."""
        while self._left():
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    await self._closing.wait()
            try:
                while await self._write():
                    pass
            except (KeyrelayError, Conflict) as problem:  # later, then; how many are kept has a bound
                code = getattr(problem, "code", "conflict")
                _logger.warning("refused accesses cannot be recorded now", extra={"facts": {"code": code}})
            except Exception:  # whatever it is, what is refused later must be told
                _logger.exception("refused accesses could not be recorded")
            if self._closing.is_set():
                break
        self._task = None

    async def _write(self) -> bool:
        """One transaction. Gives whether there may be more that is due."""
        now = self._clock()
        due = self._due(now)
        if not due:
            return False
        told = [(kind, kind.count) for _, kind in due]
        deeds = [_deed(refusal, kind) for refusal, kind in due]
        await self._journal.signer(self._store)
        await self._store.perform(self._journal.entries(Actor(""), *deeds))
        for kind, count in told:
            kind.count -= count  # there may be more by now
            kind.first = kind.last if kind.count else None
            kind.due = now + _MINUTE
        return len(due) >= _MOST_AT_ONCE

    def _due(self, now: float) -> Sequence[tuple[Refusal | None, _Kind]]:
        """What is to be told now; beyond the rations it becomes a part of what is only counted."""
        closing = self._closing.is_set()
        found: list[tuple[Refusal | None, _Kind]] = []
        for refusal, kind in self._kinds.items():
            if len(found) == _MOST_AT_ONCE:
                return found
            if not kind.count or not (closing or kind.due <= now):
                continue
            if (self._strangers if refusal.roles is None else self._users).take(now):
                found.append((refusal, kind))
            else:
                assert kind.first is not None and kind.last is not None  # noqa: S101, PT018 - it has a count
                self._untold.add(kind.count, kind.first, kind.last)
                kind.count, kind.first = 0, None
        if self._untold.count and (closing or self._untold.due <= now):
            found.append((None, self._untold))
        return found


def _deed(refusal: Refusal | None, kind: _Kind) -> Deed:
    assert kind.first is not None and kind.last is not None  # noqa: S101, PT018 - there is something to tell
    seen = {"count": kind.count, "first_at": kind.first.isoformat(), "last_at": kind.last.isoformat()}
    category, operation, level = Category.AUTHORIZATION_FAILURE, Operation.DENIED, Level.WARNING
    if refusal is None:
        details = {"reason": "more than are told singly", **seen}
        return Deed(category, operation, Kind.ROUTE, details=details, level=level, by=Actor(""))
    details = {
        "route": refusal.route,
        "kind": "API",
        "verb": refusal.verb,
        "roles": list(refusal.roles or ()),
        "reason": refusal.reason,
        **seen,
    }
    by = Actor(refusal.user, refusal.address)
    return Deed(category, operation, Kind.ROUTE, refusal.route, refusal.route, level, details, by=by)
