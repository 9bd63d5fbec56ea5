"""Signing in: one argon2 check per credential, remembered until accounts change.

What is remembered is a keyed hash of the whole header; the key lives and dies with this process. A change to any
account or role, on any node, ends every memory (the topic ``access``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from hashlib import blake2b

from keyrelay.access import accounts
from keyrelay.access.identity import Credentials, Identity, basic_credentials
from keyrelay.access.passwords import PasswordChecker
from keyrelay.access.throttle import Throttle
from keyrelay.errors import SignInRequired, TooManyAttempts
from keyrelay.store.model import Store

_REMEMBERED = 4096
_WAITING = 512

_logger = logging.getLogger(__name__)


class SignIn:
    """Turns an Authorization header into an Identity."""

    def __init__(self, store: Store, throttle: Throttle) -> None:
        self._store = store
        self._throttle = throttle
        self._passwords = PasswordChecker()
        self._key = os.urandom(32)
        self._remembered: dict[bytes, Identity] = {}
        self._mark = -1
        self._turn = asyncio.Lock()
        # A hundred requests that arrive with the same new header share one check.
        self._under_way: dict[bytes, asyncio.Task[Identity]] = {}

    def remembered(self, header: bytes) -> Identity | None:
        """The identity of a header that was checked before, if nothing about access has changed since.

        The caller has just brought the store's marks up to date.
        """
        if self._store.marks["access"] != self._mark:
            self._remembered = {}
            self._mark = self._store.marks["access"]
            return None
        return self._remembered.get(blake2b(header, key=self._key, digest_size=16).digest())

    async def identify(self, header: bytes | None, address: str) -> Identity:
        """Check a header sent from ``address``. Raises SignInRequired or TooManyAttempts."""
        if header is None:
            raise SignInRequired("No credentials were sent.")
        self._store.look()
        if (identity := self.remembered(header)) is not None:
            return identity
        credentials = basic_credentials(header)
        if credentials is None:
            raise SignInRequired("The Authorization header is not one that keyrelay understands.")
        # With the mark, because a check that began before access changed may still find the old password right.
        origin = f"{self._mark} {address} ".encode()
        key = blake2b(origin + header, key=self._key, digest_size=16).digest()
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= _WAITING:
                raise TooManyAttempts("Too many sign-ins are waiting to be checked.", retry_after=2)
            task = asyncio.create_task(self._check(header, credentials, address), name="keyrelay-sign-in")
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _check(self, header: bytes, credentials: Credentials, address: str) -> Identity:
        names = credentials.accounts()
        # By the shortest spelling: whether an account exists must not show in whose allowance is used up.
        user = names[-1][:128]
        # One after the other, so that none of many that arrive together is tried before the others were counted.
        async with self._turn:
            mark = self._store.marks["access"]
            attempt = await self._throttle.attempt(address, user)
            # Nothing is counted yet: a database that is away is nobody's guess.
            found = await accounts.find(self._store, names)
            right = await self._passwords.matches(credentials.password.reveal(), found[1] if found else None)
            if found is None or not right:
                _logger.warning("sign-in failed", extra={"facts": {"user": user, "address": address}})
                await self._throttle.failed(attempt)
                raise SignInRequired("User name or password is not right.")
            await self._throttle.succeeded(attempt)
        self._store.look()
        if mark != self._store.marks["access"]:
            raise SignInRequired("Accounts were changed while the password was checked.", remedy="Try again.")
        identity = await accounts.identity(self._store, found[0])
        if mark == self._mark == self._store.marks["access"]:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[blake2b(header, key=self._key, digest_size=16).digest()] = identity
        return identity
