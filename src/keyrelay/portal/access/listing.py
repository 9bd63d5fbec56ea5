"""Lists on pages: those that match what is searched for, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from keyrelay.portal.page import Asked
from keyrelay.portal.slices import sliced

_LONGEST = 128
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Found(Generic[Item]):
    """A page of a list. ``search``: what was searched for; ``number`` counts pages from 1, of ``pages``."""

    items: Sequence[Item]
    total: int
    search: str
    number: int
    pages: int


def found(asked: Asked, items: Iterable[Item], text: Callable[[Item], str]) -> Found[Item]:
    """Those in whose ``text`` the query's ``search`` is, whatever its case; and of them its ``page``."""
    query = asked.request.query_params
    search = query.get("search", "").strip()[:_LONGEST]
    matching = [item for item in items if search.casefold() in text(item).casefold()]
    page = sliced(matching, query.get("page", ""))
    return Found(page.rows, page.all, search, page.number, page.pages)


def numbered(text: str) -> int:
    """The number that a path or a form names; 0, which nothing has, for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - int32
