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
from typing import Any, Never

from keyrelay.access import accounts
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

_Check = Callable[[], Coroutine[Any, Any, Identity]]

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
            check: _Check = lambda: self._check(header, credentials, address)  # noqa: E731 - one of two
            return await self._shared(self._under_way, header, address, check)
        if (token := bearer_token(header)) is not None:
            return await self._shared(
                self._tokens_under_way, header, address, lambda: self._check_token(header, token, address)
            )
        raise SignInRequired("The Authorization header is not one that keyrelay understands.")

    async def _shared(
        self, under_way: dict[bytes, asyncio.Task[Identity]], header: bytes, address: str, check: _Check
    ) -> Identity:
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
        names = credentials.accounts()
        # By the shortest spelling: whether an account exists must not show in whose allowance is used up.
        user = names[-1][:128]
        # One after the other, so that right passwords that arrive together do not use up an allowance.
        async with self._turn:
            mark = self._store.marks["access"]
            if (seconds := self._throttle.take(user, address)) > 0:
                raise TooManyAttempts("Sign-in has failed too often.", retry_after=seconds)
            try:
                found = await accounts.find(self._store, names)
            except BaseException:  # nothing was looked at: a database that is away is nobody's guess
                self._throttle.give_back(user, address)
                raise
            right = await self._passwords.matches(credentials.password.reveal(), found[1] if found else None)
            if found is None or not right:
                _logger.warning("sign-in failed", extra={"facts": {"user": user, "address": address}})
                raise SignInRequired("User name or password is not right.")
            self._throttle.succeeded(user, address)
        self._store.look()
        if mark != self._store.marks["access"]:
            raise SignInRequired("Accounts were changed while the password was checked.", remedy="Try again.")
        identity = await accounts.identity(self._store, found[0])
        if mark == self._mark == self._store.marks["access"]:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[blake2b(header, key=self._key, digest_size=16).digest()] = identity
        return identity

    async def _check_token(self, header: bytes, token: str, address: str) -> Identity:
        for _ in range(_TRIES):
            self._store.look()
            mark = self._store.marks["access"]
            try:
                admission = await self._bearers.admit(token)
            except TokenRefused as refused:
                self._refuse(refused, address)
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

    def _refuse(self, refused: TokenRefused, address: str) -> Never:
        """Count it against the address, whoever the token says it is about; the log tells why, and the answer does not.

        Afterwards, because nobody guesses a signature: what is slowed down is the noise.
        """
        # No user of HTTP Basic can have a colon in the name (RFC 7617).
        if refused.is_a_guess and (seconds := self._throttle.take(f"bearer:{address}", address)) > 0:
            raise TooManyAttempts("Sign-in has failed too often.", retry_after=seconds) from None
        facts = {"reason": refused.reason, **refused.facts, "address": address}
        _logger.warning("token refused", extra={"facts": facts})
        raise SignInRequired(
            "The token is not accepted.",
            remedy="Get a new token from a provider that keyrelay knows; its log says why this one is refused.",
            token_sent=True,
        ) from None


def _holds(admission: Admission) -> bool:
    return not admission.standing.over and time.time() < admission.until
