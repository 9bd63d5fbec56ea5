"""SQLite: one file, any number of processes on this machine.

Two connections. Reading happens at once in the event loop's thread: a statement takes microseconds, and in WAL mode
it never waits for a writer. Changes go through the other one, with BEGIN IMMEDIATE so that a transaction that reads and
then writes can never fail half-way, and synchronous=FULL so that what was committed survives power loss; what takes
long of them is done in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from keyrelay.errors import DatabaseUnreachable, DataDirUnusable, StoreUnavailable
from keyrelay.store.model import Conflict, Dialect, Length, Result, Row, Statement, Topic, Work
from keyrelay.store.schema import HEAD, migrate, require_usable
from keyrelay.store.sqlite_survey import Surveyor
from keyrelay.store.sqlite_writer import PAGES_AHEAD, STATEMENTS, Writer, numbered
from keyrelay.store.wal_index import WalIndex

_BUSY_SECONDS = 30.0
_LOOK_SECONDS = 0.05  # between two looks whether another process has changed the file
# So many free pages, or one in so many, are left in the file: the next messages will want them.
_SPARE_PAGES, _SPARE_PART = 16_384, 10
_PAGES_AT_ONCE = 256  # given back in one transaction

# Nobody else changes anything during a transaction.
DIALECT = Dialect("", "", "wall_microseconds()")

_logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")


class SqliteStore:
    """See Store; ``look`` is exact, because the file itself tells whether any process has changed it."""

    marks: Mapping[Topic, int]
    dialect = DIALECT
    writable = True

    def __init__(self, file: Path, reader: sqlite3.Connection, writer: Writer, newest: Callable[[], object]) -> None:
        self._reader = reader
        self._surveyor = Surveyor(partial(_reading_connection, file))
        self._writer = writer
        self._turn = asyncio.Lock()
        self._newest = newest
        self._seen: object = None
        self.marks = {}

    @classmethod
    async def open(cls, file: Path) -> Self:
        _make_private(file)
        try:
            if (version := _schema_version(file)) != HEAD:
                require_usable(version, _schema_floor(file))
                if version is None or version < HEAD:
                    await migrate(file)
            return await cls._connect(file)
        except sqlite3.Error as problem:
            raise DatabaseUnreachable(f"The SQLite file {file} cannot be opened: {problem}.") from problem

    @classmethod
    async def _connect(cls, file: Path) -> Self:
        writer = await Writer.open(partial(_writing_connection, file), _BUSY_SECONDS)
        try:
            reader = _reading_connection(file)
            reader.execute("SELECT 1 FROM change_mark").fetchone()  # SQLite makes the index when it first reads
            if (index := WalIndex.of(file)) is not None:
                await writer.know_log(index)
            store = cls(file, reader, writer, _newest(index, reader))
            store.look()
        except BaseException:
            await writer.close()  # its thread would keep the process alive
            raise
        return store

    def look(self) -> None:
        try:
            newest = self._newest()
            if newest != self._seen:
                self.marks = dict(self._reader.execute("SELECT topic, version FROM change_mark"))
                self._seen = newest
        except sqlite3.Error as problem:
            raise unavailable(problem) from problem

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            return self._reader.execute(numbered(sql), values).fetchall()
        except sqlite3.Error as problem:
            raise unavailable(problem) from problem

    async def survey(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            return await self._surveyor.rows(sql, *values)
        except sqlite3.Error as problem:
            raise unavailable(problem) from problem

    @asynccontextmanager
    async def change(self, *topics: Topic) -> AsyncIterator[_SqliteChange]:
        async with self._turn:
            change = _SqliteChange(self._writer)
            try:
                try:
                    await self._writer.begin()
                    for topic in topics:
                        await change.run("UPDATE change_mark SET version = version + 1 WHERE topic = $1", topic)
                    yield change
                    await self._writer.commit()
                except BaseException:
                    # Shielded: a cancelled request must not leave its transaction open for the next one.
                    await asyncio.shield(self._writer.do(sqlite3.Connection.rollback))
                    raise
            except sqlite3.Error as problem:
                raise unavailable(problem) from problem
        self.look()

    async def perform(self, work: Work[Result], *, length: Length = "usual") -> Result:
        async with self._turn:
            try:
                if length == "long":
                    return await self._writer.perform(work)
                return await self._writer.perform_here(work, brief=length == "brief")
            except sqlite3.Error as problem:
                raise unavailable(problem) from problem

    async def news(self, seen: object, seconds: float) -> object:
        deadline = time.monotonic() + seconds
        while self._signals() == seen and (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110 - a file
            await asyncio.sleep(min(left, _LOOK_SECONDS))
        return self._signals()

    def _signals(self) -> object:
        self.look()
        return self.marks["outbox"], self.marks["profile"]

    def signal(self) -> Statement:
        return "UPDATE change_mark SET version = version + 1 WHERE topic = 'outbox'", ()

    async def give_back(self) -> int:
        ((free,),) = await self.rows("PRAGMA freelist_count")
        ((pages,),) = await self.rows("PRAGMA page_count")
        if free <= max(_SPARE_PAGES, pages // _SPARE_PART):
            return 0
        async with self._turn:
            try:
                return await self._writer.do_patiently(_shrink)
            except sqlite3.Error as problem:
                raise unavailable(problem) from problem

    async def ping(self) -> None:
        await self.rows("SELECT 1 FROM change_mark")

    async def close(self) -> None:
        await self._writer.close()
        await self._surveyor.close()
        self._reader.close()


class _SqliteChange:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        return await self._do(lambda connection: connection.execute(numbered(sql), values).fetchall())

    async def run(self, sql: str, *values: Any) -> int:
        return await self._do(lambda connection: connection.execute(numbered(sql), values).rowcount)

    async def _do(self, what: Callable[[sqlite3.Connection], _Value]) -> _Value:
        try:
            return await self._writer.do(what)
        except sqlite3.IntegrityError as problem:
            raise Conflict(str(problem)) from problem


def _shrink(connection: sqlite3.Connection) -> int:
    """Give some free pages back; how many octets these were."""
    ((size,),) = connection.execute("PRAGMA page_size")
    ((before,),) = connection.execute("PRAGMA page_count")
    # Each page is a row of it, of no columns: ``execute`` takes that for the end, and stops after the first.
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
    ((after,),) = connection.execute("PRAGMA page_count")
    return int((before - after) * size)


def _writing_connection(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False, cached_statements=STATEMENTS
    )
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA wal_autocheckpoint={PAGES_AHEAD}")
    connection.execute("PRAGMA busy_timeout=0")  # the writer waits by itself
    give_clock(connection)
    return connection


def _reading_connection(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file, isolation_level=None, timeout=5.0, check_same_thread=False, cached_statements=STATEMENTS
    )
    connection.execute("PRAGMA query_only=ON")
    give_clock(connection)
    return connection


def give_clock(connection: sqlite3.Connection) -> None:
    """Teach a connection the clock of the dialect: SQLite's own counts milliseconds, in which much can happen."""
    connection.create_function("wall_microseconds", 0, lambda: time.time_ns() // 1000)


def _newest(index: WalIndex | None, reader: sqlite3.Connection) -> Callable[[], object]:
    """What differs after every commit of any process."""
    if index is not None:
        return index.header
    return lambda: reader.execute("PRAGMA data_version").fetchone()


def _schema_version(file: Path) -> str | None:
    return _text(file, "alembic_version", "SELECT version_num FROM alembic_version")


def _schema_floor(file: Path) -> str | None:
    return _text(file, "schema_floor", "SELECT oldest FROM schema_floor")


def _text(file: Path, table: str, sql: str) -> str | None:
    connection = sqlite3.connect(file, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
            return None
        row = connection.execute(sql).fetchone()
        return None if row is None else str(row[0])
    finally:
        connection.close()


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as problem:
        raise DataDirUnusable(f"{file} cannot be written: {problem.strerror}.") from problem


def unavailable(problem: sqlite3.Error) -> StoreUnavailable:
    # SQLite's own words name neither values nor files.
    _logger.warning("the database refused", extra={"facts": {"reason": str(problem)}})
    return StoreUnavailable(
        f"The database file cannot be used: {problem}.",
        remedy="Check free disk space and the rights of the data directory.",
    )
