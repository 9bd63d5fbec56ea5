"""How many failed sign-ins are let through: the arithmetic. Times are microseconds of the database's clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SECOND = 1_000_000
_NOTHING = 1e-6  # less than this much of an attempt is none


@dataclass(frozen=True, slots=True)
class Allowance:
    """``burst`` failures at once, and one more every ``seconds``."""

    burst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Used:
    """What was used up of an allowance, and when that was so."""

    used: float = 0.0
    at: int = 0

    def level(self, allowance: Allowance, now: int) -> float:
        """What is used up now."""
        passed = (now - self.at) / _SECOND
        if -passed > allowance.burst * allowance.seconds:
            return 0.0  # somebody turned the clock back: nobody is to wait for as long as that
        return max(0.0, self.used - max(passed, 0.0) / allowance.seconds)

    def seconds_until_one(self, allowance: Allowance, now: int) -> int:
        """In how many whole seconds one more attempt is let through; 0 for now."""
        missing = self.level(allowance, now) + 1 - allowance.burst
        if missing <= _NOTHING:
            return 0
        return math.ceil(max(0.0, (self.at - now) / _SECOND) + missing * allowance.seconds)

    def failed(self, allowance: Allowance, now: int) -> Used:
        """After one more failure."""
        return Used(self.level(allowance, now) + 1, now)
