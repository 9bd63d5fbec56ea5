"""Slowing down those who guess passwords, without locking out those who know theirs.

Only failed attempts use up an allowance, and each allowance refills with time. There are three, and an attempt needs
all of them: one for the address, one for the user from that address, and one for the user from everywhere. The last
does not bind addresses from which that user has signed in before, so a crowd that hammers on an account cannot keep
its owner out.

What is used up stands in the store, under names that tell nobody who it was, and by the database's clock: it holds on
all nodes, and when they start again. Who is refused writes nothing, and neither does who is let in from an address
that is known.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyrelay.access.allowances import Allowance, Used
from keyrelay.audit.journal import Journal
from keyrelay.errors import StoreUnavailable, TooManyAttempts
from keyrelay.store.model import Statement, Store, Work
from keyrelay.store.statements import places

PER_ADDRESS = Allowance(30, 1.0)
PER_USER_AND_ADDRESS = Allowance(10, 3.0)
PER_USER = Allowance(50, 3.0)
OWN_PASSWORDS = Allowance(5, 12 * 60.0)  # that a user sets: each ends what all nodes remember of everybody

_MINUTE = 60_000_000
_DAY = 24 * 60 * _MINUTE
_KEPT = 60 * _MINUTE  # what was used up: by then every allowance is whole again
_KNOWN_FOR = 90 * _DAY  # an address, after the last sign-in from there
_SWEPT = 20  # old rows that go with each that comes
_MOST_REFUSED = 10_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that may be tried. ``known`` names the user at this address; ``known_at`` is when that was noted."""

    allowances: Mapping[str, Allowance]
    known: str | None
    known_at: int | None
    began_at: int


class Throttle:
    """Counts failed sign-ins, for one process of many."""

    def __init__(self, store: Store, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds that never go back; it only says for how long what the store said is believed."""
        self._store = store
        self._journal = journal
        self._clock = clock
        # Failures that could not be written down. Until they are, nobody may try: a database that can only be read
        # must not let anybody guess without end.
        self._owed: list[Attempt] = []
        # Until when (seconds that never go back) an allowance is used up, as the store has said: a flood of attempts
        # need not ask it again for each.
        self._refused: OrderedDict[str, float] = OrderedDict()

    async def attempt(self, address: str, user: str | None = None) -> Attempt:
        """Ask for leave to try a credential, of this user if it says of whom it is.

        Raises TooManyAttempts when an allowance is used up, or StoreUnavailable. Then nothing was counted.
        """
        while self._owed:
            await self.failed(self._owed.pop())
        keys = await self._keys(address, user)
        here = list(keys)[:2]  # what binds this caller alone: the address, and the user from there
        if (seconds := max(self._refused.get(key, 0.0) for key in here) - self._clock()) > 0:
            raise _too_many(math.ceil(seconds))
        known = None if user is None else await self._name("known", user, address)
        used, known_at, now = await self._look(list(keys), known)
        if known_at is not None and now - known_at < _KNOWN_FOR:
            keys = {key: allowance for key, allowance in keys.items() if allowance is not PER_USER}
        waits = {key: used.get(key, Used()).seconds_until_one(allowance, now) for key, allowance in keys.items()}
        if (longest := max(waits.values())) > 0:
            self._remember(here[-1], longest)
            self._remember(here[0], waits[here[0]])
            raise _too_many(longest)
        return Attempt(keys, known, known_at, now)

    async def failed(self, attempt: Attempt) -> None:
        """The credential was wrong. Raises StoreUnavailable when that could not be written down."""
        try:
            await self._store.perform(self._count(attempt.allowances))
        except BaseException:
            self._owed.append(attempt)
            raise

    async def succeeded(self, attempt: Attempt) -> None:
        """The credential was right: the address is known to be this user's from now on."""
        if attempt.known is None or (attempt.known_at is not None and attempt.began_at - attempt.known_at < _DAY):
            return
        try:
            await self._store.perform(self._know(attempt.known))
        except StoreUnavailable:  # a favour: nobody is kept out for it
            _logger.warning("that an address is known could not be written down")

    async def own_password(self, user: str) -> None:
        """A user is about to set another password. Raises TooManyAttempts when that was done too often."""
        key = await self._name("own password", user)
        if (seconds := await self._store.perform(self._spend(key, OWN_PASSWORDS))) > 0:
            raise TooManyAttempts(
                "The password was changed too often.", retry_after=seconds, remedy=f"Wait {seconds} seconds."
            )

    async def _keys(self, address: str, user: str | None) -> dict[str, Allowance]:
        keys = {await self._name("address", address): PER_ADDRESS}
        if user is not None:
            keys[await self._name("both", user, address)] = PER_USER_AND_ADDRESS
            keys[await self._name("user", user)] = PER_USER
        return keys

    async def _name(self, *parts: str) -> str:
        return await self._journal.pseudonym(self._store, "\0".join(("sign-in", *parts)))

    def _remember(self, key: str, seconds: int) -> None:
        if seconds > 0:
            self._refused[key] = self._clock() + seconds
            self._refused.move_to_end(key)
        while len(self._refused) > _MOST_REFUSED:
            self._refused.popitem(last=False)

    # --- The store -------------------------------------------------------------------------------------------

    async def _look(self, keys: Sequence[str], known: str | None) -> tuple[dict[str, Used], int | None, int]:
        """What was used up, when the address was noted as known, and what time it is."""
        clock = self._store.dialect.wall_clock
        rows = await self._store.rows(
            f"SELECT 'now', CAST(0 AS DOUBLE PRECISION), {clock}"  # noqa: S608 - constants
            f" UNION ALL SELECT key, used, at FROM sign_in_failure WHERE key IN ({places(keys, 2)})"
            " UNION ALL SELECT 'known', 0, at FROM sign_in_known WHERE key = $1",
            *(known or "", *keys),
        )
        found = {key: Used(float(used), at) for key, used, at in rows}
        known_at = found.pop("known").at if "known" in found else None
        return found, known_at, found.pop("now").at

    def _count(self, allowances: Mapping[str, Allowance]) -> Work[None]:
        keys = sorted(allowances)  # in one order, so that two cannot lock each other out
        groups = ", ".join(f"(${at}, 0, 0)" for at in range(1, len(keys) + 1))
        # What holds the rows, so that nobody counts beside us or forgets them.
        held = "ON CONFLICT (key) DO UPDATE SET at = sign_in_failure.at"
        yield f"INSERT INTO sign_in_failure (key, used, at) VALUES {groups} {held}", keys  # noqa: S608 - constants
        clock = self._store.dialect.wall_clock
        rows = yield (
            f"SELECT key, used, at, {clock} FROM sign_in_failure WHERE key IN ({places(keys)})",  # noqa: S608 - constants
            keys,
        )
        now = max(row[3] for row in rows)
        for key, used, at, _ in rows:
            after = Used(used, at).failed(allowances[key], now)
            yield "UPDATE sign_in_failure SET used = $1, at = $2 WHERE key = $3", (after.used, after.at, key)
        yield self._older("sign_in_failure", now - _KEPT)

    def _spend(self, key: str, allowance: Allowance) -> Work[int]:
        """Use one up, if there is one; else the seconds until there is."""
        held = "ON CONFLICT (key) DO UPDATE SET at = sign_in_failure.at"
        yield f"INSERT INTO sign_in_failure (key, used, at) VALUES ($1, 0, 0) {held}", (key,)  # noqa: S608 - constants
        clock = self._store.dialect.wall_clock
        ((used, at, now),) = yield f"SELECT used, at, {clock} FROM sign_in_failure WHERE key = $1", (key,)  # noqa: S608 - constants
        before = Used(float(used), at)
        if (seconds := before.seconds_until_one(allowance, now)) > 0:
            return seconds
        after = before.failed(allowance, now)
        yield "UPDATE sign_in_failure SET used = $1, at = $2 WHERE key = $3", (after.used, after.at, key)
        yield self._older("sign_in_failure", now - _KEPT)
        return 0

    def _know(self, key: str) -> Work[None]:
        ((now,),) = yield f"SELECT {self._store.dialect.wall_clock}", ()
        yield (
            "INSERT INTO sign_in_known (key, at) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET at = excluded.at",
            (key, now),
        )
        yield self._older("sign_in_known", now - _KNOWN_FOR)

    def _older(self, table: str, than: int) -> Statement:
        """Forget a few of those that are older; what others hold is left alone."""
        which = f"SELECT key FROM {table} WHERE at < $1 ORDER BY at LIMIT {_SWEPT}{self._store.dialect.skip_locked}"  # noqa: S608 - constants
        return f"DELETE FROM {table} WHERE key IN ({which})", (than,)  # noqa: S608 - as above


def _too_many(seconds: int) -> TooManyAttempts:
    return TooManyAttempts("Sign-in has failed too often.", retry_after=seconds)
