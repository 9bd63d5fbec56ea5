"""Writing entries, each in the transaction whose deed it tells of: there is no change without its entry."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from keyrelay.audit.acting import acting
from keyrelay.audit.chain import COLUMNS, Head, Signer, hash_of
from keyrelay.audit.model import Actor, Deed
from keyrelay.errors import KeyUnknown
from keyrelay.secrets.keyring import Keyring, Sealed
from keyrelay.secrets.model import SecretText
from keyrelay.secrets.rotation import AUDIT_KEY
from keyrelay.store.model import Change, Reader, Store

_KEY = "SELECT key_id, sealed FROM audit_head WHERE id = 1"
_INSERT = (
    f"INSERT INTO audit_entry ({', '.join(COLUMNS)}, hash, signature) VALUES"  # noqa: S608 - names of columns
    f" ({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 3))})"
)
_LONGEST = 1000  # characters of what callers have chosen


class Journal:
    """Writes to the audit trail of this database."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._signer: Signer | None = None

    async def prepare(self, store: Store) -> None:
        """Make the key that signs, if there is none yet. Every node does at its start."""
        if (await store.rows(_KEY))[0][0] is not None:
            return
        async with store.change("keys") as change:
            if (await change.rows(_KEY))[0][0] is not None:
                return  # another node was faster
            key = SecretText(secrets.token_hex(32))
            sealed = self._keyring.seal(key, AUDIT_KEY)
            seal = Signer(key).seal(await read_head(change))
            await change.run(
                "UPDATE audit_head SET key_id = $1, sealed = $2, seal = $3 WHERE id = 1",
                *(sealed.key_id, sealed.content, seal),
            )

    async def write(self, change: Change, *deeds: Deed) -> None:
        """Add entries by whoever acts here (``acting``), within a transaction and after all else that it locks.

        From here on, transactions that write entries run one after the other on all nodes: a chain has one end.
        Raises KeyUnknown when the key that signs cannot be had.
        """
        # What locks the row: reading it alone could miss the entry of another node that is just being committed.
        await change.run("UPDATE audit_head SET last = last WHERE id = 1")
        head = await read_head(change)
        signer = await self.signer(change)
        last, hashed = head.last, head.hash
        for deed in deeds:
            last += 1
            values = _values(last, acting(), deed)
            hashed = hash_of(hashed, values)
            await change.run(_INSERT, *values, hashed, signer.signature(hashed))
        grown = replace(head, last=last, hash=hashed)
        await change.run(
            "UPDATE audit_head SET last = $1, hash = $2, seal = $3 WHERE id = 1", last, hashed, signer.seal(grown)
        )

    async def pseudonym(self, reader: Reader, text: str) -> str:
        """What stands for a name that must not be readable in the database. Raises StoreUnavailable."""
        try:
            signer = await self.signer(reader)
        except KeyUnknown:  # nobody is kept out, and no mail refused, because the trail has lost its key
            signer = Signer(SecretText(""))
        return signer.pseudonym(text)

    async def signer(self, reader: Reader) -> Signer:
        """What signs, and checks signatures. Raises KeyUnknown."""
        if self._signer is None:
            rows = await reader.rows(_KEY)
            if not self._keyring.holds(rows[0][0]):
                await self._keyring.reload(reader)
                rows = await reader.rows(_KEY)  # a rotation may have come to its end between the two reads
            ((key_id, content),) = rows
            if key_id is None:
                raise KeyUnknown("The audit trail has no key to sign with.")
            self._signer = Signer(self._keyring.open(Sealed(key_id, bytes(content)), AUDIT_KEY))
        return self._signer


async def read_head(reader: Reader) -> Head:
    (row,) = await reader.rows("SELECT last, hash, floor, floor_hash, seal FROM audit_head WHERE id = 1")
    return Head(*row)


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
