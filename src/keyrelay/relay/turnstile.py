"""How many tests run at once in this process, and how many may be started: a test connects where the caller says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from keyrelay.access.limits import Limit, Meter
from keyrelay.access.rates import Rates
from keyrelay.errors import TooManyTests
from keyrelay.settings import Settings

_BUSY_SECONDS = 5


class Turnstile:
    """Counts those who are inside. How many have come in is counted in the store, for all nodes together."""

    def __init__(self, rates: Rates, *, at_once: int, per_user: int, per_address: int) -> None:
        """``per_user``, ``per_address``: in any minute."""
        self._rates = rates
        self._at_once = at_once
        setting = "KEYRELAY_TESTS_PER_MINUTE"
        self._users = Limit("tests of user", per_user, "Tests of one user", setting, TooManyTests)
        setting = "KEYRELAY_ADDRESS_TESTS_PER_MINUTE"
        self._addresses = Limit("tests from address", per_address, "Tests from one address", setting, TooManyTests)
        self._inside = 0
        # One after the other: of many that come together, none is to use up an allowance and then find no room.
        self._entry = asyncio.Lock()

    @classmethod
    def of(cls, settings: Settings, rates: Rates) -> Self:
        per_user, per_address = settings.tests_per_minute, settings.address_tests_per_minute
        return cls(rates, at_once=settings.tests_at_once, per_user=per_user, per_address=per_address)

    @asynccontextmanager
    async def turn(self, user: str, address: str) -> AsyncIterator[None]:
        """One test of this user, from this address. Raises TooManyTests or StoreUnavailable."""
        async with self._entry:
            if self._inside >= self._at_once:
                said = f"{self._inside} tests are under way, and no more may be."
                raise TooManyTests(said, retry_after=_BUSY_SECONDS)
            await self._rates.take(Meter(self._users, user), Meter(self._addresses, address))
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
