"""The connection that changes are made on, and a thread of its own for what takes long.

A pool of threads would do, and takes half as long again for each step: nobody waits here but for this one thread.
"""

from __future__ import annotations

import asyncio
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self, TypeVar

from keyrelay.store.model import Conflict, Result, Work
from keyrelay.store.wal_index import WalIndex

STATEMENTS = 512
"""How many statements a connection keeps prepared."""

PAGES_AHEAD = 4_000
"""Written to the log before they go into the file: the same few pages change in every commit, and go there once."""

_QUICK = 0.003  # seconds that commits may take in the caller's thread, as a rule
_RULE = 8  # commits that make one
_MOST_ELSEWHERE = 1_000  # commits in the other thread before it is tried again

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005  # seconds, between two looks whether another process still writes
_LOOKS_HERE, _PAUSE_HERE = 5, 0.001  # seconds
_PRIMARY = 0xFF  # of SQLite's extended result codes, the part that says what it is

_Value = TypeVar("_Value")


class Writer:
    """Makes changes, one after the other, for as long as its thread lives."""

    def __init__(self, busy_seconds: float) -> None:
        """``busy_seconds``: for how long it waits for other processes that write."""
        self._busy_seconds = busy_seconds
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection
        self._log: WalIndex | None = None
        self._usual = 0.0  # seconds that commits in the caller's thread take
        self._elsewhere = self._next_elsewhere = 0  # brief commits that go to the thread, because they were slow
        self._under_way = 0  # orders that the thread has not done yet, whoever still waits for them
        # A daemon: whoever fails before it is closed need not wait for it.
        self._thread = threading.Thread(target=self._work, name="keyrelay-sqlite", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection], busy_seconds: float) -> Self:
        """Raises sqlite3.Error."""
        writer = cls(busy_seconds)
        try:
            writer._connection = await writer._ordered(connect)
        except BaseException:
            writer._orders.put(None)
            raise
        return writer

    async def know_log(self, log: WalIndex) -> None:
        """From now on it is written into the file when it is long, and not by SQLite with whichever commit comes."""
        await self.do(lambda connection: connection.execute("PRAGMA wal_autocheckpoint=0"))
        self._log = log

    async def do(self, what: Callable[[sqlite3.Connection], _Value]) -> _Value:
        """Do something with the connection, in the thread. It waits for no other process that writes."""
        return await self._ordered(lambda: what(self._connection))

    async def do_patiently(self, what: Callable[[sqlite3.Connection], _Value]) -> _Value:
        """The same for what begins to write by itself."""

        def work() -> _Value:
            self._connection.execute(f"PRAGMA busy_timeout = {self._busy_seconds * 1000:.0f}")
            try:
                return what(self._connection)
            finally:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._keep_log_short(self._connection)

        return await self._ordered(work)

    def _ordered(self, what: Callable[[], _Value]) -> asyncio.Future[_Value]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_Value] = loop.create_future()
        self._under_way += 1

        def work() -> None:
            try:
                value = what()
            except BaseException as problem:  # noqa: BLE001 - whoever waits gets it
                tell: Callable[[], None] = _telling(outcome, problem)
            else:
                tell = _giving(outcome, value)

            def done() -> None:
                self._under_way -= 1
                tell()

            with suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(done)

        self._orders.put(work)
        return outcome

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()

    async def close(self) -> None:
        await self.do(sqlite3.Connection.close)
        self._orders.put(None)

    # --- A transaction as a generator --------------------------------------------------------------------------

    async def perform(self, work: Work[Result]) -> Result:
        """Run the whole of a transaction in the thread."""
        return await self._ordered(lambda: self._perform(work))

    async def perform_here(self, work: Work[Result], *, brief: bool) -> Result:
        """What waits for the disk in the thread, and the rest in the caller's.

        Two threads that both run Python take turns of milliseconds: a transaction took three times as long.
        """
        try:
            await self._begin_here()
            result = _drive(self._connection, work)
            await self._end_here(brief=brief)
        except BaseException as problem:
            # Shielded: whoever is cancelled must not leave a transaction open for the next one.
            await asyncio.shield(self.do(_roll_back))
            raise _meaning(problem) from problem
        return result

    async def _begin_here(self) -> None:
        """Begin to write with the caller's next step: others do not wait until its event loop comes round to it.

        Who writes without a pause would never be met between two looks: that is waited for in the thread.
        """
        for _ in range(_LOOKS_HERE):
            if self._under_way:  # of somebody who was cancelled: the connection is in use
                break
            if _begun(self._connection):
                return
            await asyncio.sleep(_PAUSE_HERE)
        await self.begin()

    async def _end_here(self, *, brief: bool) -> None:
        """Commit; here what is brief, unless the disk is slow.

        The way to the thread and back takes as long: each time that a busy event loop lets go of the interpreter, it
        wakes the thread, which finds it taken again.
        """
        if not brief or self._log is None:
            await self.commit()
        elif self._elsewhere:
            self._elsewhere -= 1
            await self.commit()
        else:
            self._commit_here()
            if self._log_is_long():
                await self.do(self._keep_log_short)

    def _commit_here(self) -> None:
        began = time.perf_counter()
        self._connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        # In the thread that cannot be known, which waits for the interpreter as well: a slow disk is tried again, more
        # and more rarely.
        self._usual += (seconds - self._usual) / _RULE
        if seconds < _QUICK:
            self._next_elsewhere = 0
        if self._usual > _QUICK:
            rarely = max(int(self._usual / _QUICK), 2 * self._next_elsewhere)
            self._elsewhere = self._next_elsewhere = min(rarely, _MOST_ELSEWHERE)
            self._usual = 0.0

    async def commit(self) -> None:
        await self.do(self._commit)

    async def begin(self) -> None:
        await self.do(self._begin)

    def _perform(self, work: Work[Result]) -> Result:
        connection = self._connection
        try:
            self._begin(connection)
            result = _drive(connection, work)
            self._commit(connection)
        except BaseException as problem:
            _roll_back(connection)
            raise _meaning(problem) from problem
        return result

    def _commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        self._keep_log_short(connection)

    def _log_is_long(self) -> bool:
        """Too long, and with pages that are not in the file yet: others may have added some while it was written."""
        return self._log is not None and PAGES_AHEAD < self._log.pages() > self._log.written()

    def _keep_log_short(self, connection: sqlite3.Connection) -> None:
        """Write the log into the file when it is long."""
        if self._log_is_long():
            with suppress(sqlite3.Error):  # it is tried again, and what was committed is
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin to write, as soon as no other process does.

        SQLite would sleep for one millisecond, then two, five and ten between its looks; transactions take less.
        """
        if _begun(connection):
            return
        deadline, pause = time.monotonic() + self._busy_seconds, _SHORTEST_PAUSE
        while not _begun(connection, last=time.monotonic() > deadline):
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)


def _begun(connection: sqlite3.Connection, *, last: bool = False) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as problem:
        if last or problem.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # what went wrong first says more
        connection.rollback()


def _meaning(problem: BaseException) -> BaseException:
    return Conflict(str(problem)) if isinstance(problem, sqlite3.IntegrityError) else problem


def _drive(connection: sqlite3.Connection, work: Work[Result]) -> Result:
    try:
        sql, values = next(work)
        while True:
            sql, values = work.send(connection.execute(numbered(sql), values).fetchall())
    except StopIteration as end:
        result: Result = end.value
        return result


@lru_cache(maxsize=STATEMENTS)
def numbered(sql: str) -> str:
    """The same statement with its parameters as SQLite counts them."""
    # SQLite takes $1 for a parameter whose name is 1, and ?1 for the first one.
    return re.sub(r"\$(\d+)", r"?\1", sql)


def _giving(outcome: asyncio.Future[Any], value: object) -> Callable[[], None]:
    return lambda: None if outcome.done() else outcome.set_result(value)


def _telling(outcome: asyncio.Future[Any], problem: BaseException) -> Callable[[], None]:
    return lambda: None if outcome.done() else outcome.set_exception(problem)
