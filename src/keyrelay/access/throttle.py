"""Slowing down those who guess passwords, without locking out those who know theirs.

Only failed attempts use up an allowance, and each allowance refills with time. There are three, and an attempt needs
all of them: one for the address, one for the user from that address, and one for the user from everywhere. The last
does not bind addresses from which that user has signed in before, so a crowd that hammers on an account cannot keep
its owner out.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """``burst`` failures at once, and one more every ``seconds``."""

    burst: int
    seconds: float


PER_ADDRESS = Allowance(30, 1.0)
PER_USER_AND_ADDRESS = Allowance(10, 3.0)
PER_USER = Allowance(50, 3.0)


class Throttle:
    """Counts failures in the memory of this process; ``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # What is used up of an allowance, and when that was so.
        self._used: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, user: str, address: str) -> int:
        """Take one attempt from every allowance; give 0, or the seconds to wait when nothing could be taken.

        It is taken before the password is looked at, so that many attempts at once cannot slip through.
        """
        keys = self._keys(user, address)
        seconds = max((self._level(key, limit) + 1 - limit.burst) * limit.seconds for key, limit in keys)
        if seconds > 0:
            return math.ceil(seconds)
        self._add(keys, 1)
        return 0

    def succeeded(self, user: str, address: str) -> None:
        """Give the attempt back, for it was none of a guesser."""
        self.give_back(user, address)
        self._known[user, address] = None
        self._known.move_to_end((user, address))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def give_back(self, user: str, address: str) -> None:
        """An attempt that came to nothing, neither right nor wrong."""
        self._add(self._keys(user, address), -1)

    def _add(self, keys: list[tuple[Hashable, Allowance]], attempts: int) -> None:
        now = self._clock()
        for key, limit in keys:
            self._used[key] = (max(0.0, self._level(key, limit) + attempts), now)
            self._used.move_to_end(key)
        while len(self._used) > _REMEMBERED:
            self._used.popitem(last=False)

    def _keys(self, user: str, address: str) -> list[tuple[Hashable, Allowance]]:
        keys: list[tuple[Hashable, Allowance]] = [
            (("address", address), PER_ADDRESS),
            (("both", user, address), PER_USER_AND_ADDRESS),
        ]
        if (user, address) not in self._known:
            keys.append((("user", user), PER_USER))
        return keys

    def _level(self, key: Hashable, allowance: Allowance) -> float:
        level, then = self._used.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - then) / allowance.seconds)
