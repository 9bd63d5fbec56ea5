"""A message handed in on the command line goes into the outbox, and is watched until the relay has answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from keyrelay.api.message_documents import message_document
from keyrelay.cli import typed_message
from keyrelay.cli.typed_message import File, Typed
from keyrelay.errors import KeyrelayError, NoProfile
from keyrelay.outbox import listing, repeats
from keyrelay.outbox.foresight import Foresight
from keyrelay.outbox.letter import Bounds, Letter
from keyrelay.outbox.model import WAITING
from keyrelay.outbox.queue import Key, Order
from keyrelay.outbox.records import Kept, stamp
from keyrelay.server import Node

_FIRST_LOOK = 0.05  # seconds
_LAST_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Handed:
    """All that was handed in. ``most``: how much it may be."""

    typed: Typed
    octets: bytes
    files: tuple[File, ...]
    most: Bounds
    priority: int
    send_after: datetime | None
    key: Key | None
    by: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of it. ``document`` is there when somebody looked, and something is kept of the message."""

    id: str
    repeated: bool
    somebody_sends: bool
    document: dict[str, Any] | None = None


async def take_in(node: Node, handed: Handed, *, look: bool) -> Taken:
    """Take it in: it is durable when this returns. Raises what KeyrelayError there is."""
    order = Order(handed.by, handed.priority, handed.send_after, handed.key)
    try:
        letter = await _letter(node, handed)
        receipt = await node.outbox.queue.submit(letter, order)
        name, repeated = receipt.id, receipt.repeated
    except KeyrelayError:
        # What was taken in is not refused when it comes again, whatever has changed meanwhile.
        if (before := await repeats.earlier(node.store, order)) is None:
            raise
        name, repeated = before.id, True
    taken = Taken(name, repeated, await _somebody_sends(node))
    return await _looked(node, taken) if look else taken


async def _letter(node: Node, handed: Handed) -> Letter:
    snapshot = await node.keeper.snapshot()
    if snapshot.profile is None:
        raise NoProfile("No profile is configured yet.")
    now = datetime.now(UTC)
    letter = typed_message.letter(handed.typed, handed.octets, handed.files, snapshot.profile, handed.most, now)
    await Foresight(node.outbox.mailer, node.store).require(letter, snapshot.tag)
    return letter


async def _somebody_sends(node: Node) -> bool:
    office = node.outbox.office
    if office.watch.own is None:
        await office.open()
    alive = "SELECT 1 FROM node WHERE works = 1 AND until > $1 LIMIT 1"
    return bool(await node.store.rows(alive, stamp(office.watch.now)))


async def wait_for(node: Node, taken: Taken, seconds: float) -> Taken:
    """Look again and again, until there is nothing more to wait for in so many seconds."""
    end = time.monotonic() + seconds
    pause = _FIRST_LOOK
    while True:
        detail = await listing.one(node.store, taken.id)
        left = end - time.monotonic()
        if detail is None or left <= 0 or not _may_end(node, detail.kept, left):
            return await _looked(node, taken)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LAST_LOOK)


def _may_end(node: Node, kept: Kept, seconds: float) -> bool:
    """Whether the relay may still answer in so many seconds."""
    until = node.outbox.office.watch.now + timedelta(seconds=seconds)
    return any(
        one.state == "sending" or (one.state in WAITING and one.next_at is not None and one.next_at <= until)
        for one in kept.shown.recipients
    )


async def _looked(node: Node, taken: Taken) -> Taken:
    detail = await listing.one(node.store, taken.id)
    if detail is None:
        return taken
    profile = (await node.keeper.snapshot()).profile
    return replace(taken, document=message_document(detail.kept, node.outbox.office.watch.clock, profile))
