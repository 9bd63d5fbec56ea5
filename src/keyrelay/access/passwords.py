"""Password hashes: argon2id, one at a time, off the event loop.

19 MiB and two passes is one of the settings that OWASP's password storage cheat sheet names as equally strong; one
thread for all keeps a burst of sign-ins within those 19 MiB (docs/decisions/0005).
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from keyrelay.errors import Unsuitable
from keyrelay.secrets.model import SecretText

_SHORTEST = 8
_LONGEST = 256

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_hashing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keyrelay-new-passwords")


class PasswordChecker:
    """Checks passwords, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keyrelay-passwords")
        # Of a password nobody knows: an unknown user costs as much time as a wrong password.
        self._nobody: str | None = None

    async def matches(self, password: str, hashed: str | None) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._check, password, hashed)

    def _check(self, password: str, hashed: str | None) -> bool:
        if hashed is None:
            self._nobody = self._nobody or _hasher.hash(secrets.token_hex())
            _verify(self._nobody, password)
            return False
        return _verify(hashed, password)


def require_suitable(password: SecretText) -> None:
    """Raise Unsuitable for a new password that is too short or too long."""
    if not _SHORTEST <= len(password.reveal()) <= _LONGEST:
        raise Unsuitable(
            f"A password needs {_SHORTEST} to {_LONGEST} characters.",
            remedy="Choose a longer one, or let keyrelay make one.",
        )


def hash_password(password: str) -> str:
    """Hash a new password. Raises Unsuitable."""
    require_suitable(SecretText(password))
    return _hasher.hash(password)


async def hashed(password: SecretText) -> str:
    """The same off the event loop, one after the other."""
    return await asyncio.get_running_loop().run_in_executor(_hashing, hash_password, password.reveal())


def make_password() -> str:
    """A password for a first sign-in: 100 random bits, in characters nobody mixes up, in groups."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


def _verify(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
