"""What the bundle tells of the database: schema, sizes, and when what was done."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from keyrelay.audit.model import Category, Operation
from keyrelay.doctor.case import Case
from keyrelay.errors import KeyrelayError
from keyrelay.store import facts_of_postgresql
from keyrelay.store.reading import ReadOnlyStore
from keyrelay.store.schema import HEAD

_ENTRIES = 200
_COUNTING_SECONDS = 1.0  # for each table
_COUNTING_SECONDS_IN_ALL = 6.0

Document = Any


async def schema(case: Case) -> Document:
    store = case.opened
    found = store.schema
    return {
        "engine": store.engine,
        "version": found.version,
        "floor": found.floor,
        "newest_known": HEAD,
        "tables": await store.tables(),
    }


async def tables(case: Case) -> Document:
    store = case.opened
    if store.engine == "postgresql":
        sizes = await facts_of_postgresql.table_sizes(store)
        return {"tables": [{"table": name, "rows": rows, "bytes": octets} for name, rows, octets in sizes]}
    ends = time.monotonic() + _COUNTING_SECONDS_IN_ALL
    told = []
    for name in await store.tables():
        number = await _number(store, name) if time.monotonic() < ends else None
        told.append({"table": name, "rows": number})
    return {
        "tables": told,
        **{what: await _pragma(store, what) for what in ("page_size", "page_count", "freelist_count")},
    }


async def _pragma(store: ReadOnlyStore, name: str) -> int:
    ((number,),) = await store.rows(f"PRAGMA {name}")
    return int(number)


async def _number(store: ReadOnlyStore, table: str) -> int | None:
    """None for a table that is too large to be counted now."""
    quoted = table.replace('"', '""')
    try:
        async with asyncio.timeout(_COUNTING_SECONDS):
            ((number,),) = await store.rows(f'SELECT COUNT(*) FROM "{quoted}"')  # noqa: S608 - a name from the schema
    except (TimeoutError, KeyrelayError):
        return None
    return int(number)


async def audit(case: Case) -> Document:
    """Neither who nor what: only which kind of thing was done, and when."""
    rows = await case.opened.rows(
        "SELECT id, at, category, operation, level FROM audit_entry ORDER BY id DESC LIMIT $1", _ENTRIES
    )
    return [
        {"id": number, "at": at, "category": _category(category), "operation": _operation(operation), "level": level}
        for number, at, category, operation, level in rows
    ]


def _category(number: int) -> str | int:
    return Category(number).title if number in set(Category) else number


def _operation(number: int) -> str | int:
    return Operation(number).title if number in set(Operation) else number
