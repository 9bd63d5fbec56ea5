"""``keyrelay keys``: the keys that protect stored secrets and the contents of messages."""

from __future__ import annotations

import time
from collections.abc import Callable

from cyclopts import App

from keyrelay.audit.rotation import RotationWitness
from keyrelay.cli import terminal
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.rotation import Rotated
from keyrelay.secrets.rotation import rotate as run_rotation
from keyrelay.server import Node
from keyrelay.store.model import Store

app = App(name="keys")


@app.command
def rotate() -> None:
    """Encrypt every stored secret and the content of every message with a new key, and throw the old ones away.

    It may be interrupted at any point and started again; servers go on meanwhile. To change the master key, set the
    new one as KEYRELAY_MASTER_KEY and the old one as KEYRELAY_PREVIOUS_MASTER_KEY, restart every node, run this, and
    take the old one away.
    """

    async def work(node: Node) -> Rotated:
        return await run_rotation(
            *(node.store, node.keyring, lambda done: print(f"{done} secrets encrypted anew")),
            *(_reseal_contents, RotationWitness(node.journal)),
        )

    result = terminal.with_node(work)
    print(f"Data key {result.key_id} is in use; old keys thrown away: {result.dropped}.")
    if result.rewrapped:
        print("The new master key protects all keys; KEYRELAY_PREVIOUS_MASTER_KEY can go.")


async def _reseal_contents(store: Store, keyring: Keyring) -> int:
    from keyrelay.outbox.rotation import reseal

    ((number,),) = await store.rows("SELECT COUNT(*) FROM message_content WHERE key_id < $1", keyring.current)
    resealed = await reseal(store, keyring, _told(number))
    if resealed:
        print(f"{resealed} messages encrypted anew")
    ((left,),) = await store.rows("SELECT COUNT(*) FROM message_content WHERE key_id < $1", keyring.current)
    if left:
        print(f"{left} messages cannot be read, and keep their key.")
    return resealed


def _told(number: int) -> Callable[[int], None]:
    """Tells how far it has come, at most once a second."""
    told_at = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= 1:
            told_at = time.monotonic()
            print(f"{done} of {max(number, done)} messages encrypted anew", flush=True)

    return tell
