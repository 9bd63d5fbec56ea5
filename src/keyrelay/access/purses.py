"""Limits on what comes thousands of times a second: a process draws allowances in advance, and pays from its purses.

A purse holds a share of the limit at most, for seconds, and what is left in it goes back when it is filled again. So
all processes together never let through more than the limit, and what they leave lying about is little. Whoever comes
while purses are being filled waits for the next time, together with all others who do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from keyrelay.access.limits import AHEAD, Meter
from keyrelay.access.rates import Drawn, Rates, Wish
from keyrelay.errors import KeyrelayError

_LIFE = AHEAD / 1_000_000  # seconds
_BELIEVED = 1.0  # seconds for which a refusal is repeated without asking: others may have given something back
_MOST_PURSES = 10_000
_MOST_AT_ONCE = 64  # purses filled in one transaction


@dataclass(slots=True)
class _Purse:
    """What is ``left`` of the ``size`` that was drawn; ``until`` then, or until then a refusal is believed.

    ``part``: where the store has written it. ``free_at``: when one more may pass, if there was none to be had.
    """

    left: int = 0
    size: int = 0
    part: int = 0
    until: float = 0.0
    free_at: float = 0.0

    def has_one(self, now: float) -> bool:
        return self.left > 0 and now < self.until

    def wish(self, meter: Meter, callers: int, now: float) -> Wish:
        """What to ask for: twice as much when it was used up early, and else as much as was used."""
        size = self.size - self.left if now >= self.until else self.size * 2
        return Wish(meter, max(size, callers), self.left, self.part)

    def fill(self, drawn: Drawn, now: float) -> None:
        self.left = self.size = drawn.amount
        self.part = drawn.part
        self.free_at = now + drawn.seconds
        self.until = now + (_LIFE if drawn.amount else min(_BELIEVED, drawn.seconds))


@dataclass(frozen=True, slots=True)
class _Caller:
    meters: Sequence[Meter]
    served: asyncio.Future[None] = field(compare=False)


class Purses:
    """The purses of one process. ``clock`` gives seconds that never go back."""

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates
        self._clock = clock
        self._purses: OrderedDict[tuple[str, str], _Purse] = OrderedDict()
        self._waiting: list[_Caller] = []
        self._task: asyncio.Task[None] | None = None

    async def take(self, *meters: Meter) -> None:
        """One of each, or none of any. Raises what their limits say, or StoreUnavailable."""
        if self._has_paid(meters, self._clock()):
            return
        caller = _Caller(meters, asyncio.get_running_loop().create_future())
        self._waiting.append(caller)
        if self._task is None:
            self._task = asyncio.create_task(self._serve_all(), name="keyrelay-purses")
        await caller.served

    def full(self, *meters: Meter) -> Sequence[_Purse] | None:
        """The purses to ``pay`` from before anything else happens; None unless there is one in each."""
        return self._full(meters, self._clock())

    def pay(self, purses: Sequence[_Purse]) -> None:
        """Take one from each."""
        for purse in purses:
            purse.left -= 1

    async def close(self) -> None:
        """Return when nobody waits any more."""
        if self._task is not None:
            await self._task

    def _full(self, meters: Sequence[Meter], now: float) -> Sequence[_Purse] | None:
        found = []
        for meter in meters:
            purse = self._purses.get(meter.id)
            if purse is None or not purse.has_one(now):
                return None
            found.append(purse)
        return found

    def _has_paid(self, meters: Sequence[Meter], now: float) -> bool:
        """Whether there was one in each purse. Raises what the limit says that is known to be used up."""
        if (purses := self._full(meters, now)) is not None:
            self.pay(purses)
            return True
        for meter in meters:
            purse = self._purses.get(meter.id)
            if purse is not None and not purse.left and now < min(purse.until, purse.free_at):
                raise meter.limit.refusal(purse.free_at - now)
        return False

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                callers, self._waiting = self._waiting, []
                # What is drawn now is paid with now, however long the database takes to say so.
                now = self._clock()
                try:
                    await self._fill(callers, now)
                except Exception as problem:  # noqa: BLE001 - each caller is told
                    for caller in callers:
                        _tell(caller, problem)
                else:
                    self._waiting = [caller for caller in callers if not self._serve(caller, now)] + self._waiting
        finally:
            self._task = None

    def _serve(self, caller: _Caller, now: float) -> bool:
        """Whether this caller need not wait any longer."""
        if caller.served.done():  # gone away
            return True
        try:
            paid = self._has_paid(caller.meters, now)
        except KeyrelayError as refusal:
            _tell(caller, refusal)
            return True
        if paid:
            caller.served.set_result(None)
        return paid

    async def _fill(self, callers: Sequence[_Caller], now: float) -> None:
        """Fill the purses that these callers find empty, at least those of the first."""
        wanted = Counter(meter for caller in callers for meter in caller.meters)
        wishes, purses = [], []
        for meter, number in list(wanted.items()):
            purse = self._purses.setdefault(meter.id, _Purse())
            if now < purse.until and (purse.left or now < purse.free_at):
                continue
            wishes.append(purse.wish(meter, number, now))
            purse.left = 0  # it goes back; if it is not known whether it did, then it is lost
            purses.append(purse)
            self._purses.move_to_end(meter.id)
            if len(wishes) == _MOST_AT_ONCE:
                break
        if wishes:
            for purse, drawn in zip(purses, await self._rates.draw(wishes), strict=True):
                purse.fill(drawn, now)
        while len(self._purses) > _MOST_PURSES:
            self._purses.popitem(last=False)


def _tell(caller: _Caller, problem: Exception) -> None:
    if not caller.served.done():
        caller.served.set_exception(problem)
        caller.served.exception()  # seen, in case that nobody waits any more
