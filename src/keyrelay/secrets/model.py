"""What a secret is, and where one is."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Never


class SecretText:
    """A secret in the clear, on its way from a caller into the store or from the store to its destination.

    It has no way to print, format, copy out or serialise itself; ``reveal()`` is the one way to the text, so every
    place that uses a secret can be found by searching for it.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        return self.__text

    def __repr__(self) -> str:
        return "SecretText(…)"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretText):
            return NotImplemented
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self.__text, other.reveal()))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        raise TypeError("a SecretText is no key")

    def __reduce__(self) -> Never:
        raise TypeError("a SecretText is not serialised")


@dataclass(frozen=True, slots=True)
class Stored:
    """A secret kept here, encrypted; ``id`` names its row."""

    id: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class FromPam:
    """A reference into a PAM provider: its id, and the parameters that say which secret (names are case-sensitive)."""

    provider: int
    parameters: Mapping[str, str | None]


SecretSource = Stored | FromPam
"""Where a secret of a kept profile is."""

GivenSecret = SecretText | Stored | FromPam
"""The same before it is kept: a value just given, or a source that is kept on."""


# Words in the Unicode names of the characters that pages show instead of a secret's.
_PICTURES = {"ASTERISK", "BULLET", "CIRCLE", "SQUARE", "BLOCK", "DOT", "STAR", "RING"}


def is_mask(text: str) -> bool:
    """Whether the text is what a page shows instead of a secret, such as asterisks or bullets.

    Saving one would replace the real secret by its picture. Spaces and invisible marks do not make it a secret.
    """
    drawn = [character for character in text if unicodedata.category(character) not in {"Zs", "Cf", "Mn"}]
    return bool(drawn) and all(map(_is_picture, drawn))


def _is_picture(character: str) -> bool:
    # A letter with a ring or a dot above is a letter.
    return not character.isalnum() and bool(_PICTURES & set(unicodedata.name(character, "").split()))


def has_control(text: str) -> bool:
    """Whether the text holds control characters, line separators or halves of surrogate pairs."""
    return any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text)
