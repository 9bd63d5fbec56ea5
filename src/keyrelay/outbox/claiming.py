"""The second half of a round: what is due is claimed, as far as limits and pressure leave room for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyrelay.outbox import budget
from keyrelay.outbox.books import Turn
from keyrelay.outbox.model import ENDED, Recipient, state_of
from keyrelay.outbox.records import COLUMNS, Kept, due, due_at, many, moment, stamp, written
from keyrelay.outbox.schedule import overdue
from keyrelay.outbox.settling import Claim
from keyrelay.outbox.standing import Standing, those_readable
from keyrelay.store.model import Statement, Work

_MOST_CLAIMED = 128
_A_FEW = 32  # looked at in each round while nothing may go out
_LIGHT = 32 * 1024 * 1024  # octets claimed in one round, or one message
_PRIORITIES = (1, 0, -1)
_A_MOMENT = timedelta(seconds=1)


@dataclass(slots=True)
class _Claiming:
    capacity: int
    octets: int = 0
    blocked: bool = False  # by a limit
    claims: list[Claim] = field(default_factory=list)
    expired: list[tuple[Kept, list[Recipient]]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.blocked or len(self.claims) >= self.capacity or self.octets >= _LIGHT


def claim(standing: Standing, capacity: int) -> Work[tuple[tuple[Claim, ...], datetime | None]]:
    """Claim up to so many messages. Gives them, and when to look again if nothing happens before."""
    yield _RELEASE, (stamp(standing.now), stamp(standing.clock.wall))
    at_once = standing.pressure.at_once(standing.now)
    if at_once is not None:
        capacity = min(capacity, at_once - standing.ledger.underway.messages)
    state = _Claiming(max(0, min(capacity, _MOST_CLAIMED)))
    for priority in _PRIORITIES:
        if not state.over:
            rows = yield _due(standing, priority, state.capacity - len(state.claims))
            found = yield from those_readable(standing, rows)
            _choose(standing, state, found)
    if at_once == 0:
        yield from _find_overdue(standing, state)
    yield from _lease(standing, state.claims)
    yield from _expire(standing, state.expired)
    again = yield from _again(standing, state)
    return tuple(state.claims), again


def _due(standing: Standing, priority: int, most: int) -> Statement:
    skip = standing.office.store.dialect.skip_locked
    sql = f"SELECT {COLUMNS} FROM message WHERE priority = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3{skip}"  # noqa: S608
    return sql, (priority, stamp(standing.now), most)


def _find_overdue(standing: Standing, state: _Claiming) -> Work[None]:
    """Lives end while the outbox is paused, too."""
    for priority in _PRIORITIES:
        rows = yield _due(standing, priority, _A_FEW)
        for kept in (yield from those_readable(standing, rows)):
            if any(overdue(one, standing.now) for one in kept.submission.recipients):
                state.expired.append((kept, _with_expired(kept, standing.now)))


def _choose(standing: Standing, state: _Claiming, found: Sequence[Kept]) -> None:
    for kept in found:
        if any(overdue(one, standing.now) for one in kept.submission.recipients):
            state.expired.append((kept, _with_expired(kept, standing.now)))
            continue
        claimed = _fitting(standing, kept)
        if claimed is None:
            state.blocked = True
        if state.over or claimed is None:
            return
        state.octets += kept.submission.size
        state.claims.append(claimed)
        standing.taken_up(claimed.load)


def _fitting(standing: Standing, kept: Kept) -> Claim | None:
    """As much of a message as the limits leave room for."""
    turn = due(kept.submission, standing.now)
    if standing.office.limits.rates:
        room = budget.room(standing.office.limits, standing.ledger, standing.now)
        if room.messages == 0 or room.recipients == 0:
            return None
        turn = turn[: room.recipients]
    return Claim.of(Kept(kept.submission, standing.office.node, turn, kept.attempts + 1))


def _lease(standing: Standing, claims: Sequence[Claim]) -> Work[None]:
    node, now = standing.office.node, stamp(standing.now)
    rows = [(one.id, len(one.kept.turn), node, now) for one in claims]
    yield from many(_LEASE_HEAD, rows, _LEASE_TAIL, types="TEXT INTEGER TEXT BIGINT")
    standing.turns += [
        Turn(one.id, state_of(each.state for each in one.submission.recipients), "sending") for one in claims
    ]


def _with_expired(kept: Kept, now: datetime) -> list[Recipient]:
    return [one.to("expired") if overdue(one, now) else one for one in kept.submission.recipients]


def _expire(standing: Standing, expired: Sequence[tuple[Kept, list[Recipient]]]) -> Work[None]:
    for kept, recipients in expired:
        state = state_of(one.state for one in recipients)
        ended_at = stamp(standing.now) if state in ENDED else None
        yield (
            "UPDATE message SET state = $1, recipients = $2, due_at = $3, ended_at = $4 WHERE id = $5",
            (state, written(recipients), due_at(recipients), ended_at, kept.submission.id),
        )
        standing.turns.append(Turn(kept.submission.id, kept.state, state))


def _again(standing: Standing, state: _Claiming) -> Work[datetime | None]:
    now, pressure = standing.now, standing.pressure
    if state.blocked:
        rooms = [standing.ledger.room_at(limit, 1, now) for limit in standing.office.limits.rates]
        later = [at for at in rooms if at is not None and at > now]
        return max(later) if later else now + _A_MOMENT
    if pressure.at_once(now) == 0:
        return pressure.trial_at
    if state.over:
        return None  # when something was settled
    ((*times, released),) = yield _NEXT, ()
    moments = [moment(at) for at in times if at is not None]
    if released is not None:
        moments.append(standing.clock.of_wall(moment(released)))
    return min(moments) if moments else None


_RELEASE = "UPDATE message SET due_at = $1, release_at = NULL WHERE release_at <= $2"
_LEASE_HEAD = "WITH v (id, claimed, node, now) AS ("
_LEASE_TAIL = (
    ") UPDATE message SET state = 'sending', due_at = NULL, lease = v.node, claimed_at = v.now, claimed = v.claimed,"
    " attempts = attempts + 1 FROM v WHERE message.id = v.id"
)
_EARLIEST = ", ".join(
    f"(SELECT MIN(due_at) FROM message WHERE priority = {priority} AND due_at IS NOT NULL)"  # noqa: S608 - constants
    for priority in _PRIORITIES
)
_NEXT = f"SELECT {_EARLIEST}, (SELECT MIN(release_at) FROM message WHERE release_at IS NOT NULL)"  # noqa: S608
