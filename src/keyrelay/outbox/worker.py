"""The worker of one node: goes round and round, and hands over what each round gives it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from keyrelay.errors import KeyrelayError
from keyrelay.log import failure
from keyrelay.outbox import content
from keyrelay.outbox.attempts import Attempt, not_begun
from keyrelay.outbox.figures import Work
from keyrelay.outbox.office import Office
from keyrelay.outbox.rounds import Given, Probed, Rounds, Wish
from keyrelay.outbox.settling import Claim, Found
from keyrelay.profile.keeper import Snapshot
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import Evidence, StageFailed

_logger = logging.getLogger(__name__)

_AHEAD_SECONDS = 0.1  # of work that is claimed before somebody is free for it
_MOST_AHEAD = 256
_STORE_AWAY_SECONDS = 1.0
_A_MOMENT = 0.05
_LONGEST_SECONDS = 3600.0  # for a whole message, however slowly the relay answers each of our lines


@dataclass(frozen=True, slots=True)
class Pace:
    """How many ``sessions`` go on at once where the limits allow so many.

    ``goodbye``: how many seconds a message that is under way gets when we are told to stop.
    """

    sessions: int = 8
    goodbye: float = 20.0


class Worker:
    """Sends what is due. ``finished`` is called after each round that changed something."""

    def __init__(
        self,
        office: Office,
        mailer: Mailer,
        snapshot: Callable[[], Awaitable[Snapshot]],
        pace: Pace,
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self._office = office
        self._mailer = mailer
        self._snapshot = snapshot
        self._pace = pace
        self._finished = finished
        self._rounds = Rounds(office)
        self.figures = Work()
        self._in_hand: dict[str, Claim] = {}
        self._found: list[Found] = []
        self._probed: Probed | None = None
        self._tasks: dict[asyncio.Task[None], float] = {}  # and since when
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._unsure = True  # of what the store holds of ours
        self._sessions = pace.sessions if office.limits.connections is None else 0  # until we know our share
        self._granted = 0  # connections that the others leave to us
        self._settled_at = time.monotonic()
        self._rate = 0.0

    @property
    def can_send(self) -> bool:
        """Whether it may have a connection at all, and is not about to stop."""
        return self._sessions > 0 and not self._stopping

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing more on; ``run`` returns when what is under way has come to its end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until told to stop. Nothing that goes wrong with a message, the relay or the store ends it."""
        listening = asyncio.create_task(self._listen(), name="keyrelay-news")
        try:
            while not self._stopping:
                self._wake.clear()
                await self._wait(await self._go_round())
            await self._leave()
        finally:
            listening.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(listening, *self._tasks, return_exceptions=True)

    # --- Rounds ----------------------------------------------------------------------------------------------

    async def _go_round(self) -> float:
        """One round. Gives how many seconds there is nothing to do, unless somebody wakes us."""
        found: list[Found] = []
        probed: Probed | None = None
        try:
            snapshot = await self._snapshot()
            lapsed = self._office.watch.age > self._office.lease
            # In one go with what is in hand: what is neither counts as lost on its way.
            found, self._found = self._found, []
            probed, self._probed = self._probed, None
            given = await self.figures.round_seconds.timing(self._rounds.round(self._wish(snapshot, found, probed)))
        except Exception as problem:  # noqa: BLE001 - a worker that ends would leave everything waiting
            self._found, self._probed = found + self._found, self._probed or probed
            self._unsure = True
            _logger.warning("the outbox waits for the database", extra={"facts": failure(problem)})
            await asyncio.sleep(_STORE_AWAY_SECONDS)
            return 0.0
        self._unsure = False
        self._measure(len(found))
        self._end_the_longest()
        if given.connections is not None:
            self._granted = given.connections
            sessions = min(self._pace.sessions, given.connections)
            if sessions > self._sessions:
                self._wake.set()  # more may be claimed
            self._sessions = sessions
            self._mailer.allow(sessions)
        if lapsed or given.connections == 0:  # somebody else may have it, or will
            self._lay_down_what_was_not_begun()
        if given.probe and not self._stopping:
            self._start(self._probe(snapshot.revision), "keyrelay-probe")
        if given.claims:
            await self._begin(given, snapshot.revision)
        if found or given.claims:
            self._finished()
        return self._pause_after(given)

    def _wish(self, snapshot: Snapshot, found: list[Found], probed: Probed | None) -> Wish:
        ahead = 0
        if self._office.policy.unknown == "retry":  # else nothing may be in doubt that was not even begun
            ahead = min(int(self._rate * _AHEAD_SECONDS), _MOST_AHEAD)
        free = self._sessions + ahead - len(self._in_hand)
        return Wish(
            snapshot.revision,
            found,
            dict(self._in_hand),
            self._unsure,
            probed,
            0 if self._stopping or snapshot.profile is None else max(free, 0),
            max(self._mailer.connections, self._granted),  # as many may be open before the round is over
        )

    def _end_the_longest(self) -> None:
        for task, since in self._tasks.items():
            if since + _LONGEST_SECONDS > time.monotonic():
                return  # they stand in the order in which they began
            task.cancel()

    def _measure(self, settled: int) -> None:
        now = time.monotonic()
        passed = max(now - self._settled_at, 1e-3)
        self._settled_at = now
        self._rate += (settled / passed - self._rate) * min(1.0, passed / _AHEAD_SECONDS)

    def _pause_after(self, given: Given) -> float:
        longest = self._office.lease.total_seconds() / 3
        if given.again is None:
            return longest
        # A round more or less is nothing; a loop that does not wait is.
        return max(min((given.again - self._office.watch.now).total_seconds(), longest), _A_MOMENT)

    async def _wait(self, seconds: float) -> None:
        if self._found:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _listen(self) -> None:
        """Wake when another process has given us something to do."""
        seen: object = None
        while True:
            try:
                seen = await self._office.store.news(seen, self._office.lease.total_seconds())
                self._wake.set()
            except KeyrelayError:
                await asyncio.sleep(_STORE_AWAY_SECONDS)

    async def _leave(self) -> None:
        """Let what is under way come to its end, settle it, and say goodbye to the relay and the other nodes."""
        deadline = time.monotonic() + self._pace.goodbye
        while self._tasks and (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            await self._wait(min(await self._go_round(), left))  # the others must not think that we are dead
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._in_hand.clear()
        with suppress(KeyrelayError):
            snapshot = await self._snapshot()
            await self._rounds.round(replace(self._wish(snapshot, self._found, self._probed), capacity=0, recover=True))
            await self._mailer.close()  # first, or the others would open theirs beside ours
            await self._rounds.sign_out()
        self._found = []

    # --- Messages --------------------------------------------------------------------------------------------

    async def _begin(self, given: Given, revision: int) -> None:
        self._in_hand.update({claim.id: claim for claim in given.claims})
        ids = [claim.id for claim in given.claims]
        try:
            await self._office.keyring.refresh(self._office.store)
            contents = await content.reveal_all(self._office.store, self._office.keyring, ids)
        except Exception as problem:  # noqa: BLE001 - as in a round
            _logger.warning("what is to be sent cannot be read", extra={"facts": failure(problem)})
            self._found += [self._laid_down(not_begun(claim, revision)) for claim in given.claims]
            await asyncio.sleep(_STORE_AWAY_SECONDS)
            return
        for claim in given.claims:
            attempt = Attempt(self._office, self._mailer, claim, revision, contents.get(claim.id))
            task = self._start(self._make(attempt), "keyrelay-attempt")
            self._attempts[task] = attempt
            task.add_done_callback(self._attempts.pop)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = time.monotonic()
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self._stopping:
            self._wake.set()

    def _lay_down_what_was_not_begun(self) -> None:
        for task, attempt in self._attempts.items():
            if not attempt.begun:
                task.cancel()

    async def _make(self, attempt: Attempt) -> None:
        found = await self.figures.attempt(attempt.make())  # first: the list is another one by then
        self._found.append(self._laid_down(found))
        self._wake.set()

    def _laid_down(self, found: Found) -> Found:
        # After we were taken over, it may be in hand again by a later claim.
        if self._in_hand.get(found.claim.id) is found.claim:
            del self._in_hand[found.claim.id]
        return found

    async def _probe(self, revision: int) -> None:
        evidence: Evidence | None = None
        try:
            await self._mailer.probe()
        except StageFailed as failure:
            evidence = failure.evidence
        except KeyrelayError as problem:
            evidence = Evidence("vault", "not_found", detail=problem.message)
        self._probed = Probed(evidence, revision)
        self._wake.set()
