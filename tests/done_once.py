"""What takes long and comes to the same in every test is done once in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpcore2
import pytest

from keyrelay.access import accounts
from live import ADMIN_PASSWORD


@contextmanager
def done_once() -> Iterator[None]:
    hash_password = accounts.hash_password
    # Every client of a test reads the authorities of this machine, most of them to speak plain HTTP.
    default_context = cache(httpcore2.default_ssl_context)

    @cache
    def of_the_administrator() -> str:
        return hash_password(ADMIN_PASSWORD)

    def hashed(password: str) -> str:
        """Every server begins with an administrator. The hash is a real one, and checking a password is not eased."""
        return of_the_administrator() if password == ADMIN_PASSWORD else hash_password(password)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", default_context)
        patch.setattr(accounts, "hash_password", hashed)
        yield
