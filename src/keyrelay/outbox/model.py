"""The words of this room: a submission, its recipients and their states, attempts, and what the relay said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import msgspec

from keyrelay.relay.causes.model import code_of
from keyrelay.relay.model import Evidence, Kind, Stage

State = Literal[
    "queued",  # waits for its turn; nothing was said about it yet, or nothing that is its own fault
    "sending",  # a node has it, under a lease
    "accepted",  # the relay answered 2xx after DATA, for this recipient
    "deferred",  # the relay's 4xx, or no answer at all; waits to be tried again
    "refused",  # the relay's 5xx, or a message that this relay cannot take
    "outcome_unknown",  # the connection was lost after the final dot; waits to be sent again with the same Message-ID
    "held",  # waits for a person
    "cancelled",  # taken back by a person
    "expired",  # its life time ended first
]

# What may follow what. Every change of a state goes through here.
NEXT: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"sending", "held", "cancelled", "expired"}),
    "sending": frozenset({"accepted", "deferred", "refused", "outcome_unknown", "held", "queued", "expired"}),
    "deferred": frozenset({"sending", "queued", "held", "cancelled", "expired"}),
    "outcome_unknown": frozenset({"sending", "queued", "held", "cancelled", "expired"}),
    "held": frozenset({"queued", "cancelled"}),
    "refused": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "expired": frozenset({"queued"}),
    "accepted": frozenset(),
}
STATES: tuple[State, ...] = tuple(NEXT)
WAITING: frozenset[State] = frozenset({"queued", "deferred", "outcome_unknown"})  # those have a time to be tried at
ENDED: frozenset[State] = frozenset({"accepted", "refused", "cancelled", "expired"})

# Of several recipients, the state that says most about the submission comes first.
_TELLING: tuple[State, ...] = (
    "sending",
    "queued",
    "deferred",
    "outcome_unknown",
    "held",
    "refused",
    "expired",
    "cancelled",
    "accepted",
)

Action = Literal["cancel", "hold", "release", "resend"]

# What a person may do: from which states, and what comes of it.
ACTIONS: Mapping[Action, tuple[frozenset[State], State]] = {
    "cancel": (WAITING | {"held"}, "cancelled"),
    "hold": (WAITING, "held"),
    "release": (frozenset({"held"}), "queued"),
    "resend": (frozenset({"deferred", "outcome_unknown", "refused", "cancelled", "expired"}), "queued"),
}

_LONGEST_TEXT = 1000


class NotAllowed(ValueError):
    """A state that cannot follow the one before."""

    def __init__(self, state: State, wanted: str) -> None:
        super().__init__(f"{wanted} cannot follow {state}")
        self.state = state
        self.wanted = wanted


class Said(msgspec.Struct, frozen=True):
    """What the relay said, or why it said nothing, as it is kept and shown.

    ``code`` is the reply's, or at the stage token the HTTP status. ``text`` is redacted already.
    """

    stage: Stage
    kind: Kind = "reply"
    code: int | None = None
    enhanced: str | None = None
    text: str = ""

    @classmethod
    def by(cls, evidence: Evidence) -> Self:
        reply = evidence.reply
        text = evidence.detail if reply is None else reply.text
        enhanced = None if reply is None else reply.enhanced
        return cls(evidence.stage, evidence.kind, code_of(evidence), enhanced, text[:_LONGEST_TEXT])


class Recipient(msgspec.Struct, frozen=True):
    """One address of a submission, and what became of it.

    ``tries`` counts the attempts that told us something about this recipient: the wait before the next grows with
    them. ``unknown`` counts those whose outcome is unknown: the relay may hold as many copies. ``next_at`` is set in
    the states that wait, and only there. Both times are outbox time (``schedule.OutboxClock``).
    """

    address: str
    expires_at: datetime
    next_at: datetime | None
    state: State = "queued"
    tries: int = 0
    unknown: int = 0
    said: Said | None = None

    def to(self, state: State, *, next_at: datetime | None = None, **changes: Any) -> Recipient:
        """This recipient in its next state. Raises NotAllowed."""
        if state not in NEXT[self.state]:
            raise NotAllowed(self.state, state)
        if (next_at is not None) != (state in WAITING):
            raise ValueError(f"{state} {'needs' if state in WAITING else 'has no'} time for the next attempt")
        return Recipient(
            self.address,
            changes.get("expires_at", self.expires_at),
            next_at,
            state,
            changes.get("tries", self.tries),
            changes.get("unknown", self.unknown),
            changes.get("said", self.said),
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to hand a submission to the relay, for the recipients it was about. Times are those of the wall clock."""

    number: int
    node: str
    started_at: datetime
    ended_at: datetime
    said: tuple[tuple[str, Said], ...]


class Submission(msgspec.Struct, frozen=True):
    """A message that was accepted by us, without its content.

    ``message_id`` is its Message-ID and stays the same however often it is sent. ``send_after`` is a time of the wall
    clock, as the caller meant it. ``size`` is in bytes; a higher ``priority`` goes first.
    """

    id: str
    message_id: str
    sender: str
    recipients: tuple[Recipient, ...]
    submitted_by: str
    submitted_at: datetime
    size: int
    priority: int = 0
    send_after: datetime | None = None
    needs_smtputf8: bool = False
    needs_8bit: bool = False

    @property
    def state(self) -> State:
        return state_of(recipient.state for recipient in self.recipients)


def state_of(states: Iterable[State]) -> State:
    """The state of a submission whose recipients have these: the one that is furthest from an end."""
    return min(states, key=_TELLING.index)
