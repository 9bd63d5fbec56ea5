"""What is counted and told of every change of a submission, in the transaction that makes it.

Each desk of each node (the one that takes submissions in, the one that works, the one that people steer by) has rows of
its own, so that nobody ever waits for another to count. The sums over all rows are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from keyrelay.outbox.model import ENDED, State
from keyrelay.outbox.records import many, stamp
from keyrelay.store.model import Statement

CONTENT = "content"  # in the place of a state: the messages whose content is kept
Desk = Literal["in", "out", "by-hand"]
_MINUTE = 60_000_000
_MOST_IN_AN_EVENT = 200

_encode = msgspec.json.Encoder().encode


class Turn(msgspec.Struct, frozen=True):
    """A submission that went from one state to another; from None when it is new, to None when it is forgotten.

    ``content``: by how many octets of content the store has grown.
    """

    id: str
    before: State | None
    after: State | None
    content: int = 0


class Books:
    """What one desk writes down. ``node`` is an id that no other process has ever had."""

    def __init__(self, node: str, desk: Desk) -> None:
        self._node = f"{node}.{desk}"
        self._serial = 0

    def entries(self, turns: Sequence[Turn], wall: datetime) -> Iterator[Statement]:
        """The statements that count these changes and tell of them."""
        if turns:
            yield from self._tally(*_sums(turns))
            moved = [turn for turn in turns if turn.before != turn.after]
            amounts = Counter(map(_happening, moved))
            yield from self._minute(amounts, stamp(wall) // _MINUTE)
            changes = [(turn.id, turn.after) for turn in moved if turn.after is not None]
            yield from self._events(changes, stamp(wall))

    def arrivals(self, ids: Sequence[str], octets: int, wall: datetime) -> Iterator[Statement]:
        """The same for submissions that are new, and have so many octets of content together."""
        if ids:
            number, at = len(ids), stamp(wall)
            yield from self._tally({CONTENT: number, "queued": number}, octets)
            yield from self._minute({"submitted": number}, at // _MINUTE)
            yield from self._events([(one, "queued") for one in ids], at)

    def _tally(self, messages: Mapping[str, int], octets: int) -> Iterator[Statement]:
        rows = [
            (self._node, state, amount, octets if state == CONTENT else 0)
            for state, amount in sorted(messages.items())
            if amount or (state == CONTENT and octets)
        ]
        yield from many(
            "INSERT INTO outbox_tally (node, state, messages, octets)",
            rows,
            "ON CONFLICT (node, state) DO UPDATE SET messages = outbox_tally.messages + excluded.messages,"
            " octets = outbox_tally.octets + excluded.octets",
        )

    def _minute(self, amounts: Mapping[str | None, int], minute: int) -> Iterator[Statement]:
        rows = [
            (minute, self._node, what, amount)
            for what, amount in sorted(amounts.items(), key=str)
            if what not in {None, "sending", "queued"}
        ]
        yield from many(
            "INSERT INTO outbox_minute (minute, node, what, amount)",
            rows,
            "ON CONFLICT (minute, node, what) DO UPDATE SET amount = outbox_minute.amount + excluded.amount",
        )

    def _events(self, changes: Sequence[tuple[str, State]], at: int) -> Iterator[Statement]:
        rows = []
        for first in range(0, len(changes), _MOST_IN_AN_EVENT):
            self._serial += 1
            rows.append((self._node, self._serial, at, _encode(changes[first : first + _MOST_IN_AN_EVENT]).decode()))
        yield from many("INSERT INTO outbox_event (node, serial, at, changes)", rows)


def _sums(turns: Iterable[Turn]) -> tuple[Mapping[str, int], int]:
    """How many messages more there are in each state, and of how many octets more."""
    messages: Counter[str] = Counter()
    octets = 0
    for turn in turns:
        if turn.before is not None:
            messages[turn.before] -= 1
        if turn.after is not None:
            messages[turn.after] += 1
        if turn.content:
            messages[CONTENT] += 1 if turn.content > 0 else -1
            octets += turn.content
    return messages, octets


def _happening(turn: Turn) -> str | None:
    if turn.before is None:
        return "submitted"
    return "resent" if turn.before in ENDED and turn.after not in {None, *ENDED} else turn.after
