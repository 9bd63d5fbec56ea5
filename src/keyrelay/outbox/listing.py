"""Looking at submissions: a page of those searched for, newest first, and one of them with its attempts.

However many there are, a page costs the same: every search goes along an index, and as far as a bound.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from keyrelay.errors import Unexpected, UnknownName
from keyrelay.outbox.letter import told
from keyrelay.outbox.model import STATES, Attempt, State
from keyrelay.outbox.records import COLUMNS, Kept, first_id, read_attempt, readable, stamp
from keyrelay.store.model import Reader, Row

MOST_ON_A_PAGE = 200
_MOST_RECIPIENTS = 1000  # on a page: a message may have hundreds
_MOST_ATTEMPTS = 100
_LOOKED_AT = 500  # of a recipient's messages in one statement, where more than the recipient is asked for
_MOST_LOOKS = 10

# An id is made when a message is handed in, and the message is taken in after that, with all who came meanwhile.
_TAKING_IN = timedelta(minutes=1)
_BEYOND_ALL = "g"  # no id, which is in hexadecimal digits, is after it
_SHAPE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; what is left out does not matter.

    ``recipient`` is one whole address, in any case. ``since`` and ``until`` are times of the wall clock at which
    a message was taken in; the first is included, the second is not.
    """

    states: frozenset[State] = frozenset()
    recipient: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what was found, newest first. ``next`` is what to give as ``after`` for more; None when that was all.

    A page may be shorter than was asked for, even empty, and still have a next one.
    """

    submissions: tuple[Kept, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Detail:
    """A submission with its newest attempts, the oldest of them first."""

    kept: Kept
    attempts: tuple[Attempt, ...]


def is_id(text: str) -> bool:
    """Whether it looks like the id of a submission."""
    return _SHAPE.fullmatch(text) is not None


def unknown() -> UnknownName:
    """What to raise when there is no submission of an id."""
    return UnknownName("There is no message of this id.", remedy="List the messages: keyrelay outbox list.")


async def find(reader: Reader, search: Search, *, after: str | None = None, limit: int = 50) -> Page:
    """A page of what is searched for. ``limit`` is from 1 to MOST_ON_A_PAGE. Raises StoreUnavailable."""
    limit = min(max(limit, 1), MOST_ON_A_PAGE)
    if search.recipient is None:
        sql, values = _newest(search, after, limit + 1)
        return _page(await reader.rows(sql, *values), limit)
    address = told(search.recipient)
    if address is None:  # nobody can have such an address
        return Page((), None)
    return await _of_recipient(reader, search, address.lower(), after, limit)


async def one(reader: Reader, name: str) -> Detail | None:
    """The submission of this id; None when there is none. Raises StoreUnavailable."""
    if not is_id(name):
        return None
    rows = await reader.rows(f"SELECT {COLUMNS} FROM message WHERE id = $1", name)  # noqa: S608 - constants
    if not rows:
        return None
    attempts = await reader.rows(_ATTEMPTS, name)
    return Detail(whole(rows[0]), tuple(read_attempt(row) for row in reversed(attempts)))


_ATTEMPTS = (
    "SELECT number, node, started_at, ended_at, said FROM attempt WHERE message = $1"  # noqa: S608 - constants
    f" ORDER BY number DESC LIMIT {_MOST_ATTEMPTS}"
)


def _page(rows: Sequence[Row], limit: int, *, further: str | None = None) -> Page:
    """``further``: where to go on when these rows are all on the page."""
    found: list[Kept] = []
    recipients = 0
    last = None
    for row in rows:
        kept = readable(row)
        recipients += 0 if kept is None else len(kept.submission.recipients)
        if len(found) == limit or (found and recipients > _MOST_RECIPIENTS):
            return Page(tuple(found), last)
        if kept is not None:
            found.append(kept)
        last = row[0]
    return Page(tuple(found), further)


def whole(row: Row) -> Kept:
    """What a row of COLUMNS says. Raises Unexpected when it is damaged."""
    kept = readable(row)
    if kept is None:
        raise Unexpected("What is kept of this message is damaged.")
    return kept


# --- By state ------------------------------------------------------------------------------------------------


def _newest(search: Search, after: str | None, count: int) -> tuple[str, list[Any]]:
    """The statement that finds so many of the newest, in one look however many states there are.

    States and count stand in its text, where the planner of PostgreSQL can see that the index is the way.
    """
    conditions, values = _between(search, after)
    states = sorted(search.states) if search.states and len(search.states) < len(STATES) else [None]
    branches = [_branch(state, conditions, count) for state in states]
    if len(branches) == 1:
        return branches[0], values
    each = " UNION ALL ".join(f"SELECT * FROM ({branch}) AS found" for branch in branches)  # noqa: S608 - constants
    return f"{each} ORDER BY id DESC LIMIT {count}", values


def _branch(state: State | None, conditions: list[str], count: int) -> str:
    if state is not None:
        conditions = [f"state = '{state}'", *conditions]
    return f"SELECT {COLUMNS} FROM message WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT {count}"  # noqa: S608 - constants


def _between(search: Search, after: str | None, column: str = "id") -> tuple[list[str], list[Any]]:
    """The conditions that a search in time makes, and their values. ``column`` is the one that has the ids."""
    conditions, values = [f"{column} < $1"], [after or _BEYOND_ALL]
    if search.until is not None:
        until = min(max(search.until, _FIRST), _LAST)
        values[0] = min(values[0], first_id(until + _MILLISECOND))
        conditions.append(f"submitted_at < ${_add(values, stamp(until))}")
    if search.since is not None:
        conditions.append(f"{column} >= ${_add(values, _lowest(search))}")
        conditions.append(f"submitted_at >= ${_add(values, stamp(search.since))}")
    return conditions, values


def _lowest(search: Search) -> str:
    """What no id of a message that is searched for is below."""
    return "" if search.since is None else first_id(max(search.since, _FIRST + _TAKING_IN) - _TAKING_IN)


def _add(values: list[Any], value: object) -> int:
    values.append(value)
    return len(values)


# --- By recipient --------------------------------------------------------------------------------------------


async def _of_recipient(reader: Reader, search: Search, address: str, after: str | None, limit: int) -> Page:
    """Along the recipient's messages, in steps: there may be many of which none is in the state asked for."""
    conditions, values = _between(search, after, "message")
    lowest = _lowest(search)
    rows: list[Row] = []
    for _ in range(_MOST_LOOKS):
        floor = await _floor(reader, address, values[0])
        sql, given = _look(search, conditions, values, address, floor or "", limit + 1 - len(rows))
        rows += await reader.rows(sql, *given)
        if len(rows) > limit or floor is None or floor <= lowest:
            floor = None
            break
        values[0] = floor
        await asyncio.sleep(0)  # SQLite answers in this very thread
    return _page(rows, limit, further=floor)


async def _floor(reader: Reader, address: str, before: str) -> str | None:
    """The id as far as which one look goes; None when it goes to the end."""
    rows = await reader.rows(_FLOOR, address, before)
    return rows[0][0] if rows else None


_FLOOR = (
    "SELECT message FROM message_recipient WHERE address = $1 AND message < $2 ORDER BY message DESC"  # noqa: S608 - a constant
    f" LIMIT 1 OFFSET {_LOOKED_AT - 1}"
)


def _look(  # noqa: PLR0913, PLR0917 - what it is made of
    search: Search, conditions: list[str], values: list[Any], address: str, floor: str, count: int
) -> tuple[str, list[Any]]:
    of_states = f"state IN ({', '.join(repr(state) for state in sorted(search.states))})" if search.states else "TRUE"
    sql = (
        f"SELECT {COLUMNS} FROM message_recipient JOIN message ON id = message WHERE address = ${len(values) + 1}"  # noqa: S608 - constants
        f" AND message >= ${len(values) + 2} AND {' AND '.join(conditions)} AND {of_states}"
        f" ORDER BY message DESC LIMIT {count}"
    )
    return sql, [*values, address, floor]
