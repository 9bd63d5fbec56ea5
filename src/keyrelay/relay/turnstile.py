"""How many tests run at once, and how many one caller may start: a test makes us connect where the caller says."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keyrelay.errors import TooManyTests

_MINUTE = 60.0
_CALLERS = 10_000
_BUSY_SECONDS = 5


class Turnstile:
    """Counts in the memory of this process; ``clock`` gives seconds that never go back."""

    def __init__(self, *, at_once: int, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._per_minute = per_minute
        self._clock = clock
        self._inside = 0
        self._started: OrderedDict[str, deque[float]] = OrderedDict()

    @contextmanager
    def turn(self, caller: str) -> Iterator[None]:
        """One test of this caller. Raises TooManyTests."""
        self._start(caller)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _start(self, caller: str) -> None:
        now = self._clock()
        started = self._started.setdefault(caller, deque())
        self._started.move_to_end(caller)
        while len(self._started) > _CALLERS:
            self._started.popitem(last=False)
        while started and now - started[0] >= _MINUTE:
            started.popleft()
        if len(started) >= self._per_minute:
            seconds = math.ceil(started[0] + _MINUTE - now)
            raise TooManyTests(f"{caller} has started {len(started)} tests in the last minute.", retry_after=seconds)
        if self._inside >= self._at_once:
            raise TooManyTests(f"{self._inside} tests are under way, and no more may be.", retry_after=_BUSY_SECONDS)
        started.append(now)
