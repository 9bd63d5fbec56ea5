"""How the outbox stands at the beginning of a round, and what the round makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from keyrelay import __version__
from keyrelay.outbox import budget
from keyrelay.outbox.books import Turn
from keyrelay.outbox.budget import Ledger, Load, Sum
from keyrelay.outbox.clock import ticks
from keyrelay.outbox.model import ENDED, Recipient, state_of
from keyrelay.outbox.office import Office
from keyrelay.outbox.pressure import Pressure, profile_changed
from keyrelay.outbox.records import Kept, due_at, many, moment, readable, stamp, written
from keyrelay.outbox.schedule import OutboxClock
from keyrelay.store.model import Row, Statement, Work

_encode = msgspec.json.Encoder().encode
_pressure = msgspec.json.Decoder(Pressure)


@dataclass(frozen=True, slots=True)
class Present:
    """A node that has given a sign of life: until when it is believed, and what it has in hand."""

    id: str
    name: str
    until: datetime
    works: bool
    connections: int
    load: Load


class Standing:
    """What is known and has happened in one round, which no other round runs beside.

    ``revision`` is that of the newest profile anybody has seen.
    """

    def __init__(self, office: Office, in_hand: Load) -> None:
        """``in_hand``: what this node is sending, and has not settled before this round or in it."""
        self.office = office
        self.turns: list[Turn] = []
        self.gone: set[str] = set()
        self._in_hand = in_hand
        self._charged: list[Sum] = []

    @property
    def now(self) -> datetime:
        return self.clock.now

    def look(self, revision: int) -> Work[None]:
        """Read everything, and lock it. ``revision``: that of the profile as this node knows it."""
        dialect = self.office.store.dialect
        columns = f"now, wall, pressure, revision, probing_until, {dialect.wall_clock}"
        row = yield f"SELECT {columns} FROM outbox WHERE id = 1{dialect.lock}", ()  # noqa: S608 - constants
        ((now, wall, pressure, known, probing, at),) = row
        self.ticks = ticks()
        self.clock = OutboxClock(moment(now), moment(wall)).looked_at(moment(at), self.office.watch.own)
        self.pressure = _pressure.decode(pressure)
        self.revision = max(known, revision)
        self.probing_until = moment(probing)
        if known < revision:
            self.pressure = profile_changed(self.pressure)
        rows = yield "SELECT id, name, until, works, connections, messages, recipients FROM node ORDER BY id", ()
        self.nodes = {row[0]: _read_node(row) for row in rows}
        underway = Load()
        for node in self.nodes.values():
            underway = underway.plus(node.load)
        sums: Sequence[Row] = ()
        if self.office.limits.rates:
            sums = yield "SELECT counted, seconds, part, amount FROM outbox_sum", ()
        self.ledger = Ledger(underway, tuple(_read_sum(row) for row in sums))
        own = self.nodes.get(self.office.node)
        self._ours = Load() if own is None else own.load

    # --- What the round does ---------------------------------------------------------------------------------

    def write(self, changes: Sequence[tuple[Kept, Sequence[Recipient]]]) -> Work[set[tuple[str, int]]]:
        """Write the recipients of each turn back, and end the lease.

        Gives id and attempt of those that nobody has taken over meanwhile; the others are left alone.
        """
        states, rows = {}, []
        for kept, turned in changes:
            recipients = list(kept.submission.recipients)
            for place, recipient in zip(kept.turn, turned, strict=True):
                recipients[place] = recipient
            if kept.submission.send_after is not None:  # those that did not fit need not wait for it once more
                recipients = [_released(one, self.now) for one in recipients]
            state = state_of(one.state for one in recipients)
            states[kept.submission.id, kept.attempts] = state
            ended_at = stamp(self.now) if state in ENDED else None
            rows.append((kept.submission.id, kept.attempts, state, written(recipients), due_at(recipients), ended_at))
        done: set[tuple[str, int]] = set()
        for statement in many(_WRITE_HEAD, rows, _WRITE_TAIL, types="TEXT INTEGER TEXT TEXT BIGINT BIGINT"):
            done.update((name, attempt) for name, attempt in (yield statement))
        self.turns += [Turn(one[0], "sending", state) for one, state in states.items() if one in done]
        return done

    def end(self, claimed: Load, used: Load) -> None:
        """What this node had claimed has come to its end. ``used``: what may have reached the relay of it."""
        # What was taken from us, or settled in a round whose answer was lost, is not counted as ours any more.
        ours = Load(min(claimed.messages, self._ours.messages), min(claimed.recipients, self._ours.recipients))
        self._ours = self._ours.minus(ours)
        self.ledger = replace(self.ledger, underway=self.ledger.underway.minus(ours))
        self.charge(used)

    def charge(self, used: Load) -> None:
        if self.office.limits.rates and used.messages:
            self._charged.extend(budget.charges(used, self.office.limits, self.now))
            self.ledger = self.ledger.settled(Load(), used, self.office.limits, self.now)

    def forget(self, node: Present) -> None:
        """Nothing is left of a node that is gone; all that it had claimed may have reached the relay."""
        self.gone.add(node.id)
        self.ledger = replace(self.ledger, underway=self.ledger.underway.minus(node.load))
        self.charge(node.load)

    def taken_up(self, load: Load) -> None:
        self._in_hand = self._in_hand.plus(load)
        self.ledger = self.ledger.claimed(load)

    def connections(self) -> int | None:
        """How many connections this node may have from now on; None when that is not limited."""
        limit = self.office.limits.connections
        if limit is None:
            return None
        others = [node for node in self.nodes.values() if node.works and node.id not in {*self.gone, self.office.node}]
        ids = sorted([*(node.id for node in others), self.office.node])
        fair = budget.fair_share(limit, len(ids), ids.index(self.office.node))
        return max(0, min(fair, limit - sum(node.connections for node in others)))

    # --- What is left to write -------------------------------------------------------------------------------

    def leave(self, connections: int) -> Work[None]:
        """Write how the outbox stands now, and that this node is alive with so many connections."""
        yield from self._write_sums()
        yield sign_of_life(self.office, self.clock, works=True, connections=connections, load=self._in_hand)
        yield (
            "UPDATE outbox SET now = $1, wall = $2, pressure = $3, revision = $4, probing_until = $5 WHERE id = 1",
            (
                stamp(self.now),
                stamp(self.clock.wall),
                _encode(self.pressure).decode(),
                self.revision,
                stamp(self.probing_until),
            ),
        )

    def _write_sums(self) -> Work[None]:
        sums: dict[tuple[object, ...], int] = {}
        for one in self._charged:
            key = (one.counted, int(one.window.total_seconds()), one.part)
            sums[key] = sums.get(key, 0) + one.amount
        yield from many(
            "INSERT INTO outbox_sum (counted, seconds, part, amount)",
            [(*key, amount) for key, amount in sums.items()],
            "ON CONFLICT (counted, seconds, part) DO UPDATE SET amount = outbox_sum.amount + excluded.amount",
        )


_WRITE_HEAD = "WITH v (id, attempts, state, recipients, due_at, ended_at) AS ("
_WRITE_TAIL = (
    ") UPDATE message SET state = v.state, recipients = v.recipients, due_at = v.due_at, ended_at = v.ended_at,"
    " lease = NULL, claimed_at = NULL FROM v WHERE message.id = v.id AND message.attempts = v.attempts"
    " AND message.lease IS NOT NULL RETURNING message.id, message.attempts"
)


def those_readable(standing: Standing, rows: Sequence[Row]) -> Work[list[Kept]]:
    """The submissions in these rows of COLUMNS. One that is damaged is held, or it would keep all others from going."""
    found = []
    for row in rows:
        if (kept := readable(row)) is not None:
            found.append(kept)
        else:
            ((before,),) = yield "SELECT state FROM message WHERE id = $1", (row[0],)
            yield "UPDATE message SET state = 'held', due_at = NULL, lease = NULL WHERE id = $1", (row[0],)
            standing.turns.append(Turn(row[0], before, "held"))
    return found


def _released(recipient: Recipient, now: datetime) -> Recipient:
    waits = recipient.state == "queued" and recipient.next_at is not None and recipient.next_at > now
    return msgspec.structs.replace(recipient, next_at=now) if waits else recipient


def sign_of_life(office: Office, clock: OutboxClock, *, works: bool, connections: int, load: Load) -> Statement:
    """The statement by which the others know that this node is alive."""
    until = stamp(clock.now + office.lease)
    facts = (office.node, office.name, __version__, stamp(clock.wall), until, int(works))
    return _SIGN_OF_LIFE, (*facts, connections, load.messages, load.recipients)


_SIGN_OF_LIFE = (
    "INSERT INTO node (id, name, version, started_at, until, works, connections, messages, recipients)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET until = excluded.until,"
    " connections = excluded.connections, messages = excluded.messages, recipients = excluded.recipients"
)


def _read_node(row: Row) -> Present:
    node, name, until, works, connections, messages, recipients = row
    return Present(node, name, moment(until), bool(works), connections, Load(messages, recipients))


def _read_sum(row: Row) -> Sum:
    counted, seconds, part, amount = row
    return Sum(counted, timedelta(seconds=seconds), part, amount)
