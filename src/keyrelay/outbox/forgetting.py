"""What is old goes: contents and records of messages that have ended.

Each step is one short transaction for a few hundred rows. What waits, or waits for a person, never goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from keyrelay.outbox.books import Books, Turn
from keyrelay.outbox.model import ENDED, State
from keyrelay.outbox.office import Office
from keyrelay.outbox.records import COLUMNS, Kept, many, read, stamp
from keyrelay.store.model import Reader, Row, Work

_MOST_AT_ONCE = 200  # messages
_MOST_OCTETS = 8 * 1024 * 1024  # of content: the database writes over what it erases
_MOST_RECIPIENTS = 400_000  # octets, as they are written: some thousand rows

Ages = Mapping[State, timedelta]


@dataclass(frozen=True, slots=True)
class Found:
    """A message that was looked at. ``size`` and ``recipients``: octets that go with it."""

    id: str
    state: State
    ended_at: int | None
    size: int
    recipients: int

    def is_old(self, ages: Ages, now: datetime) -> bool:
        """Whether it has ended, and so long ago that it may go."""
        return self.state in ENDED and self.ended_at is not None and self.ended_at <= stamp(now - ages[self.state])


class Look(Protocol):
    """Looks at the messages between two ids, oldest first."""

    async def __call__(self, reader: Reader, after: str, before: str) -> Sequence[Found]: ...


async def contents(reader: Reader, after: str, before: str) -> Sequence[Found]:
    """Messages whose content is kept."""
    return [Found(*row) for row in await reader.rows(_CONTENTS, after, before, _MOST_AT_ONCE)]


def records(state: State) -> Look:
    """Messages in this state."""

    async def look(reader: Reader, after: str, before: str) -> Sequence[Found]:
        return [Found(*row) for row in await reader.rows(_RECORDS, state, after, before, _MOST_AT_ONCE)]

    return look


def bites(found: Sequence[Found]) -> Iterator[Sequence[Found]]:
    """As many at once as a short transaction can take."""
    bite: list[Found] = []
    octets = recipients = 0
    for one in found:
        octets, recipients = octets + one.size, recipients + one.recipients
        if bite and (octets > _MOST_OCTETS or recipients > _MOST_RECIPIENTS):
            yield bite
            bite, octets, recipients = [], one.size, one.recipients
        bite.append(one)
    if bite:
        yield bite


@dataclass(frozen=True, slots=True)
class Gone:
    """What a step did away with: messages (or their contents), and octets of content."""

    messages: int = 0
    octets: int = 0

    def plus(self, other: Gone) -> Gone:
        return Gone(self.messages + other.messages, self.octets + other.octets)


class Forgetting:
    """The steps, on one node."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._books = Books(f"{office.node}.house", "out")

    def content(self, found: Sequence[Found], ages: Ages) -> Work[Gone]:
        """Do away with the contents of these messages, those that have changed meanwhile left alone."""
        if any(one.state != "accepted" for one in found):
            # Whoever sends it again by hand holds this row, and must not be told of a content that is just going.
            yield f"SELECT id FROM outbox WHERE id = 1{self._office.store.dialect.lock}", ()  # noqa: S608 - constants
        old = yield from self._old(found, ages)
        removed = yield from _erase("message_content", "message", [kept.submission.id for kept in old])
        turns = [_turn(kept, kept.state, removed) for kept in old if kept.submission.id in removed]
        yield from self._books.entries(turns, self._office.watch.wall)
        return Gone(len(turns), -sum(turn.content for turn in turns))

    def record(self, found: Sequence[Found], ages: Ages) -> Work[Gone]:
        """Do away with all that is known of these messages."""
        old = yield from self._old(found, ages)
        ids = [kept.submission.id for kept in old]
        removed = yield from _erase("message_content", "message", ids)
        yield from _erase("attempt", "message", ids)
        yield from many(_ERASE_ADDRESSES, list(_addresses(old)), ")", types="TEXT TEXT")
        yield from _erase("message", "id", ids)
        turns = [_turn(kept, None, removed) for kept in old]
        yield from self._books.entries(turns, self._office.watch.wall)
        accepted = sum(turn.before == "accepted" for turn in turns)
        yield _COUNT_FORGOTTEN, (len(turns), accepted)
        return Gone(len(turns), -sum(turn.content for turn in turns))

    def _old(self, found: Sequence[Found], ages: Ages) -> Work[list[Kept]]:
        """Those that are still as they were, and stay so until the transaction ends."""
        now = self._office.watch.now
        rows: list[Row] = []
        skip = self._office.store.dialect.skip_locked
        for statement in many(_LOCK, [(one.id,) for one in found], f"){skip}", types="TEXT"):
            rows += yield statement
        # The state in a row is that of a message without a lease, when it is an end.
        return [read(row) for row in rows if Found(row[0], row[-2], row[-1], 0, 0).is_old(ages, now)]


def _turn(kept: Kept, after: State | None, removed: set[str]) -> Turn:
    name = kept.submission.id
    return Turn(name, kept.state, after, content=-kept.submission.size if name in removed else 0)


def _addresses(old: Sequence[Kept]) -> Iterator[tuple[str, str]]:
    for kept in old:
        for address in sorted({one.address.lower() for one in kept.submission.recipients}):
            yield address, kept.submission.id


def _erase(table: str, column: str, ids: Sequence[str]) -> Work[set[str]]:
    """Erase what belongs to these messages. Gives the ids of those that had something there."""
    erased: set[str] = set()
    head = f"DELETE FROM {table} WHERE {column} IN ("  # noqa: S608 - constants
    for statement in many(head, [(name,) for name in ids], f") RETURNING {column}", types="TEXT"):
        erased.update(name for (name,) in (yield statement))
    return erased


_SIZES = "CASE WHEN message_content.message IS NULL THEN 0 ELSE message.size END, length(message.recipients)"
_CONTENTS = (
    f"SELECT message.id, message.state, message.ended_at, {_SIZES} FROM message_content"  # noqa: S608 - constants
    " JOIN message ON message.id = message_content.message"
    " WHERE message_content.message > $1 AND message_content.message < $2 ORDER BY message_content.message LIMIT $3"
)
_RECORDS = (
    f"SELECT message.id, message.state, message.ended_at, {_SIZES} FROM message"  # noqa: S608 - constants
    " LEFT JOIN message_content ON message_content.message = message.id"
    " WHERE message.state = $1 AND message.id > $2 AND message.id < $3 ORDER BY message.id LIMIT $4"
)
_LOCK = f"SELECT {COLUMNS}, state, ended_at FROM message WHERE id IN ("  # noqa: S608 - constants
_ERASE_ADDRESSES = "DELETE FROM message_recipient WHERE (address, message) IN ("
_COUNT_FORGOTTEN = (
    "UPDATE housekeeping SET forgotten = forgotten + $1, forgotten_accepted = forgotten_accepted + $2 WHERE id = 1"
)
