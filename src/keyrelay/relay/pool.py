"""Sessions that stay open between messages. One that was opened for an old profile never carries a new one's mail."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from keyrelay.relay.model import StageFailed
from keyrelay.relay.session import Session


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions at once, and how long one is used: ``messages`` on it, ``age`` and ``idle`` in seconds."""

    sessions: int = 8
    messages: int = 100
    age: float = 300.0
    idle: float = 30.0


class Use:
    """One message's use of a session; a context manager."""

    __slots__ = ("_open_one", "_pool", "_revision", "_session")

    def __init__(self, pool: SessionPool, revision: Hashable, open_one: Callable[[], Awaitable[Session]]) -> None:
        self._pool = pool
        self._revision = revision
        self._open_one = open_one
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        self._session = await self._pool.obtain(self._revision, self._open_one)
        return self._session

    async def __aexit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        assert self._session is not None  # noqa: S101 - it was entered
        self._pool.returned(self._session, self._revision, problem)


class SessionPool:
    """Open sessions, kept for the next message.

    ``revision`` stands for everything a session rests on (the profile's tag, its credentials): with another revision
    another session is opened, and those of the old one end as soon as they are free.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._most = limits.sessions
        self._open = 0  # connections, those that are being opened or say goodbye among them
        self._free: list[Session] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._revision: Hashable = None
        self._ending: set[asyncio.Task[None]] = set()
        self._alarm = 0.0  # when the clock rings
        self._clock: asyncio.TimerHandle | None = None
        self._closed = False
        self._none_open = asyncio.Event()
        self._none_open.set()

    @property
    def open(self) -> int:
        """How many connections there are, those that are being opened or say goodbye among them."""
        return self._open

    def allow(self, sessions: int) -> None:
        """From now on, at most so many at once. Those above it end as soon as they are free."""
        if sessions == self._most:
            return
        self._most = sessions
        while self._free and self._open - len(self._ending) > sessions:
            self._end(self._free.pop())
        for _ in range(max(sessions - self._open, 1)):
            self._wake()

    def session(self, revision: Hashable, open_one: Callable[[], Awaitable[Session]]) -> Use:
        """A session for one message (``async with``), kept for others if all goes well.

        Raises what ``open_one`` raises. A session on which anything went wrong is given up.
        """
        return Use(self, revision, open_one)

    async def obtain(self, revision: Hashable, open_one: Callable[[], Awaitable[Session]]) -> Session:
        """A session, which is to be returned. Raises what ``open_one`` raises."""
        while (session := self._take(revision)) is None and self._open >= self._most:
            await self._turn()
        if session is not None:
            return session
        self._open += 1
        self._none_open.clear()
        try:
            return await open_one()
        except BaseException:
            self._gone()
            raise

    def returned(self, session: Session, revision: Hashable, problem: BaseException | None) -> None:
        """A session comes back, after a message that went well, or at which something went wrong."""
        # After a plain refusal the relay still talks; after anything else nobody knows where we stand.
        refused = isinstance(problem, StageFailed) and problem.evidence.kind in {"too_large", "not_offered"}
        if problem is None or refused:
            self._give_back(session, revision)
        else:
            session.wire.abort()
            self._gone()

    async def _turn(self) -> None:
        """Wait until a session is free, or one may be opened."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # somebody else's turn then
            raise

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _gone(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_open.set()
        self._wake()

    def _take(self, revision: Hashable) -> Session | None:
        self._move_to(revision)
        while self._free:
            session = self._free.pop()
            if self._usable(session):
                return session
            self._end(session)
        return None

    def _move_to(self, revision: Hashable) -> None:
        if revision == self._revision:
            return
        self._revision = revision
        for session in self._free:
            self._end(session)
        self._free.clear()

    def _usable(self, session: Session) -> bool:
        fresh = time.monotonic() < self._deadline(session)
        return session.idle and fresh and session.messages < self._limits.messages

    def _deadline(self, session: Session) -> float:
        """When it has been open, or idle, for too long."""
        return min(session.opened_at + self._limits.age, session.used_at + self._limits.idle)

    def _give_back(self, session: Session, revision: Hashable) -> None:
        if revision == self._revision and self._usable(session) and not self._closed and self._open <= self._most:
            self._free.append(session)
            self._set_clock(self._deadline(session))
            self._wake()
        else:
            self._end(session)

    def _set_clock(self, deadline: float) -> None:
        # One timer for all: most sessions are used again long before, and then it rings for nothing.
        if self._clock is not None:
            if self._alarm <= deadline:
                return
            self._clock.cancel()
        self._alarm = deadline
        self._clock = asyncio.get_running_loop().call_later(deadline - time.monotonic(), self._ring)

    def _ring(self) -> None:
        """Say goodbye to sessions that nobody has used in time: relays count them too."""
        self._clock = None
        kept = []
        for session in self._free:
            if self._usable(session):
                kept.append(session)
            else:
                self._end(session)
        self._free = kept
        if kept:
            self._set_clock(min(map(self._deadline, kept)))

    def _end(self, session: Session) -> None:
        task = asyncio.create_task(self._say_goodbye(session), name="keyrelay-quit")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _say_goodbye(self, session: Session) -> None:
        try:
            await session.quit()
        finally:
            self._gone()

    async def close(self) -> None:
        """Say goodbye on every session: on one that is in use once its message is through, for which this waits."""
        self._closed = True
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._move_to(object())
        while self._open:
            await self._none_open.wait()
        await asyncio.gather(*self._ending)
