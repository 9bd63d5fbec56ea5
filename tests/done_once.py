"""What takes long and comes to the same in every test is done once in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

import httpcore2
import pytest

from keyrelay.access import passwords


@contextmanager
def done_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Every client of a test reads the authorities of this machine, most of them to speak plain HTTP.
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        # Every server begins with the same administrator, and most tests add the same users. Their hashes are real
        # ones, and checking a password is not eased.
        patch.setattr(passwords, "hash_password", lru_cache(100)(passwords.hash_password))
        yield
