"""What is counted and told of every change of a submission, in the transaction that makes it.

Each desk of each node (the one that takes submissions in, the one that works, the one that people steer by) has rows of
its own, so that nobody ever waits for another to count. The sums over all rows are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Turn:
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
            yield from self._tally(turns)
            moved = [turn for turn in turns if turn.before != turn.after]
            yield from self._minute(moved, stamp(wall) // _MINUTE)
            yield from self._events(moved, stamp(wall))

    def _tally(self, turns: Iterable[Turn]) -> Iterator[Statement]:
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

    def _minute(self, turns: Iterable[Turn], minute: int) -> Iterator[Statement]:
        amounts = Counter(map(_happening, turns))
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

    def _events(self, turns: Sequence[Turn], at: int) -> Iterator[Statement]:
        changes = [(turn.id, turn.after) for turn in turns if turn.after is not None]
        rows = []
        for first in range(0, len(changes), _MOST_IN_AN_EVENT):
            self._serial += 1
            rows.append((self._node, self._serial, at, _encode(changes[first : first + _MOST_IN_AN_EVENT]).decode()))
        yield from many("INSERT INTO outbox_event (node, serial, at, changes)", rows)


def _happening(turn: Turn) -> str | None:
    if turn.before is None:
        return "submitted"
    return "resent" if turn.before in ENDED and turn.after not in {None, *ENDED} else turn.after
