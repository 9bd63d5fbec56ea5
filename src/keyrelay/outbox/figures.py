"""What one process counts of its own work, for whoever watches it. Plain numbers, in one thread: they cost nothing.

What holds for all nodes together is in the store, and is counted there (``outbox/books.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sized
from dataclasses import dataclass
from typing import TypeVar, get_args

from keyrelay.histogram import Histogram
from keyrelay.outbox.books import CONTENT
from keyrelay.outbox.model import Said
from keyrelay.outbox.schedule import Verdict, verdict
from keyrelay.outbox.settling import Found
from keyrelay.relay.model import Evidence
from keyrelay.store.model import Reader

Result = TypeVar("Result")

# What comes of an attempt: for the recipient it went best with, or ours that failed, or none at all.
OUTCOMES: tuple[str, ...] = (*get_args(Verdict), "failed", "not_begun")

_OF_A_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_OF_AN_ATTEMPT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
_OF_A_GROUP = (1, 2, 4, 8, 16, 32, 64, 128)


class Entrance:
    """What the entrance of a process counts."""

    def __init__(self) -> None:
        self.commit_seconds = Histogram(_OF_A_COMMIT)
        self.group_messages = Histogram(_OF_A_GROUP)

    async def commit(self, group: Sized, work: Awaitable[Result]) -> Result:
        """Wait for a transaction that takes a group of messages in. Raises what it raises; then they do not count."""
        result = await self.commit_seconds.timing(work)
        self.group_messages.observe(len(group))
        return result


class Work:
    """What the worker of a process counts."""

    def __init__(self) -> None:
        self.round_seconds = Histogram(_OF_A_COMMIT)
        self.attempt_seconds = Histogram(_OF_AN_ATTEMPT)
        self.attempts: Counter[str] = Counter()
        self.recipients_accepted = 0

    async def attempt(self, work: Awaitable[Found]) -> Found:
        """Wait for an attempt, and count what came of it."""
        found = await self.attempt_seconds.timing(work)
        self.attempts[outcome_of(found)] += 1
        if not isinstance(found.result, Evidence):
            self.recipients_accepted += len(found.result.accepted)
        return found


def outcome_of(found: Found) -> str:
    """One of OUTCOMES."""
    if found.how != "attempted":
        return "failed" if found.how == "failed_at" else "not_begun"
    evidence = found.result if isinstance(found.result, Evidence) else found.result.evidence()
    return "accepted" if evidence is None else verdict(Said.by(evidence))


@dataclass(frozen=True, slots=True)
class Totals:
    """How many messages were ever taken in, and accepted by the relay, on all nodes. Neither ever gets less."""

    submitted: int
    accepted: int


async def totals(reader: Reader) -> Totals:
    """Raises StoreUnavailable."""
    # In one statement, or a message that is forgotten just now might be counted twice, and then once again.
    found = {state: int(number) for state, number in await reader.rows(_TOTALS)}
    submitted = sum(number for state, number in found.items() if state not in {CONTENT, "forgotten accepted"})
    return Totals(submitted, found.get("accepted", 0) + found["forgotten accepted"])


_TOTALS = (
    "SELECT state, SUM(messages) FROM outbox_tally GROUP BY state"
    " UNION ALL SELECT 'forgotten', forgotten FROM housekeeping"
    " UNION ALL SELECT 'forgotten accepted', forgotten_accepted FROM housekeeping"
)
