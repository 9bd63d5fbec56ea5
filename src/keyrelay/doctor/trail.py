"""The audit trail: whether its head is sealed, and its newest entries are one unbroken chain."""

from __future__ import annotations

from keyrelay.audit.chain import COLUMNS, SELECT, Head, Signer, hash_of, read_head
from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.store.model import Reader, Row

_ENTRIES = 1000
_TRIES = 3
_WALK = "Keep a copy of the database, find out who could write to it, and walk through all with keyrelay audit verify."


async def trail(case: Case) -> Finding:
    node = case.wired
    ((key,),) = await node.store.rows("SELECT key_id FROM audit_head WHERE id = 1")
    if key is None:
        ((entries,),) = await node.store.rows("SELECT COUNT(*) FROM audit_entry")
        if entries:
            return failure("The audit trail has entries, and no key that has signed them.", _WALK)
        return warning("The audit trail has no key to sign with yet.", "The next start of keyrelay serve makes it.")
    signer = await node.journal.signer(node.store)
    head, rows, before = await _newest(node.store)
    if not signer.seals(head):
        return failure("The head of the audit trail was changed by somebody who has not its key.", _WALK)
    broken = _broken(signer, head, rows, before)
    if broken is not None:
        return failure(f"The audit trail is broken at entry {broken}.", _WALK)
    ((beyond,),) = await node.store.rows(
        "SELECT COUNT(*) FROM audit_entry WHERE id > $1", (await read_head(node.store)).last
    )
    if beyond:
        return failure("The audit trail has entries beyond its sealed head.", _WALK)
    return ok(f"The newest {len(rows)} of {head.last - head.floor} entries of the audit trail are one unbroken chain.")


async def _newest(reader: Reader) -> tuple[Head, list[Row], str | None]:
    """The head, the newest entries that it knows, and the hash before them; None when its entry is not there."""
    for _ in range(_TRIES):
        head = await read_head(reader)
        first = max(head.floor, head.last - _ENTRIES)
        rows = list(await reader.rows(f"{SELECT} WHERE id >= $1 AND id <= $2 ORDER BY id", first, head.last))
        if (await read_head(reader)).floor == head.floor:  # nobody forgets old entries meanwhile
            break
    if first == head.floor:
        return head, [row for row in rows if row[0] > first], head.floor_hash
    before = rows[0][len(COLUMNS)] if rows and rows[0][0] == first else None
    return head, [row for row in rows if row[0] > first], before


def _broken(signer: Signer, head: Head, rows: list[Row], before: str | None) -> int | None:
    """The number of the first entry that is not what it was."""
    number = max(head.floor, head.last - _ENTRIES)
    if before is None:
        return number
    for *values, hashed, signature in rows:
        number += 1
        if values[0] != number or hashed != hash_of(before, values) or not signer.signs(hashed, signature):
            return number
        before = hashed
    if number != head.last:
        return number + 1
    return None if before == head.hash else number
