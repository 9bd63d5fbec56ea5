"""The id of a request: one word for the caller, the log and the traces.

It is set once where a request begins, and goes along with its task and with the tasks that this starts.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

_PREFIX = secrets.token_hex(4)  # of this process, however often it is started anew
_numbers = count(secrets.randbits(16))
_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def new() -> str:
    """An id that no other request has: sixteen hexadecimal digits."""
    return f"{_PREFIX}{next(_numbers) & 0xFFFFFFFF:08x}"


def fits(given: str) -> bool:
    """Whether an id that somebody else gave can stand in headers, bodies and lines of the log as it is."""
    return _GIVEN.fullmatch(given) is not None


def enter(request_id: str) -> None:
    """From here on, this task works on that request."""
    _current.set(request_id)


def current() -> str | None:
    """The id of the request that is worked on here; None outside of any."""
    return _current.get()


@contextmanager
def within(request_id: str) -> Iterator[None]:
    """What is done within belongs to that request."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
