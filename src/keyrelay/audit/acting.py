"""Who acts: set once where a request or a command begins, and read where an entry is written.

It goes along with the task, and with the tasks that it starts, so that not every function between the two has to hand
it on (docs/decisions/0022).
"""

from __future__ import annotations

from contextvars import ContextVar

from keyrelay.audit.model import Actor

KEYRELAY = Actor("keyrelay")  # what a node does by itself

_acting: ContextVar[Actor] = ContextVar("acting", default=KEYRELAY)


def acting() -> Actor:
    """Who acts here and now."""
    return _acting.get()


def act_as(actor: Actor) -> None:
    """Whatever this task does from here on, and the tasks that it starts, is done by this actor."""
    _acting.set(actor)
