"""Taking submissions in: durable when ``submit`` returns, and many of them with one commit.

Whoever comes while a transaction is under way, or waits for those of others, shares the next one. Nobody waits for
company.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime

import msgspec

from keyrelay.errors import KeyReused, StoreUnavailable
from keyrelay.outbox import content
from keyrelay.outbox.books import Books
from keyrelay.outbox.figures import Entrance
from keyrelay.outbox.letter import Letter
from keyrelay.outbox.office import Office
from keyrelay.outbox.records import due_at, many, new_id, stamp, written
from keyrelay.outbox.room import Room
from keyrelay.outbox.schedule import OutboxClock, enqueued
from keyrelay.secrets.keyring import Sealed
from keyrelay.store.model import Conflict, Length, Statement, Work

_MOST_AT_ONCE = 128  # messages in one transaction
_HEAVIEST, _HEAVY = 16 * 1024 * 1024, 1024 * 1024  # octets in one transaction, or one message
_WEIGHT_OF_RECIPIENT = 1024  # octets, for its rows
_MOST_ROTATIONS = 10  # of the keys, while one group is taken in
_MOST_WAITING = 128 * 1024 * 1024  # octets, before we say that we are busy

PRIORITIES: Mapping[str, int] = {"high": 1, "normal": 0, "low": -1}


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key: ``text`` as the caller gave it, and the digest of all that was submitted with it."""

    text: str
    digest: str


class Order(msgspec.Struct, frozen=True):
    """What belongs to a submission beside the message. ``by`` is the user, ``send_after`` a time of the wall clock."""

    by: str
    priority: int = 0
    send_after: datetime | None = None
    key: Key | None = None

    @property
    def name(self) -> str | None:
        """What stands for caller and key, in the store; None when there is no key."""
        if self.key is None:
            return None
        return hashlib.sha256(f"{self.by}\0{self.key.text}".encode()).hexdigest()


class Receipt(msgspec.Struct, frozen=True):
    """What a caller holds in the hand: the id of the submission. ``repeated``: it was taken in before."""

    id: str
    repeated: bool = False


class _Entry(msgspec.Struct, frozen=True, eq=False):
    id: str
    letter: Letter
    order: Order
    receipt: asyncio.Future[Receipt]

    @property
    def weight(self) -> int:
        """What it takes of a transaction, in octets."""
        return len(self.letter.content) + _WEIGHT_OF_RECIPIENT * len(self.letter.envelope.recipients)


class Queue:
    """The entrance of one process. ``taken_in`` is called after each commit."""

    def __init__(
        self,
        office: Office,
        room: Room,
        taken_in: Callable[[], None] = lambda: None,
        sends_itself: Callable[[], bool] = lambda: False,
    ) -> None:
        """``sends_itself``: whether this process can send what is taken in, so that nobody else need be woken."""
        self._sends_itself = sends_itself
        self._office = office
        self._store = office.store
        self._keyring = office.keyring
        self._watch = office.watch
        self._policy = office.policy
        self._room = room
        self._books = Books(office.node, "in")
        self.figures = Entrance()
        self._taken_in = taken_in
        self._waiting: list[_Entry] = []
        self._octets = 0
        self._task: asyncio.Task[None] | None = None

    async def submit(self, letter: Letter, order: Order) -> Receipt:
        """Take a message in. It is safe when this returns, whatever happens then.

        Raises OutboxFull, KeyReused or StoreUnavailable.
        """
        if not self._watch.runs:
            await self._office.open()
        await self._room.require(len(letter.content))
        if self._octets > _MOST_WAITING:
            raise StoreUnavailable("More is handed in than the database can take.")
        return await self.enter(letter, order)  # a caller who goes away has handed the message in all the same

    def is_open_to(self, octets: int) -> bool:
        """Whether a message of so many octets may ``enter``, as far as that is known without waiting."""
        return self._watch.runs and self._room.has(octets) and self._octets <= _MOST_WAITING

    def enter(self, letter: Letter, order: Order) -> asyncio.Future[Receipt]:
        """As ``submit``, for what may enter; done when the message is safe. Ends with KeyReused or StoreUnavailable."""
        self._room.take(len(letter.content))
        entry = _Entry(new_id(self._watch.wall), letter, order, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._octets += len(letter.content)
        if self._task is None:
            self._task = asyncio.create_task(self._commit_all(), name="keyrelay-queue", context=Context())
        return entry.receipt

    async def close(self) -> None:
        """Return when everything that was handed in is committed."""
        if self._task is not None:
            await self._task

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group: list[_Entry] = []
                self._join(group, _HEAVIEST)
                try:
                    receipts = await self.figures.commit(group, self._commit(group))
                except Exception as problem:  # noqa: BLE001 - each caller is told
                    for entry in group:
                        _tell(entry, problem)
                else:
                    for entry, receipt in zip(group, receipts, strict=True):
                        _tell(entry, receipt)
                    self._taken_in()
                self._octets -= _octets(group)
                if self._waiting:
                    await asyncio.sleep(0)  # a brief commit waits for nothing, and others have work too
        finally:
            self._task = None

    def _join(self, group: list[_Entry], most: int) -> Sequence[_Entry]:
        """Let those who wait into a group, of that weight at most or one message. Who joins it is returned."""
        count, weight = 0, _weight(group)
        for entry in self._waiting[: _MOST_AT_ONCE - len(group)]:
            weight += entry.weight
            if weight > most and (group or count):
                break
            count += 1
        joining, self._waiting = self._waiting[:count], self._waiting[count:]
        group += joining
        return joining

    async def _commit(self, group: list[_Entry]) -> list[Receipt | KeyReused]:
        await self._keyring.refresh(self._store)
        for _ in range(_MOST_ROTATIONS):
            try:
                return await self._attempt(group)
            except Conflict:  # a rotation threw the data key away before we heard of the new one
                await self._keyring.reload(self._store)
        return await self._attempt(group)

    async def _attempt(self, group: list[_Entry]) -> list[Receipt | KeyReused]:
        heavy = _weight(group) > _HEAVY
        work = self._enqueue(group, self._sealed(group), joined=not heavy)
        return await self._store.perform(work, length="long" if heavy else self._length())

    def _length(self) -> Length:
        """Mail that goes out meanwhile would wait as well."""
        return "usual" if self._sends_itself() else "brief"

    def _sealed(self, group: Sequence[_Entry]) -> list[Sealed]:
        return [content.seal(self._keyring, entry.id, entry.letter.content) for entry in group]

    def _enqueue(
        self, group: list[_Entry], sealed: Sequence[Sealed], *, joined: bool
    ) -> Work[list[Receipt | KeyReused]]:
        """``joined``: by those who have come since, while it was waited for other transactions."""
        if joined:
            sealed = [*sealed, *self._sealed(self._join(group, _HEAVY))]
        clock = self._watch.clock
        at = stamp(clock.wall)
        earlier = yield from _take_keys(group, at)
        new = [(entry, seal) for entry, seal in zip(group, sealed, strict=True) if entry.id not in earlier]
        entries = [entry for entry, _ in new]
        yield from many(_INSERT_MESSAGE, [self._row(entry, clock, at) for entry in entries])
        yield from many(
            "INSERT INTO message_content (message, key_id, sealed)",
            [(entry.id, seal.key_id, seal.content) for entry, seal in new],
        )
        yield from many("INSERT INTO message_recipient (address, message)", list(_addresses(entries)))
        yield from self._books.arrivals([entry.id for entry in entries], _octets(entries), clock.wall)
        if entries and not self._sends_itself():
            yield self._store.signal()
        return [earlier.get(entry.id, Receipt(entry.id)) for entry in group]

    def _row(self, entry: _Entry, clock: OutboxClock, submitted_at: int) -> tuple[object, ...]:
        letter, order = entry.letter, entry.order
        later = order.send_after is not None and order.send_after > clock.wall
        not_before = clock.of_wall(order.send_after) if later and order.send_after else None
        recipients = [enqueued(address, self._policy, clock.now, not_before) for address in letter.envelope.recipients]
        send_after = None if order.send_after is None else stamp(order.send_after)
        return (
            entry.id,
            letter.message_id,
            letter.envelope.sender,
            order.by,
            submitted_at,
            len(letter.content),
            order.priority,
            int(letter.needs_smtputf8),
            int(letter.needs_8bit),
            send_after,
            written(recipients),
            "queued",
            None if later else due_at(recipients),
            send_after if later else None,
            0,
            0,
        )


_INSERT_MESSAGE = (
    "INSERT INTO message (id, message_id, sender, submitted_by, submitted_at, size, priority, needs_smtputf8,"
    " needs_8bit, send_after, recipients, state, due_at, release_at, claimed, attempts)"
)


def _weight(group: Sequence[_Entry]) -> int:
    return sum([entry.weight for entry in group])


def _octets(group: Sequence[_Entry]) -> int:
    return sum([len(entry.letter.content) for entry in group])


def _take_keys(group: Sequence[_Entry], made_at: int) -> Work[dict[str, Receipt | KeyReused]]:
    """By the ids of entries: what to answer to those whose key is taken already."""
    keyed = {entry.id: entry for entry in group if entry.order.key is not None}
    if not keyed:
        return {}
    # Sorted, so that two transactions with the same keys cannot lock each other out.
    rows = sorted((entry.order.name, _digest(entry), entry.id, made_at) for entry in keyed.values())
    fresh: set[str] = set()
    for statement in many(
        "INSERT INTO submission_key (key, digest, message, made_at)",
        rows,
        "ON CONFLICT (key) DO NOTHING RETURNING message",
    ):
        fresh.update(message for (message,) in (yield statement))
    earlier: dict[str, Receipt | KeyReused] = {}
    for entry in keyed.values():
        if entry.id not in fresh:
            rows_found = yield _first_submission(entry)
            ((digest, message),) = rows_found
            earlier[entry.id] = Receipt(message, repeated=True) if digest == _digest(entry) else _reused()
    return earlier


def _first_submission(entry: _Entry) -> Statement:
    return "SELECT digest, message FROM submission_key WHERE key = $1", (entry.order.name,)


def _digest(entry: _Entry) -> str:
    assert entry.order.key is not None  # noqa: S101 - asked only of entries with a key
    return entry.order.key.digest


def _reused() -> KeyReused:
    return KeyReused("This Idempotency-Key was used for another submission.")


def _addresses(entries: Sequence[_Entry]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        for address in sorted({address.lower() for address in entry.letter.envelope.recipients}):
            yield address, entry.id


def _tell(entry: _Entry, outcome: Receipt | BaseException) -> None:
    if entry.receipt.done():
        return
    if isinstance(outcome, BaseException):
        entry.receipt.set_exception(outcome)
        entry.receipt.exception()  # seen, in case that nobody waits any more
    else:
        entry.receipt.set_result(outcome)
