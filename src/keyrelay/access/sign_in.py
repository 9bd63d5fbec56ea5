"""Signing in: one argon2 check per credential and one look at each token, remembered until accounts change.

What is remembered is a keyed hash of the whole header; the key lives and dies with this process. A change to any
account, role, token or identity provider, on any node, ends every memory (the topic ``access``). What a token has
brought is not remembered beyond its own end, nor beyond that of the key that signed it (docs/decisions/0023).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any, TypeVar

from keyrelay.access import accounts
from keyrelay.access.accounts import Proof
from keyrelay.access.admission import Admission, TokenRefused
from keyrelay.access.bearer import Bearers
from keyrelay.access.identity import Credentials, Identity, basic_credentials
from keyrelay.access.passwords import PasswordChecker
from keyrelay.access.throttle import Throttle
from keyrelay.access.token_text import bearer_token
from keyrelay.errors import SignInRequired, TooManyAttempts
from keyrelay.store.model import Store

_REMEMBERED = 4096
_WAITING = 512
_TRIES = 3  # when access changes while a token is looked at

_Result = TypeVar("_Result")
_Check = Callable[[], Coroutine[Any, Any, _Result]]

_logger = logging.getLogger(__name__)


class SignIn:
    """Turns an Authorization header into an Identity."""

    def __init__(self, store: Store, throttle: Throttle, bearers: Bearers) -> None:
        self._store = store
        self._throttle = throttle
        self._bearers = bearers
        self._passwords = PasswordChecker()
        self._key = os.urandom(32)
        self._remembered: dict[bytes, Identity] = {}
        # Apart, because these have to be asked what time it is.
        self._admitted: dict[bytes, Admission] = {}
        self._mark = -1
        self._turn = asyncio.Lock()
        # A hundred requests that arrive with the same new header share one check. Tokens have a waiting room of their
        # own: some of them wait for an identity provider.
        self._under_way: dict[bytes, asyncio.Task[Identity]] = {}
        self._tokens_under_way: dict[bytes, asyncio.Task[Identity]] = {}
        self._proofs_under_way: dict[bytes, asyncio.Task[Proof]] = {}

    def remembered(self, header: bytes) -> Identity | None:
        """The identity of a header that was checked before, if nothing about access has changed since.

        The caller has just brought the store's marks up to date.
        """
        if self._store.marks["access"] != self._mark:
            self._remembered = {}
            self._admitted = {}
            self._mark = self._store.marks["access"]
            return None
        digest = blake2b(header, key=self._key, digest_size=16).digest()
        identity = self._remembered.get(digest)
        if identity is None and (admission := self._admitted.get(digest)) is not None and _holds(admission):
            return admission.identity
        return identity

    async def identify(self, header: bytes | None, address: str) -> Identity:
        """Check a header sent from ``address``. Raises SignInRequired or TooManyAttempts."""
        if header is None:
            raise SignInRequired("No credentials were sent.")
        self._store.look()
        if (identity := self.remembered(header)) is not None:
            return identity
        if (credentials := basic_credentials(header)) is not None:
            check: _Check[Identity] = lambda: self._check(header, credentials, address)  # noqa: E731 - one of two
            return await self._shared(self._under_way, header, address, check)
        if (token := bearer_token(header)) is not None:
            return await self._shared(
                self._tokens_under_way, header, address, lambda: self._check_token(header, token, address)
            )
        raise SignInRequired("The Authorization header is not one that keyrelay understands.")

    async def prove(self, header: bytes, address: str) -> Proof:
        """The user whose password a Basic header has, and the hash that is kept of it. Nothing remembered answers.

        What outlives the request is to begin so: on other nodes, a changed password is remembered for a moment.
        Raises SignInRequired or TooManyAttempts.
        """
        credentials = basic_credentials(header)
        if credentials is None:
            raise SignInRequired("User name or password is not right.")
        self._store.look()
        check: _Check[Proof] = lambda: self._proven(credentials, address)  # noqa: E731 - as above
        return await self._shared(self._proofs_under_way, header, address, check)

    async def allow_own_password(self, user: str) -> None:
        """Raise TooManyAttempts when a user has set another password too often lately; else it counts as set."""
        await self._throttle.own_password(user)

    async def _shared(
        self, under_way: dict[bytes, asyncio.Task[_Result]], header: bytes, address: str, check: _Check[_Result]
    ) -> _Result:
        # With the mark, because a check that began before access changed may still find the old password right.
        origin = f"{self._mark} {address} ".encode()
        key = blake2b(origin + header, key=self._key, digest_size=16).digest()
        task = under_way.get(key)
        if task is None:
            if len(under_way) >= _WAITING:
                raise TooManyAttempts("Too many sign-ins are waiting to be checked.", retry_after=2)
            task = asyncio.create_task(check(), name="keyrelay-sign-in")
            under_way[key] = task
            task.add_done_callback(lambda _: under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _check(self, header: bytes, credentials: Credentials, address: str) -> Identity:
        mark = self._store.marks["access"]
        found = await self._proven(credentials, address)
        self._store.look()
        # Roles may change at any time; only another password makes this check worth nothing.
        if mark != self._store.marks["access"] and await accounts.find(self._store, credentials.accounts()) != found:
            raise SignInRequired("Accounts were changed while the password was checked.", remedy="Try again.")
        identity = await accounts.identity(self._store, found.name)
        if mark == self._mark == self._store.marks["access"]:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[blake2b(header, key=self._key, digest_size=16).digest()] = identity
        return identity

    async def _proven(self, credentials: Credentials, address: str) -> Proof:
        names = credentials.accounts()
        # By the shortest spelling: whether an account exists must not show in whose allowance is used up.
        user = names[-1][:128]
        # One after the other, so that none of many that arrive together is tried before the others were counted.
        async with self._turn:
            attempt = await self._throttle.attempt(address, user)
            # Nothing is counted yet: a database that is away is nobody's guess.
            found = await accounts.find(self._store, names)
            right = await self._passwords.matches(credentials.password.reveal(), found.password_hash if found else None)
            if found is None or not right:
                _logger.warning("sign-in failed", extra={"facts": {"user": user, "address": address}})
                await self._throttle.failed(attempt)
                raise SignInRequired("User name or password is not right.")
            await self._throttle.succeeded(attempt)
        return found

    async def _check_token(self, header: bytes, token: str, address: str) -> Identity:
        for _ in range(_TRIES):
            self._store.look()
            mark = self._store.marks["access"]
            try:
                admission = await self._bearers.admit(token)
            except TokenRefused as refused:
                raise await self._counted(refused, address) from None
            self._store.look()
            if mark == self._store.marks["access"]:
                break
        else:
            raise SignInRequired("Access was changed while the token was checked.", remedy="Try again.")
        if mark == self._mark and _holds(admission):
            if len(self._admitted) >= _REMEMBERED:
                self._admitted = {key: other for key, other in self._admitted.items() if _holds(other)}
            if len(self._admitted) >= _REMEMBERED:
                self._admitted.clear()
            self._admitted[blake2b(header, key=self._key, digest_size=16).digest()] = admission
        return admission.identity

    async def _counted(self, refused: TokenRefused, address: str) -> SignInRequired:
        """What whoever sent it is told: nothing of why, which the log tells. Raises TooManyAttempts.

        It counts against the address, whoever the token says it is about; and afterwards, because nobody guesses a
        signature: what is slowed down is the noise.
        """
        if refused.is_a_guess:
            await self._throttle.failed(await self._throttle.attempt(address))
        facts = {"reason": refused.reason, **refused.facts, "address": address}
        _logger.warning("token refused", extra={"facts": facts})
        return SignInRequired(
            "The token is not accepted.",
            remedy="Get a new token from a provider that keyrelay knows; its log says why this one is refused.",
            token_sent=True,
        )


def _holds(admission: Admission) -> bool:
    return not admission.standing.over and time.time() < admission.until
