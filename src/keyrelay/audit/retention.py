"""Forgetting what is old of the audit trail, so that what is left can still be verified.

The number and the hash of the newest entry that is forgotten are sealed in the head: there the trail begins from then
on. Only what holds is forgotten; whatever somebody has changed stays for ``keyrelay audit verify`` to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from keyrelay.audit import growth
from keyrelay.audit.acting import KEYRELAY
from keyrelay.audit.chain import SELECT, Head, Signer, hash_of
from keyrelay.audit.model import Category, Deed, Kind, Operation
from keyrelay.errors import TrailBroken
from keyrelay.store.model import Reader, Row, Work

_AT_ONCE = 500  # entries
# Each time something is forgotten there is one more entry: so it is done once a day.
_AT_LEAST = timedelta(days=1)


async def is_due(reader: Reader, now: datetime, age: timedelta) -> bool:
    """Whether the oldest entry is so old that it is time to forget."""
    rows = await reader.rows("SELECT at FROM audit_entry ORDER BY id LIMIT 1")
    return bool(rows) and rows[0][0] < _written(now - age - _AT_LEAST)


def forget(signer: Signer, now: datetime, age: timedelta, last: int) -> Work[int]:
    """Forget some of the oldest entries that are older than that. Gives how many; 0 when there are no more.

    ``last``: the newest that may go, which was there before: each time leaves an entry of its own. Raises TrailBroken
    when they do not hold, or the head does not.
    """
    head = yield from growth.locked(signer)
    rows = yield f"{SELECT} WHERE id > $1 ORDER BY id LIMIT $2", (head.floor, _AT_ONCE)
    old = _old([row for row in rows if row[0] <= last], head, signer, _written(now - age))
    if not old:
        return 0
    newest = old[-1]
    yield "DELETE FROM audit_entry WHERE id <= $1", (newest[0],)
    shorter = replace(head, floor=newest[0], floor_hash=newest[-2])
    grown = yield from growth.linked(signer, shorter, KEYRELAY, [_deed(old)])
    yield from growth.sealed(signer, grown)
    return len(old)


def _old(rows: Sequence[Row], head: Head, signer: Signer, before: str) -> list[Row]:
    """The oldest entries, up to the first that is not older: the clock may have been turned."""
    old: list[Row] = []
    number, hashed = head.floor, head.floor_hash
    for *values, own, signature in rows:
        number += 1
        if values[0] != number or hash_of(hashed, values) != own or not signer.signs(own, signature):
            raise TrailBroken(f"Entry {number} of the audit trail does not hold, and so it is not forgotten.")
        if values[1] >= before:
            break
        hashed = own
        old.append((*values, own, signature))
    return old


def _deed(old: Sequence[Row]) -> Deed:
    details = {"first": old[0][0], "last": old[-1][0], "until": old[-1][1], "last_hash": old[-1][-2]}
    return Deed(Category.AUDIT, Operation.DELETED, Kind.AUDIT, "audit trail", "1", details=details)


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
