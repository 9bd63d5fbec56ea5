"""How the chain grows: the end is locked, entries are linked to it, and the new end is sealed.

Written as parts of a transaction that is a generator, so that every kind of transaction writes the same chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from keyrelay.audit.chain import COLUMNS, HEAD, Head, Signer, hash_of
from keyrelay.audit.model import Actor, Deed
from keyrelay.errors import TrailBroken
from keyrelay.store.model import Work

_INSERT = (
    f"INSERT INTO audit_entry ({', '.join(COLUMNS)}, hash, signature) VALUES"  # noqa: S608 - names of columns
    f" ({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 3))})"
)
# What locks the row: reading it alone could miss the entry of another node that is just being committed.
_LOCK = f"UPDATE audit_head SET last = last WHERE id = 1 RETURNING {HEAD}"  # noqa: S608 - names of columns
_SEAL = "UPDATE audit_head SET last = $1, hash = $2, floor = $3, floor_hash = $4, seal = $5 WHERE id = 1"
_LONGEST = 1000  # characters of what callers have chosen


def found() -> Work[Head]:
    """The end of the chain as it is, which nobody else moves before this transaction is over."""
    (row,) = yield _LOCK, ()
    return Head(*row)


def locked(signer: Signer) -> Work[Head]:
    """The same, and that it holds.

    Raises TrailBroken when somebody without the key has moved it: sealed anew, nobody could see that any more.
    """
    head = yield from found()
    if not signer.seals(head):
        raise TrailBroken("The end of the audit trail was changed by somebody else than keyrelay; nothing was done.")
    return head


def linked(signer: Signer, head: Head, by: Actor, deeds: Iterable[Deed]) -> Work[Head]:
    """Add entries to the end. Gives the new one, which is not sealed yet."""
    last, hashed = head.last, head.hash
    for deed in deeds:
        last += 1
        values = _values(last, deed.by or by, deed)
        hashed = hash_of(hashed, values)
        yield _INSERT, (*values, hashed, signer.signature(hashed))
    return replace(head, last=last, hash=hashed)


def sealed(signer: Signer, head: Head) -> Work[None]:
    """Write down where the chain ends and begins now."""
    yield _SEAL, (head.last, head.hash, head.floor, head.floor_hash, signer.seal(head))


def _values(number: int, by: Actor, deed: Deed) -> tuple[Any, ...]:
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    details: Mapping[str, Any] = {"details": deed.details, "changes": deed.changes}
    return (
        *(number, at, int(deed.category), int(deed.operation), int(deed.level)),
        *(_bounded(by.name), by.address and _bounded(by.address), str(deed.kind)),
        *(deed.name and _bounded(deed.name), deed.object and _bounded(deed.object)),
        json.dumps(details),
    )


def _bounded(text: str) -> str:
    """Text that every database can keep, of a bounded length."""
    return "".join("\ufffd" if each == "\0" or "\ud800" <= each <= "\udfff" else each for each in text[:_LONGEST])
