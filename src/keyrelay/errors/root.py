"""What every error has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with one field.

    ``field`` is our own snake_case name (a dot leads into a part of it, as in ``relay_password.provider``) and
    ``{field}`` stands for it in the message, because each caller knows it by another name.
    """

    field: str
    code: str
    message: str


class KeyrelayError(Exception):
    """The root of everything keyrelay can explain."""

    code: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.remedy if remedy is None else remedy
