"""Tokens that vaults hand out for a sign-in: kept while they live, renewed early, asked for once by however many."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import clear
from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.sharing import Shared
from keyrelay.secrets.model import SecretText

_EARLY = 60.0
_EARLY_SHARE = 10  # of a life that is short
_PRESUMED_LIFE = 600.0  # of a token whose vault does not say
_MOST_KEPT = 200
_REFUSED = {401, 403}


class _Ending(Protocol):
    @property
    def ends_at(self) -> float: ...


Kept = TypeVar("Kept", bound=_Ending)


class KeptTokens(Generic[Kept]):
    """The tokens of one back end's providers, in memory only, and the sign-ins that are under way for them.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash_key = os.urandom(32)
        self._kept: dict[bytes, Kept] = {}
        self._under_way: Shared[Kept] = Shared()

    def key(self, given: Mapping[str, SecretText | str]) -> bytes:
        """A name for the values that decide about the sign-in, which tells nothing of them."""
        parts = sorted((name, clear(value)) for name, value in given.items())
        return hashlib.blake2b(json.dumps(parts).encode("ascii"), key=self._hash_key, digest_size=32).digest()

    def _living(self, key: bytes) -> Kept | None:
        kept = self._kept.get(key)
        return kept if kept is not None and self._clock() < kept.ends_at else None

    def _keep(self, key: bytes, kept: Kept) -> None:
        now = self._clock()
        self._kept = {other: old for other, old in self._kept.items() if other != key and now < old.ends_at}
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = kept


@dataclass(frozen=True, slots=True)
class Lease:
    """A token, and for how many seconds it lives, if the vault says so."""

    token: SecretText
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    token: SecretText
    renew_at: float
    ends_at: float


class SignIns(KeptTokens[_Token]):
    """Tokens that are exchanged for new ones by signing in again."""

    async def ask(
        self,
        given: Mapping[str, SecretText | str],
        sign_in: Callable[[], Awaitable[Lease]],
        request: Callable[[SecretText], Awaitable[HttpAnswer]],
    ) -> HttpAnswer:
        """What ``request`` is answered with a token for the provider ``given``.

        A kept token that is answered 401 or 403 may have been revoked: it is forgotten, and the request made once more
        with a new one. Raises VaultFailed. A caller that is cancelled leaves a sign-in under way to the others.
        """
        key = self.key(given)
        kept = self._kept.get(key)
        if kept is None or self._clock() >= kept.renew_at:
            try:
                new = await self._new(key, sign_in)
            except VaultFailed:
                kept = self._living(key)
                if kept is None:
                    raise
            else:
                return await request(new.token)
        answer = await request(kept.token)
        if answer.status not in _REFUSED:
            return answer
        # Only this one: another caller may have exchanged it already.
        if self._kept.get(key) is kept:
            del self._kept[key]
        renewed = self._kept.get(key) or await self._new(key, sign_in)
        return await request(renewed.token)

    async def _new(self, key: bytes, sign_in: Callable[[], Awaitable[Lease]]) -> _Token:
        async def work() -> _Token:
            asked_at = self._clock()
            lease = await sign_in()
            life = _PRESUMED_LIFE if lease.seconds is None else lease.seconds
            token = _Token(lease.token, asked_at + life - min(_EARLY, life / _EARLY_SHARE), asked_at + life)
            self._keep(key, token)
            return token

        return await self._under_way.outcome(key, work)
