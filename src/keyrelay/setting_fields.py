"""How one setting is declared, as a field of ``Settings``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """How one setting is read: its variable, what it means, and whether it is a secret (then a _FILE twin exists)."""

    meaning: str
    parse: Callable[[str], Any]
    default_text: str
    secret: bool = False


def setting(
    meaning: str, parse: Callable[[str], Any], default: Any, *, secret: bool = False, default_text: str | None = None
) -> Any:
    text = default_text if default_text is not None else "none" if default is None else str(default)
    variable = Variable(meaning, parse, text, secret=secret)
    return dataclasses.field(default=default, repr=not secret, metadata={"variable": variable})
