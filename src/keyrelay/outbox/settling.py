"""The first half of a round: what was sent is settled, and what the dead had in hand is taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Self

import msgspec

from keyrelay.outbox.budget import Load
from keyrelay.outbox.model import Recipient, Said, Submission
from keyrelay.outbox.pressure import felt, probed
from keyrelay.outbox.records import COLUMNS, Kept, many, stamp, written_said
from keyrelay.outbox.schedule import ABOUT_THE_MESSAGE, Schedule, settle_attempt, taken_over
from keyrelay.outbox.standing import Present, Standing, those_readable
from keyrelay.relay.model import Evidence
from keyrelay.relay.session import Delivery
from keyrelay.store.model import Work

GRACE = timedelta(seconds=3)  # for the others to give a sign of life
_MOST_TAKEN_OVER = 100  # messages, in one round

How = Literal["attempted", "failed_at", "not_begun"]


class Claim(msgspec.Struct, frozen=True):
    """A message that this node has the lease of, and is to send to the ``recipients`` whose turn it is."""

    kept: Kept
    recipients: tuple[Recipient, ...]

    @classmethod
    def of(cls, kept: Kept) -> Self:
        submission = kept.submission
        return cls(kept, tuple([submission.recipients[place].to("sending") for place in kept.turn]))

    @property
    def id(self) -> str:
        return self.kept.submission.id

    @property
    def submission(self) -> Submission:
        return self.kept.submission

    @property
    def load(self) -> Load:
        return Load(1, len(self.kept.turn))


class Found(msgspec.Struct, frozen=True):
    """How an attempt came out. Times are those of the wall clock.

    ``revision`` is that of the profile it was made with. ``how``: whether there was one at all. A message that we fail
    at ourselves must wait for a person; one that was not begun goes back.
    """

    claim: Claim
    result: Delivery | Evidence
    revision: int
    started_at: datetime
    ended_at: datetime
    how: How = "attempted"

    @property
    def reached(self) -> bool:
        """Whether something of it may have reached the relay: before MAIL, nothing has that any limit counts."""
        if self.how == "not_begun":
            return False
        return not isinstance(self.result, Evidence) or self.result.stage in ABOUT_THE_MESSAGE


def settle(standing: Standing, found: Sequence[Found]) -> Work[None]:
    """Write down what became of the messages that this node was sending."""
    changes, attempts = [], []
    for one in found:
        recipients, said = _settled(standing, one)
        changes.append((one.claim.kept, recipients))
        standing.end(one.claim.load, one.claim.load if one.reached else Load())
        if one.how != "not_begun":
            attempts.append((one, said))
    done = yield from standing.write(changes)
    yield from many(
        _INSERT_ATTEMPT,
        [
            (
                one.claim.id,
                one.claim.kept.attempts,
                standing.office.name,
                stamp(one.started_at),
                stamp(one.ended_at),
                written_said(said),
            )
            for one, said in attempts
            if (one.claim.id, one.claim.kept.attempts) in done
        ],
    )


def _settled(standing: Standing, one: Found) -> tuple[tuple[Recipient, ...], tuple[tuple[str, Said], ...]]:
    recipients = one.claim.recipients
    schedule = Schedule(standing.office.policy, one.claim.id)
    if one.how == "not_begun":
        return tuple(taken_over(each, schedule, standing.now, begun=False) for each in recipients), ()
    if one.how == "failed_at":
        assert isinstance(one.result, Evidence)  # noqa: S101 - nothing was delivered
        said = Said.by(one.result)
        return tuple(each.to("held", said=said) for each in recipients), tuple(
            (each.address, said) for each in recipients
        )
    busy = standing.ledger.underway.messages
    outcome = settle_attempt(recipients, one.result, standing.pressure, schedule, standing.now, busy=busy)
    if one.revision >= standing.revision:  # what an old profile met with is nobody's trouble any more
        standing.pressure = outcome.pressure
    return outcome.recipients, outcome.said


def feel(standing: Standing, probe: Evidence | None, revision: int) -> None:
    """Take in how a probe came out: None when a session could be opened."""
    standing.probing_until = standing.now
    if revision < standing.revision:
        return
    if probe is None:
        standing.pressure = probed(standing.pressure, standing.now)
    else:
        standing.pressure = felt(standing.pressure, Said.by(probe), standing.now).pressure


def take_over(standing: Standing) -> Work[bool]:
    """Settle what nodes had in hand that have given no sign of life. Gives whether that is left for the next round."""
    silent = [node for node in standing.nodes.values() if node.until < standing.now and node.id != standing.office.node]
    own = standing.nodes.get(standing.office.node)
    if silent and (own is None or own.until < standing.now):
        # Perhaps nobody could give a sign of life, because the database was away: the others get their turn first.
        until = stamp(standing.now + GRACE)
        yield "UPDATE node SET until = $1 WHERE until < $1", (until,)
        return True
    for node in silent:
        yield from _take_over_from(standing, node)
    return False


def recover(standing: Standing, in_hand: Mapping[str, Claim]) -> Work[None]:
    """Give back what this node has the lease of and knows nothing of: the answer to a claim was lost on its way."""
    rows = yield f"SELECT {COLUMNS} FROM message WHERE state = 'sending' AND lease = $1", (standing.office.node,)  # noqa: S608 - constants
    found = yield from those_readable(standing, rows)
    changes = []
    for kept in found:
        known = in_hand.get(kept.submission.id)
        if known is None or known.kept.attempts != kept.attempts:
            schedule = Schedule(standing.office.policy, kept.submission.id)
            turn = [kept.submission.recipients[place].to("sending") for place in kept.turn]
            changes.append((kept, [taken_over(each, schedule, standing.now, begun=False) for each in turn]))
    yield from standing.write(changes)


def _take_over_from(standing: Standing, node: Present) -> Work[None]:
    rows = yield (
        f"SELECT {COLUMNS} FROM message WHERE state = 'sending' AND lease = $1 LIMIT {_MOST_TAKEN_OVER}",  # noqa: S608 - constants
        (node.id,),
    )
    found = yield from those_readable(standing, rows)
    changes = [(kept, _left_behind(standing, kept)) for kept in found]
    done = yield from standing.write(changes)
    at = stamp(standing.clock.wall)
    yield from many(
        _INSERT_ATTEMPT,
        [
            (kept.submission.id, kept.attempts, node.name, at, at, written_said(_said_of(recipients)))
            for kept, recipients in changes
            if (kept.submission.id, kept.attempts) in done
        ],
    )
    if len(rows) < _MOST_TAKEN_OVER:  # nothing is left of it
        standing.forget(node)
        yield "DELETE FROM node WHERE id = $1", (node.id,)


def _left_behind(standing: Standing, kept: Kept) -> list[Recipient]:
    schedule = Schedule(standing.office.policy, kept.submission.id)
    recipients = kept.submission.recipients
    return [taken_over(recipients[place].to("sending"), schedule, standing.now) for place in kept.turn]


def _said_of(recipients: Sequence[Recipient]) -> Iterator[tuple[str, Said]]:
    for one in recipients:
        assert one.said is not None  # noqa: S101 - whoever is taken over is told why
        yield one.address, one.said


_INSERT_ATTEMPT = "INSERT INTO attempt (message, number, node, started_at, ended_at, said)"
