"""How many messages were not over yet, minute by minute: worked out backwards from how many are not over now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keyrelay.outbox.model import ENDED, STATES, State
from keyrelay.outbox.overview import Minute

OPEN: tuple[State, ...] = tuple(state for state in STATES if state not in ENDED)


def backlog(counts: Mapping[State, int], series: Sequence[Minute]) -> tuple[int, ...]:
    """The messages that had not ended at the end of each minute of ``series``; at the end of the last one, now.

    ``counts`` and ``series`` are those of an overview. They are read one after the other, so a message or two may
    come between them: no result is below 0 for that.
    """
    left = sum(counts[state] for state in OPEN)
    found = []
    for minute in reversed(series):
        found.append(max(left, 0))
        left -= minute.amounts["submitted"] + minute.amounts["resent"]
        left += sum(minute.amounts[state] for state in ENDED)
    return tuple(reversed(found))
