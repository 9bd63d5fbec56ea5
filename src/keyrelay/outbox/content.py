"""The content of messages, encrypted at rest like secrets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from keyrelay.errors import KeyUnknown
from keyrelay.relay.model import Content
from keyrelay.secrets.keyring import Keyring, Place, Sealed
from keyrelay.store.model import Reader, Row

TABLE = "message_content"


def seal(keyring: Keyring, message: str, content: bytes) -> Sealed:
    return keyring.seal_octets(content, _place(message))


async def reveal(reader: Reader, keyring: Keyring, message: str) -> Content | None:
    """The content of a message; None when it is not kept any more. Raises KeyUnknown when it cannot be opened."""
    statement = "SELECT message, key_id, sealed FROM message_content WHERE message = $1"
    rows = await reader.rows(statement, message)
    if rows and not keyring.holds(rows[0][1]):
        await keyring.reload(reader)
        if not keyring.holds(rows[0][1]):  # a rotation has come to its end between the two reads
            rows = await reader.rows(statement, message)
    return _opened(keyring, rows[0]) if rows else None


async def reveal_all(reader: Reader, keyring: Keyring, messages: Sequence[str]) -> dict[str, Content]:
    """The contents of several messages, in one look. Those that cannot be had this way are left out."""
    found: dict[str, Content] = {}
    places = 1 << max(len(messages) - 1, 0).bit_length()  # few sizes, so few statements
    names = [*messages, *[messages[-1]] * (places - len(messages))]
    for row in await reader.rows(_several(places), *names):
        with suppress(KeyUnknown):
            found[row[0]] = _opened(keyring, row)
    return found


@cache
def _several(places: int) -> str:
    marks = ", ".join(f"${number}" for number in range(1, places + 1))
    return f"SELECT message, key_id, sealed FROM message_content WHERE message IN ({marks})"  # noqa: S608 - only $1, $2 …


def _opened(keyring: Keyring, row: Row) -> Content:
    message, key_id, sealed = row
    return Content.proven(keyring.open_octets(Sealed(key_id, sealed), _place(message)))


def _place(message: str) -> Place:
    return Place(TABLE, message, "content", "")
