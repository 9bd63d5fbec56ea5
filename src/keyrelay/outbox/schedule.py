"""When a recipient is tried again, and what an attempt makes of it: values in, values out.

All times here are outbox time: an OutboxClock gives it, which nobody can turn back or forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Literal

import msgspec

from keyrelay.outbox.model import ACTIONS, WAITING, Action, NotAllowed, Recipient, Said
from keyrelay.outbox.pressure import Pressure, Reading, felt, relieved
from keyrelay.relay.model import Evidence, Stage
from keyrelay.relay.session import Delivery

_NOT_YET = timedelta(0)
_TOO_MANY_RECIPIENTS = 452

# From MAIL on the relay speaks of this message; before, of us.
ABOUT_THE_MESSAGE: frozenset[Stage] = frozenset({"sender", "recipient", "data"})

Verdict = Literal["accepted", "deferred", "refused", "outcome_unknown", "given_back"]


class OutboxClock(msgspec.Struct, frozen=True):
    """The time of the outbox, one row in the store: ``now`` when a node last looked, ``wall`` what the clock said.

    While a node runs, outbox time passes as that node's monotonic clock does, whatever becomes of the wall clock:
    turned forward by an hour, it would end lives and leases; turned back, everything would wait for an hour. While
    none runs, time passes as the wall clock says, and stands still if that goes back. What a caller means by a time
    of day (``send_after``) is wall time, and is compared with the wall clock.
    """

    now: datetime
    wall: datetime

    def looked_at(self, wall: datetime, own: datetime | None) -> OutboxClock:
        """The row after a node has looked. It is written in the same transaction that reads it.

        ``wall``: the store's clock. ``own``: the node's last ``now`` and what has passed since on its monotonic
        clock, the one that runs on in suspend if there is one; None when the node has just started.
        """
        passed = max(wall - self.wall, _NOT_YET) if own is None else max(own - self.now, _NOT_YET)
        return OutboxClock(self.now + passed, wall)

    def leapt(self, before: OutboxClock) -> timedelta:
        """How far the wall clock was turned since: what waits for a time of day is now due earlier by as much."""
        return (self.wall - before.wall) - (self.now - before.now)

    def of_wall(self, moment: datetime) -> datetime:
        return self.now + (moment - self.wall)

    def to_wall(self, moment: datetime) -> datetime:
        """For showing it to people."""
        return self.wall + (moment - self.now)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try, and how often. Raises ValueError for what cannot be meant.

    ``waits`` before the second, third, … attempt; the last stands for all that follow. ``life``: from submission, or
    from ``send_after``, to expiry; RFC 5321 section 4.5.4.1 wants four to five days. ``jitter``: the part of a wait by
    which it may be shorter or longer. After ``most_unknown`` attempts whose outcome is unknown the recipient is held
    even where the policy is to retry: a message that always kills the relay must not go out for days.
    """

    waits: tuple[timedelta, ...] = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
    life: timedelta = timedelta(days=5)
    jitter: float = 0.2
    unknown: Literal["retry", "hold"] = "retry"
    most_unknown: int = 3

    def __post_init__(self) -> None:
        if not self.waits or min(self.waits) <= _NOT_YET or self.life <= _NOT_YET:
            raise ValueError("waits and life time must be longer than nothing")
        if not 0 <= self.jitter < 1:
            raise ValueError("jitter is a part of a wait, from 0 to below 1")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The policy for one submission, whose id is ``key``: jitter is the same for all its recipients, on every node.

    So those that were deferred together are tried together, in one message.
    """

    policy: RetryPolicy
    key: str

    def after(self, tries: int, recipient: Recipient, now: datetime) -> datetime:
        """When to try a recipient again after so many tries, or to let it expire."""
        digest = blake2b(f"{self.key} {tries}".encode(), digest_size=8).digest()
        part = int.from_bytes(digest) / 2**64
        wait = self.policy.waits[min(tries, len(self.policy.waits)) - 1]
        return min(now + wait * (1 + self.policy.jitter * (2 * part - 1)), recipient.expires_at)


def enqueued(address: str, policy: RetryPolicy, now: datetime, not_before: datetime | None = None) -> Recipient:
    """A recipient as it is first stored. ``not_before`` is ``send_after`` in outbox time."""
    first = max(now, not_before or now)
    return Recipient(address, expires_at=first + policy.life, next_at=first)


def is_due(recipient: Recipient, now: datetime) -> bool:
    return recipient.next_at is not None and recipient.next_at <= now < recipient.expires_at


def overdue(recipient: Recipient, now: datetime) -> bool:
    """Whether its life ended while it waited: nobody tries it any more."""
    return recipient.state in WAITING and now >= recipient.expires_at


def verdict(said: Said) -> Verdict:
    """What an answer means for the recipient it is about. *accepted* needs a 2xx after the content."""
    if said.stage not in ABOUT_THE_MESSAGE:
        return "given_back"
    if said.kind == "outcome_unknown":
        return "outcome_unknown"
    if said.kind in {"too_large", "not_offered"}:
        return "refused"
    reply_class = (said.code or 0) // 100 if said.kind == "reply" else 0
    if reply_class == 2:  # noqa: PLR2004 - RFC 5321 section 4.2.1
        return "accepted" if said.stage == "data" else "deferred"
    return "refused" if reply_class == 5 else "deferred"  # noqa: PLR2004


def settle(recipient: Recipient, said: Said, schedule: Schedule, now: datetime, *, spared: bool = False) -> Recipient:
    """The recipient after an attempt in which this was said of it. Raises NotAllowed unless it is being sent.

    ``spared``: that the answer was no fault of the recipient's, which is given back to the queue uncounted.
    """
    found = verdict(said)
    if recipient.state != "sending":
        raise NotAllowed(recipient.state, found)
    if found == "accepted":
        return recipient.to("accepted", tries=recipient.tries + 1, said=said)
    if found == "outcome_unknown":
        return _unknown(recipient, said, schedule, now)
    if found == "given_back" or spared:
        if now >= recipient.expires_at:
            return recipient.to("expired", said=said)
        return recipient.to("queued", next_at=now, said=said)
    if found == "refused":
        return recipient.to("refused", tries=recipient.tries + 1, said=said)
    return _later(recipient, said, schedule, now)


def _later(recipient: Recipient, said: Said, schedule: Schedule, now: datetime) -> Recipient:
    tries = recipient.tries + 1
    if now >= recipient.expires_at:
        return recipient.to("expired", tries=tries, said=said)
    next_at = schedule.after(tries, recipient, now)
    return recipient.to("deferred", next_at=next_at, tries=tries, said=said)


def _unknown(recipient: Recipient, said: Said, schedule: Schedule, now: datetime) -> Recipient:
    tries, unknown = recipient.tries + 1, recipient.unknown + 1
    if schedule.policy.unknown == "hold" or unknown >= schedule.policy.most_unknown:
        return recipient.to("held", tries=tries, unknown=unknown, said=said)
    if now >= recipient.expires_at:
        return recipient.to("expired", tries=tries, unknown=unknown, said=said)
    next_at = schedule.after(tries, recipient, now)
    return recipient.to("outcome_unknown", next_at=next_at, tries=tries, unknown=unknown, said=said)


def taken_over(recipient: Recipient, schedule: Schedule, now: datetime, *, begun: bool = True) -> Recipient:
    """The recipient after its lease has ended. ``begun``: that the node may have come to the final dot before."""
    if begun:
        gone = Said("data", "outcome_unknown", text="the node that was sending it is gone")
        return settle(recipient, gone, schedule, now)
    return settle(recipient, Said("connect", "closed", text="the node that had it is gone"), schedule, now)


def steered(recipient: Recipient, action: Action, policy: RetryPolicy, now: datetime) -> Recipient:
    """The recipient after a person did this to it; what is queued again begins a new life. Raises NotAllowed."""
    allowed, state = ACTIONS[action]
    if recipient.state not in allowed:
        raise NotAllowed(recipient.state, action)
    if state == "queued":
        return recipient.to(state, next_at=now, expires_at=now + policy.life, tries=0)
    return recipient.to(state)


# --- A whole attempt -----------------------------------------------------------------------------------------


class Outcome(msgspec.Struct, frozen=True):
    """What an attempt made of its recipients and of the outbox. ``said`` is for the record of the attempt."""

    recipients: tuple[Recipient, ...]
    pressure: Pressure
    said: tuple[tuple[str, Said], ...]


def settle_attempt(  # noqa: PLR0913 - all that an attempt depends on
    recipients: Sequence[Recipient],
    result: Delivery | Evidence,
    pressure: Pressure,
    schedule: Schedule,
    now: datetime,
    *,
    busy: int = 1,
) -> Outcome:
    """What comes of an attempt. ``result`` is what ``Mailer.send`` gave, or the evidence of the StageFailed it raised.

    ``busy``: how many messages were under way on all nodes. Recipients are in the envelope's order.
    """
    evidence: Evidence | None
    if isinstance(result, Evidence):
        evidence, said = result, [Said.by(result)] * len(recipients)
    else:
        evidence, said = result.evidence(), _said_to_each(recipients, result)
    if evidence is None:  # somebody's message was accepted
        reading = Reading(relieved(pressure, now), spared=False)
    else:
        reading = felt(pressure, Said.by(evidence), now, busy=busy)
    settled = tuple(
        settle(
            recipient, words, schedule, now, spared=reading.spares(words) or (evidence is None and _left_over(words))
        )
        for recipient, words in zip(recipients, said, strict=True)
    )
    return Outcome(
        settled, reading.pressure, tuple((one.address, words) for one, words in zip(recipients, said, strict=True))
    )


def _said_to_each(recipients: Sequence[Recipient], delivery: Delivery) -> list[Said]:
    if not delivery.sender.positive:
        return [Said.by(Evidence("sender", "reply", delivery.sender))] * len(recipients)
    return [
        Said.by(Evidence("recipient", "reply", reply))
        if not reply.positive or delivery.data is None
        else Said.by(Evidence("data", "reply", delivery.data))
        for (_, reply), _ in zip(delivery.recipients, recipients, strict=True)
    ]


def _left_over(said: Said) -> bool:
    """Whether the relay takes no more recipients at once: the rest follows now (RFC 5321 section 4.5.3.1.10)."""
    return said.stage == "recipient" and said.code == _TOO_MANY_RECIPIENTS and said.enhanced in {None, "4.5.3"}
