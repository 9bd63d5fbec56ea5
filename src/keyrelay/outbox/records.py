"""Submissions as rows: what stands in which column, and back."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from keyrelay.outbox.model import WAITING, Attempt, Recipient, Said, State, Submission, state_of
from keyrelay.outbox.schedule import is_due
from keyrelay.store.model import Row, Statement

_logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST_STATEMENT = 64  # rows

# The columns that make a Submission, in the order of ``read``.
COLUMNS: Final = (
    "id, message_id, sender, submitted_by, submitted_at, size, priority, needs_smtputf8, needs_8bit, send_after,"
    " recipients, lease, claimed_at, claimed, attempts"
)

_recipients = msgspec.json.Decoder(tuple[Recipient, ...])
_said = msgspec.json.Decoder(tuple[tuple[str, Said], ...])
_encode = msgspec.json.Encoder().encode


def stamp(moment: datetime) -> int:
    """Microseconds since 1970, as times are kept."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(stamped: int) -> datetime:
    return _EPOCH + stamped * _MICROSECOND


def new_id(now: datetime) -> str:
    """A UUID that sorts by time, to the microsecond (version 7, RFC 9562 section 5.7 and method 3 of 6.2)."""
    milliseconds, rest = divmod(stamp(now), 1000)
    first, random = f"{milliseconds:012x}", os.urandom(8).hex()
    second = f"7{rest * 4096 // 1000:03x}-{'89ab'[int(random[0], 16) & 3]}{random[1:4]}"
    return f"{first[:8]}-{first[8:]}-{second}-{random[4:]}"


def first_id(moment: datetime) -> str:
    """What every id of that moment, or a later one, is not less than."""
    digits = f"{stamp(moment) // 1000:012x}"
    return f"{digits[:8]}-{digits[8:]}"


# --- Recipients and attempts ---------------------------------------------------------------------------------


def written(recipients: Iterable[Recipient]) -> str:
    return _encode(tuple(recipients)).decode()


def written_said(said: Iterable[tuple[str, Said]]) -> str:
    return _encode(tuple(said)).decode()


def due_at(recipients: Iterable[Recipient]) -> int | None:
    """When the first of those that wait is to be tried, or to expire."""
    times = [recipient.next_at for recipient in recipients if recipient.next_at is not None]
    return stamp(min(times)) if times else None


class Kept(msgspec.Struct, frozen=True):
    """A submission as it stands in its row.

    ``lease`` is the node that has it. ``turn`` are the places of the recipients that it has it for, in ``recipients``
    still as they were before.
    """

    submission: Submission
    lease: str | None
    turn: tuple[int, ...]
    attempts: int

    @property
    def state(self) -> State:
        return state_of("sending" if place in self.turn else one.state for place, one in self._placed())

    @property
    def shown(self) -> Submission:
        """With the recipients that are being sent in the state that says so."""
        recipients = tuple(one.to("sending") if place in self.turn else one for place, one in self._placed())
        return msgspec.structs.replace(self.submission, recipients=recipients)

    def _placed(self) -> Iterator[tuple[int, Recipient]]:
        return enumerate(self.submission.recipients)


def read(row: Row) -> Kept:
    """What a row of COLUMNS says."""
    name, message_id, sender, by, submitted, size, priority, utf8, eight_bit, send_after = row[:10]
    recipients = _recipients.decode(row[10])
    lease, claimed_at, claimed, attempts = row[11:15]
    submission = Submission(
        id=name,
        message_id=message_id,
        sender=sender,
        recipients=recipients,
        submitted_by=by,
        submitted_at=moment(submitted),
        size=size,
        priority=priority,
        send_after=None if send_after is None else moment(send_after),
        needs_smtputf8=bool(utf8),
        needs_8bit=bool(eight_bit),
    )
    turn = () if lease is None else due(submission, moment(claimed_at))[:claimed]
    return Kept(submission, lease, turn, attempts)


def readable(row: Row) -> Kept | None:
    """The same, and None for a row that is damaged: it must not stand in the way of others."""
    try:
        return read(row)
    except (msgspec.MsgspecError, ValueError):
        _logger.error("the row of a message is damaged", extra={"facts": {"message": row[0]}})  # noqa: TRY400
        return None


def due(submission: Submission, now: datetime) -> tuple[int, ...]:
    """The places of the recipients that may be tried, when the submission itself may."""
    # Until then, one with a time of day waits in ``release_at``, as the wall clock and not as outbox time has it.
    released = submission.send_after is not None
    return tuple(
        place
        for place, one in enumerate(submission.recipients)
        if one.state in WAITING and (is_due(one, now) or (released and one.state == "queued" and now < one.expires_at))
    )


def read_attempt(row: Row) -> Attempt:
    """What a row of number, node, started_at, ended_at, said says."""
    number, node, started, ended, said = row
    return Attempt(number, node, moment(started), moment(ended), _said.decode(said))


# --- Statements for many rows --------------------------------------------------------------------------------


def many(head: str, rows: Sequence[Sequence[Any]], tail: str = "", *, types: str | None = None) -> Iterator[Statement]:
    """Statements in which ``head`` VALUES ``tail`` stands for many rows at once.

    In sizes that are powers of two, so that there are few different ones to prepare. ``types`` are the columns' types,
    where the database cannot know them from the table.
    """
    at = 0
    while at < len(rows):
        size = min(_LARGEST_STATEMENT, 1 << (len(rows) - at).bit_length() - 1)
        batch = rows[at : at + size]
        at += size
        yield _values(head, size, len(batch[0]), tail, types), [value for row in batch for value in row]


_texts: dict[tuple[str, int, int, str, str | None], str] = {}


def _values(head: str, rows: int, columns: int, tail: str, types: str | None) -> str:
    key = (head, rows, columns, tail, types)
    if key not in _texts:
        kinds = [None] * columns if types is None else types.split()
        places = iter(range(1, rows * columns + 1))
        groups = (
            ", ".join(f"${next(places)}" if kind is None else f"CAST(${next(places)} AS {kind})" for kind in kinds)
            for _ in range(rows)
        )
        _texts[key] = f"{head} VALUES {', '.join(f'({group})' for group in groups)} {tail}"
    return _texts[key]
