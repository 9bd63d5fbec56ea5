"""Keeping house: what is old goes, and the disk space with it. One node at a time, a little at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TypeVar

from keyrelay.audit import retention
from keyrelay.audit.chain import read_head
from keyrelay.errors import KeyrelayError, KeyUnknown, TrailBroken
from keyrelay.outbox import forgetting, sweeping
from keyrelay.outbox.forgetting import Ages, Forgetting, Found, Gone, Look
from keyrelay.outbox.model import ENDED
from keyrelay.outbox.office import Office
from keyrelay.outbox.records import first_id, stamp
from keyrelay.outbox.room import held
from keyrelay.store.model import Row, Work

_logger = logging.getLogger(__name__)

_dice = random.SystemRandom()

_LOOK_SECONDS = 10.0  # between two looks whether there is something to do
_EVERY = timedelta(minutes=5)
_LEASE = timedelta(minutes=1)  # renewed with every step
_JITTER = 0.2
_MOST_IN_VAIN = 20_000  # messages looked at in one walk that may not go yet
_CROWDED, _ROOMY = 0.8, 0.7  # parts of what the outbox may hold
_KEYS, _EVENTS, _MINUTES = timedelta(hours=24), timedelta(minutes=10), timedelta(days=7)
_MINUTE = 60_000_000
_NOT_LONG = timedelta(0)

Result = TypeVar("Result")
Step = Callable[[Sequence[Found], Ages], Work[Gone]]


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how long contents and records are kept after the message has ended, and ``most`` octets of content.

    ``audit``: for how long entries of the audit trail are.

    When the outbox is crowded, the contents of accepted messages go sooner, the oldest first: they only serve those who
    want to look at them, and new messages would be refused.
    """

    accepted_content: timedelta = timedelta(days=1)
    failed_content: timedelta = timedelta(days=14)
    accepted: timedelta = timedelta(days=30)
    failed: timedelta = timedelta(days=90)
    audit: timedelta = timedelta(days=2557)
    most: int = 4096 * 1024 * 1024

    @property
    def contents(self) -> Ages:
        return {state: self.accepted_content if state == "accepted" else self.failed_content for state in ENDED}

    @property
    def records(self) -> Ages:
        return {state: self.accepted if state == "accepted" else self.failed for state in ENDED}


class _Replaced(Exception):
    """Another node keeps house by now."""


class Housekeeping:
    """The housekeeping of one node. ``pause``: seconds after each step, and at least as long as the step has taken."""

    def __init__(self, office: Office, keeping: Keeping, pause: float = 0.05) -> None:
        self._office = office
        self._store = office.store
        self._keeping = keeping
        self._pause = pause
        self._forgetting = Forgetting(office)
        self._walks: dict[str, str] = {}  # where a walk that was long enough goes on
        self._in_vain_until = 0.0

    async def run(self) -> None:
        """Keep house until cancelled. Nothing that goes wrong ends it."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS * _dice.uniform(1 - _JITTER, 1 + _JITTER))
            try:
                await self.look()
            except KeyrelayError as problem:
                _logger.info("housekeeping waits for the database", extra={"facts": {"code": problem.code}})
            except Exception:  # whatever it is, the mail goes on, and so does the rest of the house
                _logger.exception("housekeeping failed")

    async def look(self) -> Mapping[str, int] | None:
        """Keep house if it is due, or the outbox is crowded, and nobody else does. Gives what went; None if not due."""
        if self._office.watch.own is None:
            await self._office.open()
        crowded = await self._too_much() > 0 and time.monotonic() > self._in_vain_until
        if not await self._begin(crowded=crowded):
            return None
        started = time.monotonic()
        done: Counter[str] = Counter()
        try:
            await self._make_room(done)
            await self._forget(done)
            await self._sweep(done)
            await self._forget_audit(done)
            done["disk octets"] += await self._give_back()
            await self._perform(_ended(stamp(self._again())))
        except _Replaced:
            _logger.info("another node keeps house now")
        went = {what: amount for what, amount in done.items() if amount}
        if went:
            _logger.info("kept house", extra={"facts": {**went, "seconds": round(time.monotonic() - started, 1)}})
        return went

    # --- Whose turn it is ------------------------------------------------------------------------------------

    async def _begin(self, *, crowded: bool) -> bool:
        due = stamp(self._office.watch.now)
        ((node, until),) = await self._store.rows("SELECT node, until FROM housekeeping WHERE id = 1")
        if until > due and (node or not crowded):
            return False
        free = "until <= $3 OR (node = '' AND $4 = 1)"
        sql = f"UPDATE housekeeping SET node = $1, until = $2 WHERE id = 1 AND ({free}) RETURNING id"  # noqa: S608
        until = stamp(self._office.watch.now + _LEASE)
        return bool(await self._store.perform(_one(sql, (self._office.node, until, due, int(crowded)))))

    async def _perform(self, work: Work[Result]) -> Result:
        """One step, in a transaction that nobody's but ours can be. Raises _Replaced."""
        started = time.monotonic()
        result = await self._store.perform(self._ours(work), length="long")
        await asyncio.sleep(max(self._pause, time.monotonic() - started))
        return result

    def _ours(self, work: Work[Result]) -> Work[Result]:
        until = stamp(self._office.watch.now + _LEASE)
        sql = "UPDATE housekeeping SET until = $1 WHERE id = 1 AND node = $2 RETURNING id"
        if not (yield sql, (until, self._office.node)):
            raise _Replaced
        return (yield from work)

    def _again(self) -> datetime:
        return self._office.watch.now + _EVERY * _dice.uniform(1 - _JITTER, 1 + _JITTER)

    # --- Messages --------------------------------------------------------------------------------------------

    async def _too_much(self) -> int:
        """By how many octets the outbox is crowded; 0 when it is not."""
        now = await held(self._store)
        return now - int(self._keeping.most * _ROOMY) if now > self._keeping.most * _CROWDED else 0

    async def _make_room(self, done: Counter[str]) -> None:
        wanted = await self._too_much()
        if wanted <= 0:
            return
        ages = {**self._keeping.contents, "accepted": _NOT_LONG}
        went = await self._walk("room", forgetting.contents, self._forgetting.content, ages, wanted)
        _add(done, "contents", went)
        if not went.messages:  # what crowds it waits: there is no hurry to look again
            self._in_vain_until = time.monotonic() + _EVERY.total_seconds()

    async def _forget(self, done: Counter[str]) -> None:
        contents, records = self._keeping.contents, self._keeping.records
        went = await self._walk("contents", forgetting.contents, self._forgetting.content, contents)
        _add(done, "contents", went)
        for state in sorted(ENDED):
            look = forgetting.records(state)
            went = await self._walk(state, look, self._forgetting.record, {state: records[state]})
            _add(done, "messages", went)

    async def _walk(self, name: str, look: Look, step: Step, ages: Ages, wanted: float = inf) -> Gone:
        """Look at messages, the oldest first, and let those go that are old, until so many octets went."""
        watch, went, in_vain = self._office.watch, Gone(), 0
        before = first_id(watch.wall - min(ages.values()))  # what was submitted later cannot be that old
        after = self._walks.pop(name, "")
        while went.octets < wanted and (found := await look(self._store, after, before)):
            old = [one for one in found if one.is_old(ages, watch.now)]
            for bite in forgetting.bites(old):
                if went.octets < wanted:
                    went = went.plus(await self._perform(step(bite, ages)))
            after = found[-1].id
            in_vain += len(found) - len(old)
            if in_vain >= _MOST_IN_VAIN:
                self._walks[name] = after
                break
            if not old:
                await asyncio.sleep(self._pause)
        return went

    # --- What stands beside them -----------------------------------------------------------------------------

    async def _sweep(self, done: Counter[str]) -> None:
        wall = self._office.watch.wall
        for what, statement, than in (
            ("keys", sweeping.KEYS, stamp(wall - _KEYS)),
            ("events", sweeping.EVENTS, stamp(wall - _EVENTS)),
            ("minutes", sweeping.MINUTES, stamp(wall - _MINUTES) // _MINUTE),
        ):
            more = True
            while more:
                gone, more = await self._perform(sweeping.older(statement, than))
                done[what] += gone
        done["sums"] += await self._perform(sweeping.sums(self._office.watch.now))
        done["tallies"] += await self._perform(sweeping.tallies(self._office))

    async def _forget_audit(self, done: Counter[str]) -> None:
        """By the wall clock, as the entries are written."""
        now, age = datetime.now(UTC), self._keeping.audit
        if not await retention.is_due(self._store, now, age):
            return
        try:
            signer = await self._office.journal.signer(self._store)
            last = (await read_head(self._store)).last
            while gone := await self._perform(retention.forget(signer, now, age, last)):
                done["audit entries"] += gone
        except (KeyUnknown, TrailBroken) as problem:  # the rest of the house is kept all the same
            _logger.error("the audit trail cannot be shortened", extra={"facts": {"code": problem.code}})  # noqa: TRY400

    async def _give_back(self) -> int:
        """Give disk space back that nobody uses, and is not likely to."""
        whole = 0
        while given := await self._store.give_back():
            whole += given
            await self._perform(_nothing())
        return whole


def _add(done: Counter[str], what: str, gone: Gone) -> None:
    done[what] += gone.messages
    done["octets"] += gone.octets


def _one(sql: str, values: Sequence[object]) -> Work[Sequence[Row]]:
    return (yield sql, values)


def _nothing() -> Work[None]:
    return
    yield


def _ended(again: int) -> Work[None]:
    yield "UPDATE housekeeping SET node = '', until = $1 WHERE id = 1", (again,)
