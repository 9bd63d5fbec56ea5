"""Going on after somebody has moved the end of the trail: with an entry that says so, for good."""

from __future__ import annotations

from dataclasses import replace

from keyrelay.audit import growth
from keyrelay.audit.chain import Signer
from keyrelay.audit.model import Actor, Category, Deed, Kind, Level, Operation
from keyrelay.errors import Unsuitable
from keyrelay.store.model import Work


def accepted(signer: Signer, by: Actor, broken: str) -> Work[int]:
    """Seal the trail behind its newest entry, whatever that is. Gives the number of the entry that tells of it.

    ``broken``: what was found, in one sentence. Raises Unsuitable when the seal holds: then nothing keeps anybody from
    anything, and an entry that is broken stays so.
    """
    head = yield from growth.found()
    if signer.seals(head):
        raise Unsuitable("The head of the audit trail holds.", remedy="There is nothing that has to be accepted.")
    rows = yield "SELECT id, hash FROM audit_entry ORDER BY id DESC LIMIT 1", ()
    last, hashed = rows[0] if rows else (head.floor, head.floor_hash)
    details = {"broken": broken, "last": head.last, "hash": head.hash, "floor": head.floor}
    deed = Deed(
        *(Category.AUDIT, Operation.RESET, Kind.AUDIT, "audit trail", "1", Level.FAILURE),
        details=details,
    )
    grown = yield from growth.linked(signer, replace(head, last=last, hash=hashed), by, [deed])
    yield from growth.sealed(signer, grown)
    return grown.last
