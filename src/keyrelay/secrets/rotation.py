"""``keyrelay keys rotate``: a new data key, every secret and content encrypted with it, the old keys thrown away.

Each step is one transaction that leaves everything readable, so it may be interrupted anywhere; the next rotation
takes along what an interrupted one left behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring, Place, Sealed
from keyrelay.store.model import Change, Conflict, Store

_BATCH = 50
# Where the key belongs that signs the audit trail.
AUDIT_KEY = Place("audit_head", "1", "audit_key", "audit")

# Encrypts what somebody else keeps with older keys, and gives how much it was.
Reseal = Callable[[Store, Keyring], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did: the key in use now, secrets encrypted anew, keys whose master changed, keys thrown away.

    ``contents`` of messages were encrypted anew.
    """

    key_id: int
    resealed: int
    rewrapped: int
    dropped: int
    contents: int = 0


class Witness(Protocol):
    """Tells the audit trail of a rotation, within its first and its last transaction."""

    async def started(self, change: Change, key_id: int, rewrapped: int) -> None: ...
    async def ended(self, change: Change, rotated: Rotated) -> None: ...


async def rotate(
    store: Store,
    keyring: Keyring,
    progress: Callable[[int], None] = lambda _: None,
    reseal_contents: Reseal | None = None,
    witness: Witness | None = None,
) -> Rotated:
    """Run a whole rotation; ``progress`` is told the number of secrets encrypted anew so far.

    Without ``reseal_contents`` those of messages keep their keys, and these are not thrown away.
    """
    async with store.change("keys") as change:
        rewrapped = await keyring.rewrap(change)
        key_id = await keyring.add_key(change)
        if witness is not None:
            await witness.started(change, key_id, rewrapped)
    await keyring.refresh(store)
    resealed = 0
    while batch := await _reseal_batch(store, keyring):
        resealed += batch
        progress(resealed)
    contents = 0 if reseal_contents is None else await reseal_contents(store, keyring)
    await _reseal_audit_key(store, keyring)
    return await _end(store, Rotated(keyring.current, resealed, rewrapped, 0, contents), witness)


async def _reseal_batch(store: Store, keyring: Keyring) -> int:
    # The others' topics too: their changes touch the same rows, in another order.
    async with store.change("access", "keys", "pam", "profile") as change:
        rows = await change.rows(
            "SELECT id, field, destination, key_id, sealed FROM stored_secret WHERE key_id < $1 LIMIT $2",
            keyring.current,
            _BATCH,
        )
        for row in rows:
            await stored.reseal(change, keyring, row)
    return len(rows)


async def _reseal_audit_key(store: Store, keyring: Keyring) -> None:
    # By itself: whoever writes entries holds this row last, and may hold one that the next step waits for.
    async with store.change("keys") as change:
        rows = await change.rows("SELECT key_id, sealed FROM audit_head WHERE key_id < $1", keyring.current)
        for key_id, sealed in rows:
            anew = keyring.seal(keyring.open(Sealed(key_id, bytes(sealed)), AUDIT_KEY), AUDIT_KEY)
            await change.run("UPDATE audit_head SET key_id = $1, sealed = $2 WHERE id = 1", anew.key_id, anew.content)


async def _end(store: Store, rotated: Rotated, witness: Witness | None) -> Rotated:
    """Throw the keys away that nobody needs any more."""
    for drops in (True, False):
        try:
            async with store.change("keys") as change:
                dropped = await change.run(_DROP, rotated.key_id) if drops else 0
                rotated = replace(rotated, dropped=dropped)
                if witness is not None:
                    await witness.ended(change, rotated)
        except Conflict:
            continue  # a node that had not heard of the new key just used the old one; the next rotation takes it along
        else:
            break
    return rotated


_DROP = (
    "DELETE FROM data_key WHERE id < $1 AND NOT EXISTS (SELECT 1 FROM stored_secret WHERE key_id = data_key.id)"
    " AND NOT EXISTS (SELECT 1 FROM message_content WHERE key_id = data_key.id)"
    " AND NOT EXISTS (SELECT 1 FROM audit_head WHERE key_id = data_key.id)"
)
