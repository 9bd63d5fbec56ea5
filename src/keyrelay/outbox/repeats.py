"""What was answered to a submission that comes again with its Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.outbox.queue import Order
from keyrelay.store.model import Reader


@dataclass(frozen=True, slots=True)
class Earlier:
    """A submission that was taken in before. ``message_id`` is None when nothing is kept of it any more."""

    id: str
    message_id: str | None


async def earlier(reader: Reader, order: Order) -> Earlier | None:
    """What was taken in with the key of this order, if the same was submitted with it. Raises StoreUnavailable."""
    if order.key is None:
        return None
    rows = await reader.rows(
        "SELECT k.digest, k.message, m.message_id FROM submission_key k LEFT JOIN message m ON m.id = k.message"
        " WHERE k.key = $1",
        order.name,
    )
    if not rows or rows[0][0] != order.key.digest:
        return None
    return Earlier(rows[0][1], rows[0][2])
