"""Writing entries, each in the transaction whose deed it tells of: there is no change without its entry."""

from __future__ import annotations

import secrets

from keyrelay.audit import growth
from keyrelay.audit.acting import acting
from keyrelay.audit.chain import Signer, read_head
from keyrelay.audit.model import Actor, Deed
from keyrelay.errors import KeyUnknown
from keyrelay.secrets.keyring import Keyring, Sealed
from keyrelay.secrets.model import SecretText
from keyrelay.secrets.rotation import AUDIT_KEY
from keyrelay.store.model import Change, Reader, Store, Work

_KEY = "SELECT key_id, sealed FROM audit_head WHERE id = 1"
_ENTRIES = "SELECT 1 FROM audit_entry LIMIT 1"
_REMEDY = (
    "Restore the tables audit_head and data_key from the backup that belongs to this database: nothing can be changed "
    "as long as nothing can be recorded."
)


class Journal:
    """Writes to the audit trail of this database."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._signer: Signer | None = None

    async def prepare(self, store: Store) -> None:
        """Make the key that signs, if there is none yet. Every node does at its start.

        A trail that has lost its key gets no other one: what is there could not be told from what somebody made up.
        """
        if (await store.rows(_KEY))[0][0] is not None:
            return
        async with store.change("keys") as change:
            head = await read_head(change)
            if (await change.rows(_KEY))[0][0] is not None or head.last > 0 or await change.rows(_ENTRIES):
                return  # another node was faster, or it is lost
            key = SecretText(secrets.token_hex(32))
            sealed = self._keyring.seal(key, AUDIT_KEY)
            await change.run(
                "UPDATE audit_head SET key_id = $1, sealed = $2, seal = $3 WHERE id = 1",
                *(sealed.key_id, sealed.content, Signer(key).seal(head)),
            )

    async def write(self, change: Change, *deeds: Deed) -> None:
        """Add entries by whoever acts here (``acting``), within a transaction and after all else that it locks.

        From here on, transactions that write entries run one after the other on all nodes: a chain has one end.
        Raises KeyUnknown when the key that signs cannot be had, and TrailBroken when somebody has moved the end.
        """
        await self.signer(change)
        work = self.entries(acting(), *deeds)
        try:
            sql, values = next(work)
            while True:
                sql, values = work.send(await change.rows(sql, *values))
        except StopIteration:
            pass

    def entries(self, by: Actor, *deeds: Deed) -> Work[None]:
        """The same as a part of a transaction that is a generator.

        Who acts is given, because such a transaction may run in a thread that does not know. ``signer`` was asked for
        before: within, there is nobody to ask.
        """
        assert self._signer is not None  # noqa: S101 - as above
        head = yield from growth.locked(self._signer)
        head = yield from growth.linked(self._signer, head, by, deeds)
        yield from growth.sealed(self._signer, head)

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
            if key_id is None or content is None:
                raise KeyUnknown("The audit trail has no key to sign with.", remedy=_REMEDY)
            try:
                key = self._keyring.open(Sealed(key_id, bytes(content)), AUDIT_KEY)
            except KeyUnknown:
                raise KeyUnknown("The key that signs the audit trail cannot be opened.", remedy=_REMEDY) from None
            self._signer = Signer(key)
        return self._signer
