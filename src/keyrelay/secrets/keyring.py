"""Encryption at rest: data keys, each wrapped by the master key, encrypt the values.

AES-256-GCM with a random nonce. The associated data names the place a value belongs to (table, row, field,
destination, key), so a ciphertext that is moved anywhere else does not open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _text

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyrelay.errors import KeyUnknown, MasterKeyMissing, MasterKeyWrong
from keyrelay.secrets.master import MasterKey
from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Change, Reader, Row, Store

_NONCE_BYTES = 12


class Place(msgspec.Struct, frozen=True):
    """Where a sealed value belongs; it opens nowhere else."""

    table: str
    row: str
    field: str
    destination: str

    def associated_data(self, key_id: int) -> bytes:
        # What json.dumps makes of it, in a fraction of the time.
        table, row, field, destination = self.table, self.row, self.field, self.destination
        return f"[{_text(table)}, {_text(row)}, {_text(field)}, {_text(destination)}, {key_id}]".encode()


class Sealed(msgspec.Struct, frozen=True):
    """A ciphertext (nonce first) and the data key it was made with."""

    key_id: int
    content: bytes


@dataclass(frozen=True, slots=True)
class DataKey:
    """What may be told of a data key."""

    id: int
    made_at: datetime


async def data_keys(reader: Reader) -> list[DataKey]:
    """Those that the database has, the newest first."""
    rows = await reader.rows("SELECT id, made_at FROM data_key ORDER BY id DESC")
    return [DataKey(number, datetime.fromisoformat(at)) for number, at in rows]


class Keyring:
    """The data keys of this database, opened. The newest one seals."""

    def __init__(self, masters: tuple[MasterKey, ...]) -> None:
        """``masters``: the master key, then the previous one while it is being replaced."""
        self._masters = {master.id: master for master in masters}
        self._newest = masters[0] if masters else None
        self._keys: Mapping[int, AESGCM] = {}
        self._mark = -1

    @property
    def current(self) -> int:
        """Id of the data key that seals."""
        return max(self._keys)

    def holds(self, key_id: int) -> bool:
        return key_id in self._keys

    async def refresh(self, store: Store) -> None:
        """Learn of keys that another process made, if the store's marks say that there are any.

        Raises MasterKeyMissing or MasterKeyWrong when a key of the database cannot be opened.
        """
        mark = store.marks["keys"]
        if mark != self._mark:
            await self.reload(store)
            self._mark = mark

    async def reload(self, reader: Reader) -> None:
        """Read the keys as they are now. Raises what ``refresh`` raises."""
        rows = await reader.rows("SELECT id, master_id, wrapped FROM data_key")
        self._keys = {row[0]: self.open_key(row) for row in rows}

    def seal(self, text: SecretText, place: Place) -> Sealed:
        return self.seal_octets(text.reveal().encode(), place)

    def seal_octets(self, octets: bytes, place: Place) -> Sealed:
        key_id = self.current
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(key_id, nonce + self._keys[key_id].encrypt(nonce, octets, place.associated_data(key_id)))

    def open(self, sealed: Sealed, place: Place) -> SecretText:
        """Raise KeyUnknown when the value's data key is gone, or the value is not the one sealed for this place."""
        return SecretText(self.open_octets(sealed, place).decode())

    def open_octets(self, sealed: Sealed, place: Place) -> bytes:
        """As ``open``."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise KeyUnknown(f"The {place.field} was encrypted with data key {sealed.key_id}, which is not there.")
        nonce, content = sealed.content[:_NONCE_BYTES], sealed.content[_NONCE_BYTES:]
        try:
            return key.decrypt(nonce, content, place.associated_data(sealed.key_id))
        except (InvalidTag, ValueError):  # a ValueError says that it is too short to be one
            raise KeyUnknown(
                f"The stored {place.field} is damaged or was moved here from another place.",
                remedy="Give the secret again; if the database was edited or restored in parts, restore it whole.",
            ) from None

    async def add_key(self, change: Change) -> int:
        """Make a new data key, wrapped by the newest master key, and give its id."""
        if self._newest is None:
            raise MasterKeyMissing("There is no master key.")
        ((key_id,),) = await change.rows("SELECT COALESCE(MAX(id), 0) + 1 FROM data_key")
        key = AESGCM.generate_key(bit_length=256)
        await change.run(
            "INSERT INTO data_key (id, master_id, wrapped, made_at) VALUES ($1, $2, $3, $4)",
            key_id,
            self._newest.id,
            _wrap(key, key_id, self._newest),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return int(key_id)

    async def rewrap(self, change: Change) -> int:
        """Protect every data key with the newest master key; give the number that another one protected."""
        assert self._newest is not None  # noqa: S101 - a keyring that could open its keys has one
        rows = await change.rows("SELECT id, master_id, wrapped FROM data_key WHERE master_id <> $1", self._newest.id)
        for key_id, master_id, wrapped in rows:
            key = _unwrap(bytes(wrapped), key_id, self._masters[master_id])
            await change.run(
                "UPDATE data_key SET master_id = $1, wrapped = $2 WHERE id = $3",
                self._newest.id,
                _wrap(key, key_id, self._newest),
                key_id,
            )
        return len(rows)

    def open_key(self, row: Row) -> AESGCM:
        """A data key by its id, master and wrapped octets. Raises MasterKeyMissing or MasterKeyWrong."""
        key_id, master_id, wrapped = row
        if not self._masters:
            raise MasterKeyMissing("The database holds encrypted secrets, and no master key was found.")
        master = self._masters.get(master_id)
        if master is None:
            raise MasterKeyWrong("The master key is not the one that protects this database.")
        return AESGCM(_unwrap(bytes(wrapped), key_id, master))


def _wrap(key: bytes, key_id: int, master: MasterKey) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(master.key).encrypt(nonce, key, _wrapping(key_id, master))


def _unwrap(wrapped: bytes, key_id: int, master: MasterKey) -> bytes:
    try:
        return AESGCM(master.key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _wrapping(key_id, master))
    except (InvalidTag, ValueError):
        raise MasterKeyWrong(
            f"Data key {key_id} in the database is damaged.", remedy="Restore the database from a backup."
        ) from None


def _wrapping(key_id: int, master: MasterKey) -> bytes:
    return json.dumps(["data_key", key_id, master.id]).encode()
