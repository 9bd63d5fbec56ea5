"""A database as it is found, for whoever looks at one that may be broken: neither made, nor migrated, nor changed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Never, Protocol
from urllib.parse import quote

import asyncpg

from keyrelay.aside import aside
from keyrelay.errors import DatabaseUnreachable, KeyrelayError, StoreUnavailable
from keyrelay.settings import Settings
from keyrelay.store import postgresql, sqlite
from keyrelay.store.model import Change, Dialect, Length, Result, Row, Statement, Topic, Work
from keyrelay.store.schema import HEAD, require_usable
from keyrelay.store.sqlite_writer import numbered

_SECONDS = 5.0  # to connect

Engine = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True)
class Schema:
    """The number of the schema, and of the oldest keyrelay that may work on it; None where nothing says so."""

    version: str | None
    floor: str | None

    @property
    def usable(self) -> bool:
        """Whether this keyrelay can work on it as it is."""
        try:
            require_usable(self.version, self.floor)
        except KeyrelayError:
            return False
        return self.version is not None and self.version >= HEAD


class _Connection(Protocol):
    async def rows(self, sql: str, values: Sequence[Any]) -> Sequence[Row]: ...

    async def close(self) -> None: ...


class ReadOnlyStore:
    """See Store; whoever wants to change anything gets StoreUnavailable. Statements are run one after the other."""

    writable = False

    def __init__(self, connection: _Connection, engine: Engine, dialect: Dialect) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self.engine = engine
        self.dialect = dialect
        self.schema = Schema(None, None)
        self.marks: Mapping[Topic, int] = {}

    async def learn(self) -> None:
        """Find out which schema it has, and its marks if this keyrelay can work on it. Raises StoreUnavailable."""
        tables = await self.tables()
        version = await self._only("SELECT version_num FROM alembic_version") if "alembic_version" in tables else None
        floor = await self._only("SELECT oldest FROM schema_floor") if "schema_floor" in tables else None
        self.schema = Schema(version, floor)
        if self.schema.usable:
            self.marks = {topic: mark for topic, mark in await self.rows("SELECT topic, version FROM change_mark")}  # noqa: C416 - rows are no pairs to mypy

    async def tables(self) -> list[str]:
        """The names of all tables. Raises StoreUnavailable."""
        listing = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
            "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename",
        }
        return [str(name) for (name,) in await self.rows(listing[self.engine])]

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        async with self._turn:
            return await self._connection.rows(sql, values)

    async def survey(self, sql: str, *values: Any) -> Sequence[Row]:
        return await self.rows(sql, *values)

    async def close(self) -> None:
        await self._connection.close()

    async def _only(self, sql: str) -> str | None:
        rows = await self.rows(sql)
        return str(rows[0][0]) if rows else None

    # --- What a store can do besides -------------------------------------------------------------------------

    def look(self) -> None:
        """The marks stay what they were when it was opened."""

    def change(self, *topics: Topic) -> AbstractAsyncContextManager[Change]:  # noqa: ARG002 - see Store
        _refuse()

    async def perform(self, work: Work[Result], *, length: Length = "usual") -> Result:  # noqa: ARG002 - see Store
        _refuse()

    async def news(self, seen: object, seconds: float) -> object:  # noqa: ARG002 - see Store
        _refuse()

    def signal(self) -> Statement:
        _refuse()

    async def give_back(self) -> int:
        _refuse()

    async def ping(self) -> None:
        await self.rows("SELECT 1")


async def open_to_read(settings: Settings) -> ReadOnlyStore:
    """Open the database the settings name, as it is. Raises DatabaseUnreachable or StoreUnavailable."""
    if (file := settings.sqlite_file) is not None:
        store = ReadOnlyStore(await _Sqlite.open(file), "sqlite", sqlite.DIALECT)
    else:
        assert settings.database_url is not None  # noqa: S101 - sqlite_file is None only then
        store = ReadOnlyStore(await _Postgresql.open(settings.database_url), "postgresql", postgresql.DIALECT)
    try:
        await store.learn()
    except BaseException:
        await store.close()
        raise
    return store


def read_only(file: Path) -> sqlite3.Connection:
    """A connection that changes nothing and makes no file, to be used in any one thread at a time."""
    # Not mode=ro: what it needs beside the file would stay there when it is closed.
    address = f"file:{quote(str(file))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    sqlite.give_clock(connection)
    return connection


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, file: Path) -> _Sqlite:
        if not await aside(file.exists):
            raise DatabaseUnreachable(
                f"There is no database at {Path(os.getcwd()) / file}.",  # noqa: PTH109 - it asks nobody
                remedy="The first start makes it. If keyrelay was started here before, see whether KEYRELAY_DATA_DIR "
                "or KEYRELAY_DATABASE_URL is what it was then.",
            )
        try:
            return cls(await aside(lambda: read_only(file)))
        except sqlite3.Error as problem:
            raise DatabaseUnreachable(f"The SQLite file {file} cannot be opened: {problem}.") from problem

    async def rows(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        statement = numbered(sql)
        try:
            return await aside(
                lambda: self._connection.execute(statement, values).fetchall(), self._connection.interrupt
            )
        except sqlite3.Error as problem:
            raise sqlite.unavailable(problem) from problem

    async def close(self) -> None:
        await aside(self._connection.close)


class _Postgresql:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> _Postgresql:
        try:
            connection = await asyncpg.connect(url, timeout=_SECONDS, command_timeout=2 * _SECONDS)
            # Not as a parameter of the connection, which a pooler may refuse.
            await connection.execute("SET default_transaction_read_only = on")
        except postgresql.REFUSED as problem:
            raise DatabaseUnreachable(f"PostgreSQL cannot be used: {postgresql.reason(problem)}.") from problem
        return cls(connection)

    async def rows(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        try:
            rows: Sequence[Row] = await self._connection.fetch(sql, *values)
        except postgresql.REFUSED as problem:
            raise StoreUnavailable(f"PostgreSQL refuses: {postgresql.reason(problem)}.") from problem
        return rows

    async def close(self) -> None:
        self._connection.terminate()


def _refuse() -> Never:
    raise StoreUnavailable("The database was opened to be read only.")
