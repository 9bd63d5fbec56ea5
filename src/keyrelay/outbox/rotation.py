"""The contents of messages encrypted anew with the newest data key, while mail goes in and out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from keyrelay.outbox import content
from keyrelay.outbox.records import many
from keyrelay.secrets.keyring import Keyring
from keyrelay.store.model import Conflict, Store, Work

_LOOKED_AT = 200  # messages
_MOST_OCTETS = 4 * 1024 * 1024  # in one transaction, or one message
_WALKS = 2  # the second one for what nodes took in meanwhile that had not heard of the new key yet
_LEAST_PAUSE = 0.01  # seconds in which others may write


async def reseal(store: Store, keyring: Keyring, progress: Callable[[int], None] = lambda _: None) -> int:
    """Encrypt every content anew that has an older key. Gives how many.

    ``progress`` is told how many so far. It may be interrupted anywhere: each content is readable at any time, with the
    key it names. One that cannot be opened is left as it is, and with it its key. Raises StoreUnavailable.
    """
    resealed = 0
    for _ in range(_WALKS):
        async for names in _with_older_keys(store, keyring):
            started = time.monotonic()
            resealed += await _reseal(store, keyring, names)
            progress(resealed)
            await asyncio.sleep(max(_LEAST_PAUSE, time.monotonic() - started))
    return resealed


async def _with_older_keys(store: Store, keyring: Keyring) -> AsyncIterator[Sequence[str]]:
    """The messages whose turn it is, in groups that a short transaction can take."""
    last = ""
    while True:
        await keyring.refresh(store)
        if not await store.rows("SELECT 1 FROM message_content WHERE key_id < $1 LIMIT 1", keyring.current):
            return
        names: list[str] = []
        octets = 0
        for name, size in await store.rows(_OLDER, keyring.current, last, _LOOKED_AT):
            octets += size
            if names and octets > _MOST_OCTETS:
                break
            names.append(name)
        if not names:
            return
        yield names
        last = names[-1]


async def _reseal(store: Store, keyring: Keyring, names: Sequence[str]) -> int:
    opened = await content.reveal_all(store, keyring, names)
    try:
        return await store.perform(_resealed(store, keyring, opened), length="long")
    except Conflict:  # another rotation has thrown the key away that was the newest a moment ago
        await keyring.reload(store)
        return await store.perform(_resealed(store, keyring, opened), length="long")


def _resealed(store: Store, keyring: Keyring, opened: Mapping[str, bytes]) -> Work[int]:
    free: set[str] = set()
    # Nobody is waited for: what a node is doing away with at this moment is gone soon, or comes up again.
    for statement in many(_LOCK, [(name,) for name in opened], f"){store.dialect.skip_locked}", types="TEXT"):
        free.update(name for (name,) in (yield statement))
    resealed = 0
    for name in sorted(free):
        sealed = content.seal(keyring, name, opened[name])
        rows = yield _WRITE, (sealed.key_id, sealed.content, name)
        resealed += len(rows)
    return resealed


# The plus keeps the database from going by the key, and from sorting all that is left each time.
_OLDER = (
    "SELECT message, length(sealed) FROM message_content WHERE +key_id < $1 AND message > $2 ORDER BY message LIMIT $3"
)
_LOCK = "SELECT message FROM message_content WHERE message IN ("
_WRITE = "UPDATE message_content SET key_id = $1, sealed = $2 WHERE message = $3 AND key_id < $1 RETURNING 1"
