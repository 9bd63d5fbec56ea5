"""What was written down beside the messages goes when nobody needs it any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from keyrelay.outbox.budget import Ledger, Limit, Limits, Sum
from keyrelay.outbox.office import Office
from keyrelay.outbox.records import many
from keyrelay.store.model import Work

_MOST_AT_ONCE = 500
_LATE = timedelta(minutes=1)  # by which nodes may differ about the time
_GONE = "gone"  # in the place of a node: what all those that are gone have counted


def _older(table: str, key: str, column: str) -> str:
    """The statement that does away with rows of a table that are older than $1, at most $2 of them."""
    return (
        f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608 - constants
        f" (SELECT {key} FROM {table} WHERE {column} < $1 ORDER BY {column} LIMIT $2) RETURNING 1"
    )


KEYS = _older("submission_key", "key", "made_at")
# Each desk's oldest come first in the order of the key, which costs no index.
EVENTS = (
    "DELETE FROM outbox_event WHERE (node, serial) IN"
    " (SELECT node, serial FROM outbox_event WHERE at < $1 ORDER BY node, serial LIMIT $2) RETURNING 1"
)
MINUTES = _older("outbox_minute", "minute, node, what", "minute")


def older(statement: str, than: int) -> Work[tuple[int, bool]]:
    """Run one of these. Gives how many rows went, and whether there may be more."""
    rows = yield statement, (than, _MOST_AT_ONCE)
    return len(rows), len(rows) == _MOST_AT_ONCE


def sums(now: datetime) -> Work[int]:
    """Do away with what counts in no window any more. Gives how many rows."""
    rows = yield "SELECT counted, seconds, part, amount FROM outbox_sum", ()
    kept = tuple(Sum(row[0], timedelta(seconds=row[1]), row[2], row[3]) for row in rows)
    # By their own windows: another node may still be told of limits that this one does not know.
    limits = Limits(rates=tuple(Limit(*each) for each in {(one.counted, 1, one.window) for one in kept}))
    counting = set(Ledger(sums=kept).swept(limits, now - _LATE).sums)
    spent = [one for one in kept if one not in counting]
    rows = [(one.counted, int(one.window.total_seconds()), one.part) for one in spent]
    yield from many(
        "DELETE FROM outbox_sum WHERE (counted, seconds, part) IN (", rows, ")", types="TEXT INTEGER BIGINT"
    )
    return len(spent)


def tallies(office: Office) -> Work[int]:
    """Put together what nodes have counted that are gone. Gives how many rows went."""
    present = {name for (name,) in (yield "SELECT id FROM node", ())} | {office.node}
    rows = yield "SELECT node, state FROM outbox_tally ORDER BY node, state", ()
    # Should one of them not be gone after all, it begins new rows, and the sums stay right.
    gone = [(node, state) for node, state in rows if node != _GONE and _owner(node) not in present]
    merged: dict[str, tuple[int, int]] = {}
    for statement in many(_TAKE_TALLIES, gone, _TAKEN_TALLIES, types="TEXT TEXT"):
        for state, messages, octets in (yield statement):
            before = merged.get(state, (0, 0))
            merged[state] = before[0] + messages, before[1] + octets
    yield from many(_ADD_TALLIES, [(_GONE, state, *merged[state]) for state in sorted(merged)], _ADDED_TALLIES)
    return len(gone)


def _owner(node: str) -> str:
    """The node whose desk it is."""
    return node.rpartition(".")[0].removesuffix(".house")


_TAKE_TALLIES = "DELETE FROM outbox_tally WHERE (node, state) IN ("
_TAKEN_TALLIES = ") RETURNING state, messages, octets"
_ADD_TALLIES = "INSERT INTO outbox_tally (node, state, messages, octets)"
_ADDED_TALLIES = (
    "ON CONFLICT (node, state) DO UPDATE SET messages = outbox_tally.messages + excluded.messages,"
    " octets = outbox_tally.octets + excluded.octets"
)
