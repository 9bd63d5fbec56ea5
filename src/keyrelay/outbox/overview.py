"""How the outbox stands: what is in it, how fast it goes, what holds it up. Every part costs the same at any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from keyrelay.outbox.books import CONTENT
from keyrelay.outbox.budget import Ledger, Limit, Load, Sum
from keyrelay.outbox.model import STATES, State
from keyrelay.outbox.office import Office
from keyrelay.outbox.pressure import Pressure
from keyrelay.outbox.records import moment, stamp
from keyrelay.outbox.schedule import OutboxClock
from keyrelay.store.model import Reader, Row

_MINUTE = timedelta(minutes=1)
_MICROSECONDS = 60_000_000  # of a minute
_SERIES = 60  # minutes
_RATED = 5  # minutes over which a rate is taken
_SCHEDULED = 50  # messages for a later time that may stand before the oldest one that waits

_pressure = msgspec.json.Decoder(Pressure)

# What happens to messages, minute by minute, in the words of the books.
HAPPENINGS: tuple[str, ...] = (
    "submitted",
    *(state for state in STATES if state not in {"queued", "sending"}),
    "resent",  # it had ended, and waits again
)


@dataclass(frozen=True, slots=True)
class Used:
    """A limit of the relay, and how much of it is used up now."""

    limit: Limit
    used: int


@dataclass(frozen=True, slots=True)
class NodeAlive:
    """A node, and what it has in hand. ``seen_at`` is its last sign of life."""

    name: str
    version: str
    works: bool
    started_at: datetime
    seen_at: datetime
    connections: int
    in_hand: Load


@dataclass(frozen=True, slots=True)
class Oldest:
    """The submission that has waited longest. ``since``: it was taken in then, or might be sent from then on."""

    id: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Minute:
    """How often each of HAPPENINGS came about in a minute, which begins ``at``."""

    at: datetime
    amounts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """All times are those of the wall clock; in ``pressure``, too.

    ``octets`` of content are kept. ``rates`` are messages a minute, over the last few. ``connections`` are those that
    all nodes hold, and ``most_connections`` how many they may; None when that is not limited. ``series`` are the last
    sixty minutes, the one that is not over yet at the end.
    """

    at: datetime
    counts: Mapping[State, int]
    octets: int
    oldest: Oldest | None
    rates: Mapping[str, float]
    pressure: Pressure
    limits: tuple[Used, ...]
    connections: int
    most_connections: int | None
    nodes: tuple[NodeAlive, ...]
    series: tuple[Minute, ...]


async def overview(office: Office) -> Overview:
    """How the outbox stands now. Raises StoreUnavailable."""
    store = office.store
    clock, pressure = await _clock(office)
    counts, octets = await _counts(store)
    nodes = [row for row in await store.rows(_NODES) if moment(row[4]) >= clock.now]
    series = await _series(store, clock.wall)
    return Overview(
        at=clock.wall,
        counts=counts,
        octets=octets,
        oldest=await _oldest(store),
        rates={what: _rate(series, what, clock.wall) for what in HAPPENINGS},
        pressure=_in_wall_time(pressure, clock),
        limits=await _limits(office, clock.now),
        connections=sum(row[6] for row in nodes),
        most_connections=office.limits.connections,
        nodes=tuple(_node(row, clock, office.lease) for row in nodes),
        series=series,
    )


async def _clock(office: Office) -> tuple[OutboxClock, Pressure]:
    sql = f"SELECT now, wall, pressure, {office.store.dialect.wall_clock} FROM outbox WHERE id = 1"  # noqa: S608 - a constant
    ((now, wall, pressure, at),) = await office.store.rows(sql)
    clock = OutboxClock(moment(now), moment(wall)).looked_at(moment(at), office.watch.own)
    return clock, _pressure.decode(pressure)


def _in_wall_time(pressure: Pressure, clock: OutboxClock) -> Pressure:
    since, trial_at = (None if at is None else clock.to_wall(at) for at in (pressure.since, pressure.trial_at))
    return replace(pressure, since=since, trial_at=trial_at)


# --- What is in it -------------------------------------------------------------------------------------------


async def _counts(reader: Reader) -> tuple[dict[State, int], int]:
    rows = await reader.rows("SELECT state, SUM(messages), SUM(octets) FROM outbox_tally GROUP BY state")
    found = {state: (int(messages), int(octets)) for state, messages, octets in rows}
    return {state: found.get(state, (0, 0))[0] for state in STATES}, found.get(CONTENT, (0, 0))[1]


async def _oldest(reader: Reader) -> Oldest | None:
    """Of those that wait for nobody but us and the relay; exact unless many scheduled ones stand before it."""
    rows = [row for row in await reader.rows(_WAITING) if row[3] is None]
    waiting = [(max(submitted, after or 0), name) for name, submitted, after, _ in rows]
    if not waiting:
        return None
    since, name = min(waiting)
    return Oldest(name, moment(since))


_WAITS = "SELECT id, submitted_at, send_after, release_at FROM message WHERE"
_WAITING = " UNION ALL ".join(
    f"SELECT * FROM ({_WAITS} {which}) AS found"  # noqa: S608 - constants
    for which in (
        *(f"state = '{state}' ORDER BY id LIMIT 1" for state in ("sending", "deferred", "outcome_unknown")),
        f"state = 'queued' ORDER BY id LIMIT {_SCHEDULED}",
        *(f"priority = {priority} AND due_at IS NOT NULL ORDER BY due_at LIMIT 1" for priority in (1, 0, -1)),
    )
)


# --- How fast it goes ----------------------------------------------------------------------------------------


async def _series(reader: Reader, wall: datetime) -> tuple[Minute, ...]:
    last = stamp(wall) // _MICROSECONDS
    first = last - _SERIES + 1
    rows = await reader.rows(
        "SELECT minute, what, SUM(amount) FROM outbox_minute WHERE minute >= $1 AND minute <= $2 GROUP BY minute, what",
        first,
        last,
    )
    found = {(minute, what): int(amount) for minute, what, amount in rows}
    return tuple(
        Minute(moment(minute * _MICROSECONDS), {what: found.get((minute, what), 0) for what in HAPPENINGS})
        for minute in range(first, last + 1)
    )


def _rate(series: Sequence[Minute], what: str, wall: datetime) -> float:
    """Messages a minute: of the first of the minutes looked at, only the part that is no longer ago than the others."""
    begun = (wall - series[-1].at) / _MINUTE
    first, *whole = (minute.amounts[what] for minute in series[-_RATED - 1 :])
    return round((first * (1 - begun) + sum(whole)) / _RATED, 2)


# --- What holds it up ----------------------------------------------------------------------------------------


async def _limits(office: Office, now: datetime) -> tuple[Used, ...]:
    if not office.limits.rates:
        return ()
    ((messages, recipients),) = await office.store.rows("SELECT SUM(messages), SUM(recipients) FROM node")
    rows = await office.store.rows("SELECT counted, seconds, part, amount FROM outbox_sum")
    sums = tuple(Sum(counted, timedelta(seconds=seconds), part, amount) for counted, seconds, part, amount in rows)
    ledger = Ledger(Load(int(messages or 0), int(recipients or 0)), sums)
    return tuple(Used(limit, ledger.used(limit, now)) for limit in office.limits.rates)


_NODES = "SELECT name, version, works, started_at, until, messages, connections, recipients FROM node ORDER BY name, id"


def _node(row: Row, clock: OutboxClock, lease: timedelta) -> NodeAlive:
    name, version, works, started, until, messages, connections, recipients = row
    seen_at = clock.to_wall(moment(until) - lease)
    return NodeAlive(name, version, bool(works), moment(started), seen_at, connections, Load(messages, recipients))
