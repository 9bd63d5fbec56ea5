"""How often something was how much: what Prometheus calls a histogram. Plain numbers, in one thread."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Awaitable, Sequence
from itertools import accumulate
from typing import TypeVar

Result = TypeVar("Result")


class Histogram:
    """How often something was up to each of these bounds, in all, and its sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many were not greater than each bound; the last, how many there were."""
        return tuple(accumulate(self._counts))

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    async def timing(self, work: Awaitable[Result]) -> Result:
        """Wait for it, and observe how many seconds it took, however it ended."""
        started = time.perf_counter()
        try:
            return await work
        finally:
            self.observe(time.perf_counter() - started)
