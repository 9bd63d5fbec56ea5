"""The keys of identity providers in memory: fetched once for all who need them, kept while the provider is away.

An hour long they are as good as new. Then they are fetched again while they go on serving, for a day at the longest. A
token that names a key we do not know makes us look, if nobody made us look in vain a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyrelay.access import discovery
from keyrelay.access.admission import Standing, TokenRefused
from keyrelay.access.discovery import NotDiscovered
from keyrelay.errors import TrustUnusable

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.access.signatures import PublicKey

_FRESH_SECONDS = 3600.0
_KEPT_SECONDS = 24 * 3600.0
_RETRY_SECONDS = 60.0  # after a failure, while older keys serve
_WITHOUT_SECONDS = 10.0  # the same, while there are none
_LOOK_SECONDS = 10.0  # between two looks for keys that nobody has heard of
_MOST_SETS = 1000
_MOST_WAITING = 64  # for a look at one provider: the tokens of others shall not have to wait behind them

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The keys that may have signed a token. ``seconds``: for how long that is good, as long as it has ``standing``."""

    keys: tuple[PublicKey, ...]
    standing: Standing
    seconds: float


@dataclass(slots=True)
class _KeySet:
    """What is known of one issuer. Times are those of a clock that never goes back."""

    keys: tuple[PublicKey, ...] | None = None
    asked_at: float = float("-inf")  # when the request began that these keys came from
    due_at: float = float("-inf")  # when to ask again
    looked_at: float = float("-inf")  # when an unknown key last made us ask
    standing: Standing = field(default_factory=Standing)
    asking: asyncio.Task[None] | None = None
    waiting: int = 0  # for a key that nobody has heard of

    def renew(self, keys: tuple[PublicKey, ...] | None, asked_at: float) -> None:
        """Decisions that may stand on a key that is gone end here."""
        if set(self.keys or ()) - set(keys or ()):
            self.standing.over = True
            self.standing = Standing()
        self.keys, self.asked_at = keys, asked_at

    def named(self, key_id: str | None) -> tuple[PublicKey, ...]:
        """The keys of this id; without one, the only key there is."""
        keys = self.keys or ()
        if key_id is None:
            return keys if len(keys) == 1 else ()
        return tuple(key for key in keys if key.id == key_id)


class KeySets:
    """The keys of all issuers. ``trust``: the TLS context to ask them with; ``clock`` never goes back."""

    def __init__(self, trust: Callable[[], ssl.SSLContext], clock: Callable[[], float] = time.monotonic) -> None:
        self._trust = trust
        self._clock = clock
        self._sets: dict[str, _KeySet] = {}

    async def candidates(self, authority: str, key_id: str | None) -> Candidates:
        """Raises TokenRefused when there are no keys, or not this one."""
        arrived_at = self._clock()
        held = self._of(authority)
        if arrived_at - held.asked_at > _KEPT_SECONDS:
            held.renew(None, float("-inf"))
        if arrived_at >= held.due_at:
            self._begin(authority, held)
        if held.keys is None:
            await _done(held)
        if held.keys is None:
            raise TokenRefused("keys unavailable")
        found = held.named(key_id)
        while not found and key_id is not None and held.asked_at < arrived_at and self._may_look(authority, held):
            held.waiting += 1
            try:
                await _done(held)
            finally:
                held.waiting -= 1
            found = held.named(key_id)
        if not found:
            raise TokenRefused("no key id" if key_id is None else "unknown key")
        seconds = min(held.due_at, held.asked_at + _KEPT_SECONDS) - self._clock()
        return Candidates(found, held.standing, max(0.0, seconds))

    async def close(self) -> None:
        tasks = [held.asking for held in self._sets.values() if held.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of(self, authority: str) -> _KeySet:
        if authority not in self._sets and len(self._sets) >= _MOST_SETS:
            # Issuers that are not registered any more; one that is has soon been asked again.
            self._sets = {name: held for name, held in self._sets.items() if held.asking is not None}
        return self._sets.setdefault(authority, _KeySet())

    def _may_look(self, authority: str, held: _KeySet) -> bool:
        """Have the provider asked because of a key that is not known, unless it is being asked already, or just was."""
        now = self._clock()
        if held.asking is None and now - held.looked_at >= _LOOK_SECONDS:
            held.looked_at = now
            self._begin(authority, held)
        return held.asking is not None and held.waiting < _MOST_WAITING

    def _begin(self, authority: str, held: _KeySet) -> None:
        if held.asking is None:
            held.due_at = self._clock() + (_WITHOUT_SECONDS if held.keys is None else _RETRY_SECONDS)
            held.asking = asyncio.create_task(self._ask(authority, held), name="keyrelay-keys")

    async def _ask(self, authority: str, held: _KeySet) -> None:
        asked_at = self._clock()
        try:
            keys = await discovery.keys_of(authority, self._trust())
            held.renew(keys, asked_at)
            held.due_at = asked_at + _FRESH_SECONDS
        except (NotDiscovered, TrustUnusable) as problem:
            why = problem.why if isinstance(problem, NotDiscovered) else problem.message
            _logger.warning("keys of an identity provider cannot be had", extra={"facts": {"why": why}})
        except Exception as problem:  # whatever it is, those who wait go on with what there is
            _logger.exception("asking an identity provider failed", exc_info=problem)
        finally:
            held.asking = None


async def _done(held: _KeySet) -> None:
    """Wait for the answer under way, and leave it to the others when the caller goes away."""
    if held.asking is not None:
        await asyncio.wait([held.asking])
