"""Sessions that stay open between messages. One that was opened for an old profile never carries a new one's mail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
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


class SessionPool:
    """Open sessions, kept for the next message.

    ``revision`` stands for everything a session rests on (the profile's tag, its credentials): with another revision
    another session is opened, and those of the old one end as soon as they are free.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._room = asyncio.Semaphore(limits.sessions)
        self._free: list[Session] = []
        self._revision: Hashable = None
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def session(self, revision: Hashable, open_one: Callable[[], Awaitable[Session]]) -> AsyncIterator[Session]:
        """A session for one message, kept for others if all goes well.

        Raises what ``open_one`` raises. A session on which anything went wrong is given up.
        """
        async with self._room:
            session = self._take(revision) or await open_one()
            try:
                yield session
            except BaseException as problem:
                # After a plain refusal the relay still talks; after anything else nobody knows where we stand.
                if isinstance(problem, StageFailed) and problem.evidence.kind in {"too_large", "not_offered"}:
                    self._give_back(session, revision)
                else:
                    session.wire.abort()
                raise
            self._give_back(session, revision)

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
        now = time.monotonic()
        fresh = now - session.opened_at < self._limits.age and now - session.used_at < self._limits.idle
        return session.idle and fresh and session.messages < self._limits.messages

    def _give_back(self, session: Session, revision: Hashable) -> None:
        if revision == self._revision and self._usable(session):
            self._free.append(session)
        else:
            self._end(session)

    def _end(self, session: Session) -> None:
        task = asyncio.create_task(session.quit(), name="keyrelay-quit")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Say goodbye on every free session."""
        self._move_to(object())
        await asyncio.gather(*self._ending)
