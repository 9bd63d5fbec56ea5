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
_BY_ID = "SELECT id, key_id, sealed FROM stored_secret WHERE id = $1"
_BATCH = 500


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
    found = await reveal_found(reader, keyring, _BY_ID, source.id, field=field, destination=destination)
    if found is None:
        raise SecretGone("A stored secret has been erased.")
    return found


async def reveal_found(
    reader: Reader, keyring: Keyring, statement: str, *values: object, field: str, destination: str
) -> SecretText | None:
    """Open the stored secret whose id, key_id and sealed a statement gives; None when it gives none.

    Raises KeyUnknown as ``reveal`` does.
    """
    # Field and destination are the user's, never the row's: whoever writes to the database must not name them.
    rows = await reader.rows(statement, *values)
    if rows and not keyring.holds(rows[0][1]):
        await keyring.reload(reader)
        if not keyring.holds(rows[0][1]):  # a rotation has come to its end between the two reads
            rows = await reader.rows(statement, *values)
    if not rows:
        return None
    row, key_id, content = rows[0]
    return keyring.open(Sealed(key_id, bytes(content)), Place(TABLE, row, field, destination))


async def missing(change: Change, ids: Collection[str]) -> set[str]:
    """Those of ``ids`` that are not stored (any more)."""
    return {row for row in ids if not await change.rows("SELECT 1 FROM stored_secret WHERE id = $1", row)}


async def kept(reader: Reader, *, fields: Collection[str]) -> set[str]:
    """The ids of all stored secrets of these fields."""
    statement = f"SELECT id FROM stored_secret WHERE field IN ({_places(fields)})"  # noqa: S608 - only $1, $2 …
    rows = await reader.rows(statement, *fields)
    return {row for (row,) in rows}


async def erase(change: Change, ids: Collection[str]) -> None:
    """Erase the stored secrets that are named."""
    rest = list(ids)
    while rest:
        batch, rest = rest[:_BATCH], rest[_BATCH:]
        statement = f"DELETE FROM stored_secret WHERE id IN ({_places(batch)})"  # noqa: S608 - only $1, $2 …
        await change.run(statement, *batch)


async def erase_all_but(change: Change, ids: Collection[str], *, fields: Collection[str]) -> None:
    """Erase every stored secret of these fields that is not named."""
    await erase(change, (await kept(change, fields=fields)).difference(ids))


def _places(values: Collection[str]) -> str:
    return ", ".join(f"${number}" for number in range(1, len(values) + 1))


async def reseal(change: Change, keyring: Keyring, row: Row) -> None:
    """Encrypt one row (id, field, destination, key_id, sealed) with the current data key."""
    name, field, destination, key_id, content = row
    place = Place(TABLE, name, field, destination)
    sealed = keyring.seal(keyring.open(Sealed(key_id, bytes(content)), place), place)
    await change.run(
        "UPDATE stored_secret SET key_id = $1, sealed = $2 WHERE id = $3", sealed.key_id, sealed.content, name
    )
