"""Limits on callers that hold in every sliding minute, for all nodes together: the arithmetic.

What was let through is kept as sums, one for each part of three seconds and each as if all of it had come at the part's
end. So a limit is never broken, and of what it allows hardly a twentieth is lost. Times are microseconds of the
database's clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from keyrelay.errors import TooManyMessages, TooManyTests

PART = 3_000_000
WINDOW = 60_000_000
AHEAD = 3_000_000  # so long may be used what a process has drawn

_SECOND = 1_000_000
_SHARE = 20  # of a limit that one process draws at once, at most
_LEFT = 8  # share of what is left that it draws, at most: the last of it is not to lie about where nobody asks


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``most`` of something in any minute, for each user or each address.

    ``key`` tells it from other limits. ``said`` and ``setting`` are for who is refused: what it is about, and which
    setting says how many.
    """

    key: str
    most: int
    said: str
    setting: str
    error: type[TooManyMessages | TooManyTests]

    def refusal(self, seconds: float) -> TooManyMessages | TooManyTests:
        return self.error(
            f"{self.said}: no more than {self.most:,} in any minute, on all nodes together.",
            remedy=f"Wait for the seconds in the Retry-After header, or raise {self.setting}.",
            retry_after=max(1, math.ceil(seconds)),
        )


class Meter(msgspec.Struct, frozen=True):
    """A limit as it applies to one user or one address."""

    limit: Limit
    name: str

    @property
    def id(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.limit.key, self.name


@dataclass(frozen=True, slots=True)
class Passed:
    """What was let through on one meter, by parts of time."""

    sums: Mapping[int, int]

    def left(self, most: int, now: int) -> int:
        """How many more may pass now."""
        return max(0, most - sum(amount for _, amount in self._counting(now)))

    def seconds_until_one(self, most: int, now: int) -> float:
        """In how many seconds one more may pass, if nobody else does."""
        missing = sum(amount for _, amount in self._counting(now)) + 1 - most
        until = now
        for part, amount in sorted(self._counting(now)):
            if missing <= 0:
                break
            missing -= amount
            until = counts_until(part)
        return (until - now) / _SECOND

    def _counting(self, now: int) -> Iterable[tuple[int, int]]:
        # What would be far ahead was written before somebody turned the clock back: it would count for as long as that.
        newest = part_of(now + WINDOW)
        return ((part, amount) for part, amount in self.sums.items() if oldest(now) <= part <= newest and amount > 0)


def part_of(moment: int) -> int:
    """The number of the part of time in which a moment lies."""
    return moment // PART


def counts_until(part: int) -> int:
    """The moment at which that which passed in this part has left every window."""
    return (part + 1) * PART + WINDOW


def oldest(now: int) -> int:
    """The oldest part that counts."""
    return (now - WINDOW) // PART


def share(limit: Limit, left: int, wanted: int) -> int:
    """How many a process draws at once that could use so many: few when few are left, and none only if none is."""
    return min(wanted, left, max(1, limit.most // _SHARE), max(1, left // _LEFT))
