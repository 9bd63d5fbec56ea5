"""What the audit trail tells of ``keyrelay keys rotate``: that it began, and what it had done when it ended."""

from __future__ import annotations

from collections.abc import Mapping

from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Category, Deed, Kind, Operation
from keyrelay.secrets.rotation import Rotated
from keyrelay.store.model import Change


class RotationWitness:
    """A ``Witness``. A beginning without an end is a rotation that was interrupted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def started(self, change: Change, key_id: int, rewrapped: int) -> None:
        details = {"step": "rotation started", "rewrapped": rewrapped}
        await self._journal.write(change, _deed(Operation.CREATED, key_id, details))

    async def ended(self, change: Change, rotated: Rotated) -> None:
        details = {
            "step": "rotation ended",
            "secrets": rotated.resealed,
            "contents": rotated.contents,
            "dropped": rotated.dropped,
        }
        await self._journal.write(change, _deed(Operation.COMPLETED, rotated.key_id, details))


def _deed(operation: Operation, key_id: int, details: Mapping[str, object]) -> Deed:
    return Deed(Category.SETTING, operation, Kind.KEY, f"data key {key_id}", str(key_id), details=details)
