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
    """One page. ``first`` and ``last`` count from 1; ``before`` and ``after``: the pages beside it, 0 for none."""

    rows: Sequence[T]
    first: int
    last: int
    all: int
    before: int
    after: int


def sliced(rows: Sequence[T], page: str) -> Slice[T]:
    """The page of that number; the first for what is no number, and the last one for what is beyond it."""
    pages = max(1, -(-len(rows) // _EACH))
    number = int(page) if page.isascii() and page.isdigit() and len(page) <= _DIGITS else 1
    number = min(max(number, 1), pages)
    start = (number - 1) * _EACH
    some = rows[start : start + _EACH]
    after = number + 1 if number < pages else 0
    return Slice(some, start + 1, start + len(some), len(rows), number - 1, after)
