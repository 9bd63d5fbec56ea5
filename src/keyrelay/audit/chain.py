"""The chain: each entry's hash covers the entry and the hash of the one before, and a keyed signature covers the hash.

Whoever can write to the database and has not the key can neither change, insert, delete nor reorder an entry without
breaking a hash or a signature; the seal of the head says how long the chain is, and where it begins.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass

from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Reader, Row

# As they are read from the database, and as they are hashed.
COLUMNS = ("id", "at", "category", "operation", "level", "actor", "address", "kind", "name", "object", "details")
SELECT = f"SELECT {', '.join(COLUMNS)}, hash, signature FROM audit_entry"  # noqa: S608 - names of columns
HEAD = "last, hash, floor, floor_hash, seal"


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends, and where it begins: the newest entry, and the newest one that is forgotten.

    Both by number and hash; 0 and "" while there is none. ``seal`` signs them.
    """

    last: int
    hash: str
    floor: int
    floor_hash: str
    seal: str


class Signer:
    """Signs hashes with the key of this database's audit trail."""

    def __init__(self, key: SecretText) -> None:
        self._key = hashlib.sha256(b"keyrelay audit signature\0" + key.reveal().encode()).digest()

    def signature(self, hashed: str) -> str:
        return self._mac(b"entry\0" + hashed.encode())

    def seal(self, head: Head) -> str:
        text = json.dumps([head.last, head.hash, head.floor, head.floor_hash])
        return self._mac(b"head\0" + text.encode())

    def pseudonym(self, text: str) -> str:
        """A name that is the same for the same text on every node, and tells nobody without the key what it was."""
        return self._mac(b"name\0" + text.encode("utf-8", "surrogatepass"))

    def signs(self, hashed: str, signature: str) -> bool:
        return hmac.compare_digest(self.signature(hashed).encode(), signature.encode())

    def seals(self, head: Head) -> bool:
        return hmac.compare_digest(self.seal(head).encode(), head.seal.encode())

    def _mac(self, text: bytes) -> str:
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def hash_of(before: str, values: Row) -> str:
    """The hash of an entry, by that of the entry before it and its values in the order of ``COLUMNS``."""
    text = json.dumps([before, *values], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def read_head(reader: Reader) -> Head:
    (row,) = await reader.rows(f"SELECT {HEAD} FROM audit_head WHERE id = 1")  # noqa: S608 - names of columns
    return Head(*row)
