"""What comes of a token: somebody is let in, for a while, or it is refused for one of a few reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from keyrelay.access.identity import Identity

# For the log of the operator; whoever sent the token learns none of it.
Reason = Literal[
    "too large",
    "malformed",
    "type",
    "algorithm",
    "unknown issuer",
    "provider disabled",
    "audience",
    "keys unavailable",
    "unknown key",
    "no key id",
    "signature",
    "expired",
    "not yet valid",
    "claims",
    "no name",
    "nonce",
    "unknown API token",
    "expired API token",
]
# What is nobody's guess: the token may be as good as any, and we cannot tell.
_OURS: frozenset[Reason] = frozenset({"keys unavailable"})


class TokenRefused(Exception):
    """A token is not accepted. ``facts`` go into the log too, and hold nothing of the token."""

    def __init__(self, reason: Reason, facts: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.facts = facts or {}

    @property
    def is_a_guess(self) -> bool:
        return self.reason not in _OURS


@dataclass(slots=True)
class Standing:
    """What decisions stand on. ``over``: they stand no longer, whatever time was left to them."""

    over: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody who may come in with this token again without a look at it: until then, and while it stands.

    ``until``: seconds since 1970.
    """

    identity: Identity
    until: float
    standing: Standing = field(default_factory=Standing)
