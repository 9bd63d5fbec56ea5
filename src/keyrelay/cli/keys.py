"""``keyrelay keys``: the keys that protect stored secrets."""

from __future__ import annotations

from cyclopts import App

from keyrelay.cli import terminal
from keyrelay.secrets.rotation import Rotated
from keyrelay.secrets.rotation import rotate as run_rotation
from keyrelay.server import Node

app = App(name="keys")


@app.command
def rotate() -> None:
    """Encrypt every stored secret with a new key, and throw the old ones away.

    It may be interrupted at any point and started again; servers go on meanwhile. To change the master key, set the
    new one as KEYRELAY_MASTER_KEY and the old one as KEYRELAY_PREVIOUS_MASTER_KEY, restart every node, run this, and
    take the old one away.
    """

    async def work(node: Node) -> Rotated:
        return await run_rotation(node.store, node.keyring, lambda done: print(f"{done} secrets encrypted anew"))

    result = terminal.with_node(work)
    print(f"Data key {result.key_id} is in use; old keys thrown away: {result.dropped}.")
    if result.rewrapped:
        print("The new master key protects all keys; KEYRELAY_PREVIOUS_MASTER_KEY can go.")
