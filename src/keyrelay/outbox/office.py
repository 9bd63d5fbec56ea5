"""What the desks of one node share: where submissions are taken in, worked on and steered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from keyrelay.audit.journal import Journal
from keyrelay.outbox.budget import Limits
from keyrelay.outbox.clock import Watch, ticks
from keyrelay.outbox.records import moment
from keyrelay.outbox.schedule import OutboxClock, RetryPolicy
from keyrelay.secrets.keyring import Keyring
from keyrelay.store.model import Store


@dataclass(frozen=True, slots=True)
class Office:
    """One node's share in the outbox.

    ``node`` is an id that no other process has ever had, ``name`` what people call it. ``lease`` is how long the others
    wait for a sign of life before they take its messages over.
    """

    node: str
    name: str
    store: Store
    keyring: Keyring
    journal: Journal
    policy: RetryPolicy
    limits: Limits
    lease: timedelta = timedelta(seconds=30)
    watch: Watch = field(default_factory=Watch)

    async def open(self) -> None:
        """Learn what time it is. Raises StoreUnavailable."""
        rows = await self.store.rows(f"SELECT now, wall, {self.store.dialect.wall_clock} FROM outbox WHERE id = 1")  # noqa: S608 - a constant
        now, wall, at = (moment(stamped) for stamped in rows[0])
        self.watch.set(OutboxClock(now, wall).looked_at(at, self.watch.own), ticks())
