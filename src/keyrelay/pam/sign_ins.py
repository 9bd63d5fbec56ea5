"""Tokens that vaults hand out for a sign-in: kept while they live, renewed early, asked for once by however many."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import clear
from keyrelay.pam.backend import VaultFailed
from keyrelay.secrets.model import SecretText

_EARLY = 60.0
_EARLY_SHARE = 10  # of a life that is short
_PRESUMED_LIFE = 600.0  # of a token whose vault does not say
_MOST_KEPT = 200
_REFUSED = {401, 403}


@dataclass(frozen=True, slots=True)
class Lease:
    """A token, and for how many seconds it lives, if the vault says so."""

    token: SecretText
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    token: SecretText
    renew_at: float
    ends_at: float


class SignIns:
    """The tokens of one back end's providers, in memory only. ``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash_key = os.urandom(32)
        self._kept: dict[bytes, _Kept] = {}
        self._signing_in: dict[bytes, asyncio.Task[_Kept | VaultFailed]] = {}

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
        key = self._key(given)
        kept = self._kept.get(key)
        if kept is None or self._clock() >= kept.renew_at:
            try:
                return await request((await self._new(key, sign_in)).token)
            except _NoSignIn as problem:
                kept = self._kept.get(key)
                if kept is None or self._clock() >= kept.ends_at:
                    raise VaultFailed(problem.problem, problem.detail) from None
        answer = await request(kept.token)
        if answer.status not in _REFUSED:
            return answer
        # Only this one: another caller may have exchanged it already.
        if self._kept.get(key) is kept:
            del self._kept[key]
        renewed = self._kept.get(key) or await self._new(key, sign_in)
        return await request(renewed.token)

    async def _new(self, key: bytes, sign_in: Callable[[], Awaitable[Lease]]) -> _Kept:
        task = self._signing_in.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = self._signing_in[key] = asyncio.create_task(self._sign_in(key, sign_in))
        # Unlike awaiting the task itself, a caller that is cancelled here leaves it to the others.
        await asyncio.wait([task])
        if task.cancelled():
            raise _NoSignIn("unreachable", "keyrelay is stopping")
        outcome = task.result()
        if isinstance(outcome, VaultFailed):
            raise _NoSignIn(outcome.problem, outcome.detail)
        return outcome

    async def _sign_in(self, key: bytes, sign_in: Callable[[], Awaitable[Lease]]) -> _Kept | VaultFailed:
        """What failed is no exception here: each caller raises one of its own."""
        asked_at = self._clock()
        try:
            lease = await sign_in()
        except VaultFailed as problem:
            return problem
        finally:
            if self._signing_in.get(key) is asyncio.current_task():
                del self._signing_in[key]
        life = _PRESUMED_LIFE if lease.seconds is None else lease.seconds
        kept = _Kept(lease.token, asked_at + life - min(_EARLY, life / _EARLY_SHARE), asked_at + life)
        self._keep(key, kept)
        return kept

    def _keep(self, key: bytes, kept: _Kept) -> None:
        now = self._clock()
        self._kept = {other: old for other, old in self._kept.items() if other != key and now < old.ends_at}
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = kept

    def _key(self, given: Mapping[str, SecretText | str]) -> bytes:
        """A name for the provider's values that tells nothing of them."""
        parts = sorted((name, clear(value)) for name, value in given.items())
        return hashlib.blake2b(json.dumps(parts).encode("ascii"), key=self._hash_key, digest_size=32).digest()


class _NoSignIn(VaultFailed):
    """The sign-in failed, and not the request that it was for."""
