"""Who acts: set once where a request or a command begins, and read where an entry is written.

It goes along with the task, and with the tasks that it starts, so that not every function between the two has to hand
it on (docs/decisions/0022).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from keyrelay.audit.model import Actor

KEYRELAY = Actor("keyrelay")  # what a node does by itself

_acting: ContextVar[Actor] = ContextVar("acting", default=KEYRELAY)


def acting() -> Actor:
    """Who acts here and now."""
    return _acting.get()


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Whatever is done within is done by this actor."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)
