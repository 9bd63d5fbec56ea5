"""The outbox of one node: the entrance, and the worker if it has one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from keyrelay.errors import KeyrelayError
from keyrelay.outbox.budget import Load
from keyrelay.outbox.clock import ticks
from keyrelay.outbox.events import Feed
from keyrelay.outbox.figures import Work as WorkFigures
from keyrelay.outbox.housekeeping import Housekeeping, Keeping
from keyrelay.outbox.office import Office
from keyrelay.outbox.queue import Queue
from keyrelay.outbox.records import moment, stamp
from keyrelay.outbox.room import Room
from keyrelay.outbox.schedule import OutboxClock
from keyrelay.outbox.standing import sign_of_life
from keyrelay.outbox.worker import Pace, Worker
from keyrelay.profile.keeper import Snapshot
from keyrelay.relay.mailing import Mailer
from keyrelay.store.model import Work


class Outbox:
    """``works``: whether this node sends, or only takes messages in."""

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        office: Office,
        room: Room,
        mailer: Mailer,
        snapshot: Callable[[], Awaitable[Snapshot]],
        pace: Pace,
        *,
        keeping: Keeping | None = None,
    ) -> None:
        self.office = office
        self.room = room
        self.mailer = mailer
        self.feed = Feed(office.store)
        self._worker = Worker(office, mailer, snapshot, pace, self.feed.poke)
        self.queue = Queue(office, room, self.wake, lambda: self._works and self._worker.can_send)
        self._housekeeping = Housekeeping(office, keeping or Keeping())
        self._task: asyncio.Task[None] | None = None
        self._chores: asyncio.Task[None] | None = None
        self._works = False

    def start(self, *, works: bool) -> None:
        """Begin to send, or only to give signs of life."""
        self._works = works
        work = self._worker.run() if works else self._give_signs_of_life()
        self._task = asyncio.create_task(work, name="keyrelay-worker")
        if works:
            self._chores = asyncio.create_task(self._housekeeping.run(), name="keyrelay-housekeeping")

    def wake(self) -> None:
        """Something was changed here that a worker, or who listens, may have waited for."""
        self._worker.wake()
        self.feed.poke()

    @property
    def work(self) -> WorkFigures:
        """What the worker of this process has counted."""
        return self._worker.figures

    async def close(self) -> None:
        """Commit what was handed in, and settle what is under way."""
        await self.feed.close()
        await self.queue.close()
        if self._chores is not None:
            self._chores.cancel()
            await asyncio.gather(self._chores, return_exceptions=True)
        if self._task is not None:
            if self._works:
                self._worker.stop()
            else:
                self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.mailer.close()

    async def _give_signs_of_life(self) -> None:
        while True:
            with suppress(KeyrelayError):
                if self.office.watch.own is None:
                    await self.office.open()
                self.office.watch.set(*await self.office.store.perform(self._sign_of_life()))
            await asyncio.sleep(self.office.lease.total_seconds() / 3)

    def _sign_of_life(self) -> Work[tuple[OutboxClock, float]]:
        """Keeps the row of the outbox's time as well: no worker may be there that does."""
        dialect = self.office.store.dialect
        columns = f"now, wall, {dialect.wall_clock}"
        ((now, wall, at),) = yield f"SELECT {columns} FROM outbox WHERE id = 1{dialect.lock}", ()  # noqa: S608 - constants
        looked = ticks()
        clock = OutboxClock(moment(now), moment(wall)).looked_at(moment(at), self.office.watch.own)
        yield "UPDATE outbox SET now = $1, wall = $2 WHERE id = 1", (stamp(clock.now), stamp(clock.wall))
        yield sign_of_life(self.office, clock, works=False, connections=0, load=Load())
        return clock, looked
