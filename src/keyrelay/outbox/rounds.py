"""One round of a node's work, in one transaction: settle what was sent, take over from the dead, claim what is next.

All rounds of all nodes run one after the other (each begins by locking the one row of the outbox), so limits, pressure
and outbox time are never looked at by two at once. A round is for many messages, so that this costs little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyrelay.outbox.books import Books
from keyrelay.outbox.budget import Load
from keyrelay.outbox.claiming import claim
from keyrelay.outbox.office import Office
from keyrelay.outbox.pressure import Pressure
from keyrelay.outbox.settling import GRACE, Claim, Found, feel, recover, settle, take_over
from keyrelay.outbox.standing import Standing
from keyrelay.relay.model import Evidence
from keyrelay.store.model import Work

_PROBE = timedelta(seconds=90)  # within which a probe has come to its end


@dataclass(frozen=True, slots=True)
class Probed:
    """How a probe came out. ``evidence`` is None when a session could be opened."""

    evidence: Evidence | None
    revision: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What a node comes with: the revision of the profile it knows, what it found, and how many messages it can take.

    ``in_hand`` are the messages that it goes on sending, ``connections`` those that it has open. ``recover``: that the
    last round may have come to its end without our knowledge.
    """

    revision: int
    found: Sequence[Found] = ()
    in_hand: Mapping[str, Claim] = field(default_factory=dict)
    recover: bool = False
    probed: Probed | None = None
    capacity: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """What a node goes with. ``again``: when to come again if nothing happens before, in outbox time.

    ``connections``: how many it may have; None when that is not limited. ``probe``: whether it is to open a session, to
    see whether the relay is back.
    """

    claims: tuple[Claim, ...]
    pressure: Pressure
    again: datetime | None
    connections: int | None
    probe: bool


class Rounds:
    """The rounds of one node."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._books = Books(office.node, "out")

    async def round(self, wish: Wish) -> Given:
        """Go round once. What it gives is durable. Raises StoreUnavailable, and then nothing has happened."""
        in_hand = Load()
        for one in wish.in_hand.values():
            in_hand = in_hand.plus(one.load)
        standing = Standing(self._office, in_hand)
        given = await self._office.store.perform(self._work(standing, wish))
        self._office.watch.set(standing.clock, standing.ticks)
        return given

    async def sign_out(self) -> None:
        """Tell the others that this node is gone, and has nothing in hand."""

        def work() -> Work[None]:
            yield "DELETE FROM node WHERE id = $1", (self._office.node,)
            yield self._office.store.signal()  # the others may have our connections now

        await self._office.store.perform(work())

    def _work(self, standing: Standing, wish: Wish) -> Work[Given]:
        yield from standing.look(wish.revision)
        yield from settle(standing, wish.found)
        if wish.recover:
            yield from recover(standing, wish.in_hand)
        if wish.probed is not None:
            feel(standing, wish.probed.evidence, wish.probed.revision)
        put_off = yield from take_over(standing)
        connections = standing.connections()
        claims, again = yield from claim(standing, 0 if connections == 0 else wish.capacity)
        yield from self._books.entries(standing.turns, standing.clock.wall)
        probe = False
        if standing.pressure.probe_due(standing.now):
            if standing.now >= standing.probing_until and connections != 0:
                probe = True
                standing.probing_until = standing.now + _PROBE
            again = standing.probing_until  # the node that probes comes sooner
        if put_off:
            later = standing.now + GRACE
            again = min(later, again or later)
        yield from standing.leave(max(wish.connections, connections or 0))
        return Given(claims, standing.pressure, again, connections, probe)
