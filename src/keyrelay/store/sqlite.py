"""SQLite: one file, any number of processes on this machine.

Two connections. Reading happens at once in the event loop's thread: a statement takes microseconds, and in WAL mode
it never waits for a writer. Changes go through one connection in a thread of its own, with BEGIN IMMEDIATE so that a
transaction that reads and then writes can never fail half-way, and synchronous=FULL so that what was committed
survives power loss.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiosqlite

from keyrelay.errors import DatabaseUnreachable, DataDirUnusable, StoreUnavailable
from keyrelay.store.model import Conflict, Row, Topic
from keyrelay.store.schema import HEAD, migrate, require_not_newer
from keyrelay.store.wal_index import WalIndex

_BUSY_SECONDS = 30.0

_logger = logging.getLogger(__name__)


class SqliteStore:
    """See Store; ``look`` is exact, because the file itself tells whether any process has changed it."""

    marks: Mapping[Topic, int]

    def __init__(self, reader: sqlite3.Connection, writer: aiosqlite.Connection, newest: Callable[[], object]) -> None:
        self._reader = reader
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
                require_not_newer(version)
                await migrate(file)
            return await cls._connect(file)
        except sqlite3.Error as problem:
            raise DatabaseUnreachable(f"The SQLite file {file} cannot be opened: {problem}.") from problem

    @classmethod
    async def _connect(cls, file: Path) -> Self:
        writer = await aiosqlite.connect(file, isolation_level=None, timeout=_BUSY_SECONDS)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                await writer.execute(f"PRAGMA {pragma}")
            reader = _reading_connection(file)
            reader.execute("SELECT 1 FROM change_mark").fetchone()  # SQLite makes the index when it first reads
            store = cls(reader, writer, _newest(file, reader))
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
            raise _unavailable(problem) from problem

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            return self._reader.execute(sql, _named(values)).fetchall()
        except sqlite3.Error as problem:
            raise _unavailable(problem) from problem

    @asynccontextmanager
    async def change(self, *topics: Topic) -> AsyncIterator[_SqliteChange]:
        async with self._turn:
            change = _SqliteChange(self._writer)
            try:
                try:
                    await change.run("BEGIN IMMEDIATE")
                    for topic in topics:
                        await change.run("UPDATE change_mark SET version = version + 1 WHERE topic = $1", topic)
                    yield change
                    await change.run("COMMIT")
                except BaseException:
                    # Shielded: a cancelled request must not leave its transaction open for the next one.
                    await asyncio.shield(self._writer.rollback())
                    raise
            except sqlite3.Error as problem:
                raise _unavailable(problem) from problem
        self.look()

    async def ping(self) -> None:
        await self.rows("SELECT 1 FROM change_mark")

    async def close(self) -> None:
        await self._writer.close()
        self._reader.close()


class _SqliteChange:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            return list(await self._connection.execute_fetchall(sql, _named(values)))
        except sqlite3.IntegrityError as problem:
            raise Conflict(str(problem)) from problem

    async def run(self, sql: str, *values: Any) -> int:
        try:
            async with self._connection.execute(sql, _named(values)) as cursor:
                return cursor.rowcount
        except sqlite3.IntegrityError as problem:
            raise Conflict(str(problem)) from problem


def _named(values: tuple[Any, ...]) -> dict[str, Any]:
    # SQLite takes $1 for a parameter whose name is 1.
    return {str(number): value for number, value in enumerate(values, 1)}


def _reading_connection(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _newest(file: Path, reader: sqlite3.Connection) -> Callable[[], object]:
    """What differs after every commit of any process."""
    if (index := WalIndex.of(file)) is not None:
        return index.header
    return lambda: reader.execute("PRAGMA data_version").fetchone()


def _schema_version(file: Path) -> str | None:
    connection = sqlite3.connect(file, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])
    finally:
        connection.close()


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as problem:
        raise DataDirUnusable(f"{file} cannot be written: {problem.strerror}.") from problem


def _unavailable(problem: sqlite3.Error) -> StoreUnavailable:
    # SQLite's own words name neither values nor files.
    _logger.warning("the database refused", extra={"facts": {"reason": str(problem)}})
    return StoreUnavailable(
        f"The database file cannot be used: {problem}.",
        remedy="Check free disk space and the rights of the data directory.",
    )
