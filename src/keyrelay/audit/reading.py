"""Reading the audit trail: searched, sorted and paged by the database, however long it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from keyrelay.audit.chain import SELECT
from keyrelay.audit.model import Actor, Category, Entry, Operation
from keyrelay.query_language import Condition
from keyrelay.store.conditions import Column, Moment, Named, Number, Text, Values, sql_of
from keyrelay.store.model import Reader, Row, Store

# What a query may name, and what a list may be sorted by, as the contract publishes it.
FIELDS: Final[Mapping[str, type]] = {
    "Id": int,
    "Timestamp": datetime,
    "Category": str,
    "Operation": str,
    "Level": int,
    "User": str,
    "EntityType": str,
    "AuditIdentifier": str,
    "ImmutableIdentifier": str,
}
SORTABLE: Final = frozenset({"Category", "ImmutableIdentifier", "Level", "Operation", "Timestamp"})

_COLUMNS: Mapping[str, Column] = {
    "Id": Number("id"),
    "Timestamp": Moment("at"),
    "Category": Named("category", {each: each.title for each in Category}),
    "Operation": Named("operation", {each: each.title for each in Operation}),
    "Level": Number("level"),
    "User": Text("actor"),
    "EntityType": Text("kind"),
    "AuditIdentifier": Text("name"),
    "ImmutableIdentifier": Text("object"),
}
_AT_ONCE = 200  # entries, where many are read one after the other


@dataclass(frozen=True, slots=True)
class Search:
    """Which entries, in which order. ``condition`` None: all. ``page`` counts from 1; what sorts alike goes by id."""

    condition: Condition | None = None
    sort_field: str = "Id"
    descending: bool = False
    page: int = 1
    limit: int = 50


async def find(store: Store, search: Search) -> list[Entry]:
    """The page of entries that was searched for."""
    return [entry_of(row) for row in await store.survey(*statement(search, _where(search.condition)))]


async def related(store: Store, search: Search) -> list[Entry]:
    """The same for entries about whatever the entries are about that meet the condition."""
    return [entry_of(row) for row in await store.survey(*statement(search, _related(search.condition)))]


async def one(reader: Reader, number: int) -> Entry | None:
    """The entry of this number."""
    rows = await reader.rows(f"{SELECT} WHERE id = $1", number) if 0 < number < 2**31 else []
    return entry_of(rows[0]) if rows else None


async def numbers(store: Store, search: Search) -> list[int]:
    """The numbers of the entries on the page that was searched for, where it may be too long to hold."""
    sql, *values = statement(search, _where(search.condition), "SELECT id FROM audit_entry")
    return [number for (number,) in await store.survey(sql, *values)]


async def by_number(store: Store, wanted: Sequence[int]) -> AsyncIterator[Entry]:
    """These entries in this order, a few at a time; those that were forgotten meanwhile are left out."""
    for first in range(0, len(wanted), _AT_ONCE):
        some = wanted[first : first + _AT_ONCE]
        marks = ", ".join(f"${place}" for place in range(1, len(some) + 1))
        rows = {row[0]: row for row in await store.survey(f"{SELECT} WHERE id IN ({marks})", *some)}
        for number in some:
            if number in rows:
                yield entry_of(rows[number])


async def every(store: Store, condition: Condition | None) -> AsyncIterator[Entry]:
    """All entries that meet a condition, oldest first, however many there are."""
    last = 0
    while True:
        where, values = _where(condition)
        sql = f"{SELECT} WHERE {where} AND id > {values.add(last)} ORDER BY id LIMIT {_AT_ONCE}"
        rows = await store.survey(sql, *values.given)
        for row in rows:
            yield entry_of(row)
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1][0]


def statement(search: Search, where: tuple[str, Values], select: str = SELECT) -> Row:
    """The statement, and the values of its parameters."""
    condition, values = where
    column, way = _COLUMNS[search.sort_field].name, " DESC" if search.descending else ""
    order = f"{column}{way}"
    if column == "object":  # what is not there sorts before everything
        order += " NULLS LAST" if search.descending else " NULLS FIRST"
    if column != "id":
        order += f", id{way}"
    limit = values.add(search.limit)
    # Any page may be asked for, and no database has so many rows.
    offset = values.add(min((search.page - 1) * search.limit, 2**62))
    sql = f"{select} WHERE {condition} ORDER BY {order} LIMIT {limit} OFFSET {offset}"
    return sql, *values.given


def _where(condition: Condition | None) -> tuple[str, Values]:
    values = Values()
    return ("1 = 1" if condition is None else sql_of(condition, _COLUMNS, values)), values


def _related(condition: Condition | None) -> tuple[str, Values]:
    where, values = _where(condition)
    same = f"SELECT kind, object FROM audit_entry WHERE object IS NOT NULL AND {where}"  # noqa: S608 - by ``conditions``
    return f"(kind, object) IN ({same})", values


def entry_of(row: Row) -> Entry:
    number, at, category, operation, level, actor, address, kind, name, object_, details, hashed, signature = row
    told = _told(details)
    return Entry(
        *(number, at, category, operation, level, Actor(actor, address), kind, name, object_),
        *(told.get("details", {}), told.get("changes", {}), hashed, signature),
    )


def _told(details: str) -> Mapping[str, Any]:
    """What an entry says beside its columns. Somebody may have edited it, and it is to be seen all the same."""
    try:
        told = json.loads(details)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and all(isinstance(told.get(part, {}), dict) for part in ("details", "changes")):
        return told
    return {"details": {"unreadable": details}}
