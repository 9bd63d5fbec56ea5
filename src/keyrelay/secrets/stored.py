"""The table of stored secrets: put one in, open one, erase those nobody needs."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import UTC, datetime

from keyrelay.errors import SecretGone
from keyrelay.secrets.keyring import Keyring, Place, Sealed
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.store.model import Change, Reader, Row

TABLE = "stored_secret"


async def keep(change: Change, keyring: Keyring, text: SecretText, *, field: str, destination: str) -> Stored:
    """Store a secret for one field and one destination."""
    row = str(uuid.uuid4())
    sealed = keyring.seal(text, Place(TABLE, row, field, destination))
    await change.run(
        "INSERT INTO stored_secret (id, field, destination, key_id, sealed) VALUES ($1, $2, $3, $4, $5)",
        row,
        field,
        destination,
        sealed.key_id,
        sealed.content,
    )
    return Stored(row, datetime.now(UTC))


async def reveal(reader: Reader, keyring: Keyring, source: Stored, *, field: str, destination: str) -> SecretText:
    """Open a stored secret for the field it is used in and the destination it is about to be sent to.

    Raises SecretGone when it was erased, and KeyUnknown when it was given for another field or destination.
    """
    # Field and destination are the user's, never the row's: whoever writes to the database must not name them.
    rows = await reader.rows("SELECT key_id, sealed FROM stored_secret WHERE id = $1", source.id)
    if not rows:
        raise SecretGone("A stored secret has been erased.")
    key_id, content = rows[0]
    if not keyring.holds(key_id):
        await keyring.reload(reader)
    if not keyring.holds(key_id):  # a rotation has come to its end between the two reads
        ((key_id, content),) = await reader.rows("SELECT key_id, sealed FROM stored_secret WHERE id = $1", source.id)
    return keyring.open(Sealed(key_id, bytes(content)), Place(TABLE, source.id, field, destination))


async def missing(change: Change, ids: Collection[str]) -> set[str]:
    """Those of ``ids`` that are not stored (any more)."""
    return {row for row in ids if not await change.rows("SELECT 1 FROM stored_secret WHERE id = $1", row)}


async def erase(change: Change, ids: Collection[str]) -> None:
    """Erase the stored secrets that are named."""
    for row in ids:
        await change.run("DELETE FROM stored_secret WHERE id = $1", row)


async def erase_all_but(change: Change, ids: Collection[str], *, fields: Collection[str]) -> None:
    """Erase every stored secret of these fields that is not named."""
    rows = await change.rows("SELECT id, field FROM stored_secret")
    await erase(change, [row for row, field in rows if field in fields and row not in ids])


async def reseal(change: Change, keyring: Keyring, row: Row) -> None:
    """Encrypt one row (id, field, destination, key_id, sealed) with the current data key."""
    name, field, destination, key_id, content = row
    place = Place(TABLE, name, field, destination)
    sealed = keyring.seal(keyring.open(Sealed(key_id, bytes(content)), place), place)
    await change.run(
        "UPDATE stored_secret SET key_id = $1, sealed = $2 WHERE id = $3", sealed.key_id, sealed.content, name
    )
