"""What a person does by hand: to a message (cancel, hold, release, resend), and to the whole outbox (pause, resume).

Like the rounds of the workers, each change begins by locking the one row of the outbox, so it never meets them half
way. Only messages that nobody has the lease of are touched.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from keyrelay.audit.acting import acting
from keyrelay.audit.model import Actor, Category, Deed, Kind, Operation, changes_between
from keyrelay.errors import NotNow
from keyrelay.outbox.books import Books, Turn
from keyrelay.outbox.listing import is_id, unknown, whole
from keyrelay.outbox.model import ACTIONS, ENDED, Action, Recipient, State, state_of
from keyrelay.outbox.office import Office
from keyrelay.outbox.pressure import Pressure, paused_by_operator, resumed_by_operator
from keyrelay.outbox.records import COLUMNS, Kept, due_at, moment, readable, stamp, written
from keyrelay.outbox.schedule import OutboxClock, steered
from keyrelay.store.model import Work

FAILED: Final[frozenset[State]] = frozenset({"refused", "expired"})
_BATCH = 200  # messages in one transaction
_LOOKED_AT = 1000  # at once, on the way through those that failed
_OPERATIONS: Mapping[Action, Operation] = {
    "cancel": Operation.REVOKED,
    "hold": Operation.UPDATED,  # upstream has no number for it
    "release": Operation.REMOVED_FROM_HOLD,
    "resend": Operation.RESTARTED,
}
_DONE: Mapping[Action, str] = {"cancel": "cancelled", "hold": "held", "release": "released", "resend": "sent again"}

_encode = msgspec.json.Encoder().encode
_pressure = msgspec.json.Decoder(Pressure)


@dataclass(frozen=True, slots=True)
class Resent:
    """What came of sending many again: how many wait now, and of how many the content is not kept any more."""

    messages: int = 0
    gone: int = 0


Changed = tuple[Kept, Sequence[Recipient]]  # a message, and its recipients as they are from now on


class Steering:
    """Steers the outbox. ``changed`` is called after each commit."""

    def __init__(self, office: Office, changed: Callable[[], None] = lambda: None) -> None:
        self._office = office
        self._store = office.store
        self._changed = changed
        # There may be several in one process, and each counts the entries in its books.
        self._books = Books(f"{office.node}-{secrets.token_hex(2)}", "by-hand")

    async def steer(self, name: str, action: Action) -> Kept:
        """Do this to all recipients of a message that are in a state for it, and give the message as it is then.

        Raises UnknownName, NotNow when there is no such recipient, or StoreUnavailable.
        """
        if not is_id(name):
            raise unknown()
        await self._may_write()
        kept = await self._store.perform(self._steer(name, action, acting()))
        self._changed()
        return kept

    async def resend_failed(
        self,
        since: datetime,
        states: Collection[State] = FAILED,
        progress: Callable[[Resent], None] = lambda _: None,
    ) -> Resent:
        """Send all messages again that ended since then, a time of the wall clock, and in one of these states.

        Only to the recipients that are in one of them. ``progress`` is told how far it has come. What was done before
        an error stays done. Raises StoreUnavailable.
        """
        await self._may_write()
        by, clock = acting(), await self._clock()
        ended_since = stamp(clock.of_wall(min(max(since, _FIRST), clock.wall)))
        done = Resent()
        wanted = ACTIONS["resend"][0].intersection(states)
        for state in sorted(wanted):
            last = ""
            while rows := await self._store.rows(_ENDED, state, last):
                last = rows[-1][0]
                await asyncio.sleep(0)  # SQLite answers in this very thread
                found = [name for name, ended_at in rows if ended_at is not None and ended_at >= ended_since]
                for first in range(0, len(found), _BATCH):
                    some = self._resend(found[first : first + _BATCH], wanted, by)
                    batch = await self._store.perform(some, length="long")
                    done = Resent(done.messages + batch.messages, done.gone + batch.gone)
                    self._changed()
                    progress(done)
        return done

    async def pause(self) -> Pressure:
        """Let nothing go out until somebody resumes it. Raises StoreUnavailable."""
        return await self._press(paused_by_operator)

    async def resume(self) -> Pressure:
        """Let everything go out, whatever held it up. Raises StoreUnavailable."""
        return await self._press(lambda _, __: resumed_by_operator())

    # --- Transactions ----------------------------------------------------------------------------------------

    def _steer(self, name: str, action: Action, by: Actor) -> Work[Kept]:
        clock, _ = yield from self._look()
        rows = yield self._locked(1), (name,)
        if not rows:
            raise unknown()
        *columns, has_content = rows[0]
        kept = whole(columns)
        if kept.lease is not None:
            raise NotNow("The message is being sent at this moment.", remedy="Try again in a few seconds.")
        allowed, after = ACTIONS[action]
        if not any(one.state in allowed for one in kept.submission.recipients):
            raise NotNow(f"The message is {kept.state.replace('_', ' ')}, and cannot be {_DONE[action]}.")
        if after == "queued" and not has_content:
            raise NotNow("The content of the message is not kept any more.", remedy="Hand the message in again.")
        recipients = self._steered(kept, action, allowed, clock.now)
        yield from self._write([(kept, recipients)], clock, by, [_of_message(action, kept, recipients)])
        return msgspec.structs.replace(kept, submission=msgspec.structs.replace(kept.submission, recipients=recipients))

    def _resend(self, names: Sequence[str], states: frozenset[State], by: Actor) -> Work[Resent]:
        clock, _ = yield from self._look()
        rows = yield self._locked(len(names)), tuple(names)
        changes, gone = [], 0
        for row in rows:
            *columns, has_content = row
            kept = readable(columns)
            if kept is None or kept.lease is not None or kept.state not in states:
                continue  # somebody was faster
            if has_content:
                changes.append((kept, self._steered(kept, "resend", states, clock.now)))
            else:
                gone += 1
        yield from self._write(changes, clock, by, [_of_many(changes)] if changes else [])
        return Resent(len(changes), gone)

    async def _press(self, change: Callable[[Pressure, datetime], Pressure]) -> Pressure:
        await self._may_write()
        pressure = await self._store.perform(self._change(change, acting()))
        self._changed()
        return pressure

    def _change(self, change: Callable[[Pressure, datetime], Pressure], by: Actor) -> Work[Pressure]:
        clock, before = yield from self._look()
        after = change(before, clock.now)
        if (after.mode, after.why) == (before.mode, before.why):
            return before  # since when it is so is worth keeping
        yield "UPDATE outbox SET pressure = $1 WHERE id = 1", (_encode(after).decode(),)
        yield from self._office.journal.entries(by, _of_outbox(before, after))
        yield self._store.signal()
        return after

    # --- What they are made of -------------------------------------------------------------------------------

    def _look(self) -> Work[tuple[OutboxClock, Pressure]]:
        """What time it is, and how the outbox stands; nobody else changes either now."""
        dialect = self._store.dialect
        ((now, wall, pressure, at),) = yield (
            f"SELECT now, wall, pressure, {dialect.wall_clock} FROM outbox WHERE id = 1{dialect.lock}",  # noqa: S608 - constants
            (),
        )
        clock = OutboxClock(moment(now), moment(wall)).looked_at(moment(at), self._office.watch.own)
        return clock, _pressure.decode(pressure)

    def _locked(self, names: int) -> str:
        marks = ", ".join(f"${number}" for number in range(1, names + 1))
        has_content = "EXISTS (SELECT 1 FROM message_content WHERE message_content.message = message.id)"
        lock = self._store.dialect.lock
        return f"SELECT {COLUMNS}, {has_content} FROM message WHERE id IN ({marks}) ORDER BY id{lock}"  # noqa: S608 - constants

    def _steered(self, kept: Kept, action: Action, states: Collection[State], now: datetime) -> tuple[Recipient, ...]:
        policy = self._office.policy
        return tuple(
            steered(one, action, policy, now) if one.state in states else one for one in kept.submission.recipients
        )

    def _write(self, changes: Sequence[Changed], clock: OutboxClock, by: Actor, deeds: Sequence[Deed]) -> Work[None]:
        turns = []
        for kept, recipients in changes:
            state = state_of(one.state for one in recipients)
            ended_at = stamp(clock.now) if state in ENDED else None
            yield _WRITE, (state, written(recipients), due_at(recipients), ended_at, kept.submission.id)
            turns.append(Turn(kept.submission.id, kept.state, state))
        yield from self._books.entries(turns, clock.wall)
        if deeds:
            yield from self._office.journal.entries(by, *deeds)
        if turns:
            yield self._store.signal()

    async def _may_write(self) -> None:
        """Raise KeyUnknown when nothing could be recorded."""
        await self._office.keyring.refresh(self._store)
        await self._office.journal.signer(self._store)

    async def _clock(self) -> OutboxClock:
        if self._office.watch.own is None:
            await self._office.open()
        return self._office.watch.clock


def _of_message(action: Action, kept: Kept, recipients: Sequence[Recipient]) -> Deed:
    before, after = kept.state, state_of(one.state for one in recipients)
    changes = changes_between({"state": before}, {"state": after}, ())
    number = sum(old != new for old, new in zip(kept.submission.recipients, recipients, strict=True))
    name, object_ = kept.submission.message_id, kept.submission.id
    details = {"action": action, "recipients": number}
    return Deed(*(Category.OUTBOX, _OPERATIONS[action], Kind.MESSAGE, name, object_), details=details, changes=changes)


def _of_many(changes: Sequence[Changed]) -> Deed:
    messages = [kept.submission.id for kept, _ in changes]
    return _deed(Operation.RESTARTED, {"action": "resend", "messages": messages})


def _of_outbox(before: Pressure, after: Pressure) -> Deed:
    action = "pause" if after.mode == "paused" else "resume"
    changes = changes_between({"mode": before.mode, "why": before.why}, {"mode": after.mode, "why": after.why}, ())
    return replace(_deed(Operation.UPDATED, {"action": action}), changes=changes)


def _deed(operation: Operation, details: Mapping[str, Any]) -> Deed:
    return Deed(Category.OUTBOX, operation, Kind.OUTBOX, "outbox", "1", details=details)


_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
# Who is queued again does not wait for a time of day any more, and who is cancelled waits for nothing.
_WRITE = (
    "UPDATE message SET state = $1, recipients = $2, due_at = $3, release_at = NULL, ended_at = $4"
    " WHERE id = $5 AND lease IS NULL"
)
_ENDED = f"SELECT id, ended_at FROM message WHERE state = $1 AND id > $2 ORDER BY id LIMIT {_LOOKED_AT}"  # noqa: S608 - a constant
