"""A list that is in memory, a page of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_EACH = 50
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """One page. ``number`` counts pages from 1, of ``pages``; ``all`` are the rows on all of them."""

    rows: Sequence[T]
    all: int
    number: int
    pages: int

    @property
    def first(self) -> int:
        """The number of its first row, from 1."""
        return (self.number - 1) * _EACH + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def before(self) -> int:
        """The page before it; 0 for none."""
        return self.number - 1

    @property
    def after(self) -> int:
        """The page after it; 0 for none."""
        return self.number + 1 if self.number < self.pages else 0


def sliced(rows: Sequence[T], page: str) -> Slice[T]:
    """The page of that number; the first for what is no number, and the last one for what is beyond it."""
    pages = max(1, -(-len(rows) // _EACH))
    number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS else 1
    number = min(max(number, 1), pages)
    return Slice(rows[(number - 1) * _EACH : number * _EACH], len(rows), number, pages)
