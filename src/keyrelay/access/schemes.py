"""The authentication schemes there are: whose word claims are (contract 6.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from keyrelay.access.claims import LOCAL_SCHEME
from keyrelay.store.model import Reader


@dataclass(frozen=True, slots=True)
class Scheme:
    """An identity provider as claims name it."""

    id: str
    name: str
    display_name: str


LOCAL = Scheme("0d0c9a1e-52a5-4a0e-9b0f-6f4b3a1d7c21", LOCAL_SCHEME, "Local users")
# Gives the schemes that there are, by name.
Known = Callable[[Reader], Awaitable[Mapping[str, Scheme]]]
_GONE = "00000000-0000-0000-0000-000000000000"


def gone(name: str) -> Scheme:
    """What is left of a scheme that claims still name, when its identity provider is not there any more."""
    return Scheme(_GONE, name, name)
