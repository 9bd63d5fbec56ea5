"""The numbers of roles and claims: given once, and never again to another."""

from __future__ import annotations

from typing import Literal

from keyrelay.store.model import Change


async def next_number(change: Change, kind: Literal["claim", "role"]) -> int:
    """A number that was never given before."""
    await change.run("UPDATE access_number SET last = last + 1 WHERE kind = $1", kind)
    ((number,),) = await change.rows("SELECT last FROM access_number WHERE kind = $1", kind)
    return int(number)
