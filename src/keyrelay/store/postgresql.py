"""PostgreSQL: any number of nodes on one database.

A node learns of the others' changes by NOTIFY, and by asking every half second in case a notification was lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import asyncpg

from keyrelay.errors import DatabaseUnreachable, StoreUnavailable
from keyrelay.log import failure
from keyrelay.store.model import Conflict, Dialect, Length, Result, Row, Statement, Topic, Work
from keyrelay.store.schema import HEAD, migrate, require_usable

_CHANNEL = "keyrelay"
_WORK = "outbox"  # the payload that stands for something to do; an empty one, for a topic
_POLL_SECONDS = 0.5
# How long a node goes on answering from memory when it cannot ask the database whether that is still true.
_STALE_SECONDS = 10.0
_ANSWER_SECONDS = 10.0

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,  # a deadlock, or a standby that was promoted
    asyncpg.InternalClientError,  # a connection cut just as a statement begins
    asyncpg.ReadOnlySQLTransactionError,  # a standby
    asyncpg.InvalidCatalogNameError,  # dropped or renamed under us
    asyncpg.InvalidAuthorizationSpecificationError,  # our password was changed
)
REFUSED = (*_LOST, asyncpg.PostgresError, ValueError)

DIALECT = Dialect(
    " FOR UPDATE", " FOR UPDATE SKIP LOCKED", "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
)

_logger = logging.getLogger(__name__)


class PostgresqlStore:
    """See Store."""

    marks: Mapping[Topic, int]
    dialect = DIALECT
    writable = True

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        self._dsn = dsn
        self._pool = pool
        self._wake = asyncio.Event()
        self._signals = 0
        self._signalled = asyncio.Event()
        self._confirmed_at = time.monotonic()
        self.marks = {}
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        try:
            connection = await asyncpg.connect(url, timeout=_ANSWER_SECONDS, command_timeout=_ANSWER_SECONDS)
            try:
                version, floor = await _schema_version(connection)
            finally:
                await connection.close()
            if version != HEAD:
                require_usable(version, floor)
                if version is None or version < HEAD:
                    await migrate(url)
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=5,
                timeout=_ANSWER_SECONDS,
                command_timeout=_ANSWER_SECONDS,
                # What a node that was cut off holds must not keep the others waiting.
                server_settings={"idle_in_transaction_session_timeout": "30000"},
            )
            store = cls(url, pool)
            try:
                await store._read_marks(pool)
            except BaseException:
                pool.terminate()
                raise
        except REFUSED as problem:
            raise DatabaseUnreachable(f"PostgreSQL cannot be used: {reason(problem)}.") from problem
        store._watching = asyncio.create_task(store._watch(), name="keyrelay-watch")
        return store

    def look(self) -> None:
        if time.monotonic() - self._confirmed_at > _STALE_SECONDS:
            raise StoreUnavailable(f"The database has not answered for more than {_STALE_SECONDS:.0f} seconds.")

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            async with self._pool.acquire(timeout=_ANSWER_SECONDS) as connection:
                rows: Sequence[Row] = await connection.fetch(sql, *values)
        except _LOST as problem:
            raise _unavailable(problem) from problem
        return rows

    async def survey(self, sql: str, *values: Any) -> Sequence[Row]:
        return await self.rows(sql, *values)  # it runs elsewhere, and is given up after _ANSWER_SECONDS

    @asynccontextmanager
    async def change(self, *topics: Topic) -> AsyncIterator[_PostgresqlChange]:
        try:
            async with self._pool.acquire(timeout=_ANSWER_SECONDS) as connection:
                async with connection.transaction():
                    change = _PostgresqlChange(connection)
                    for topic in sorted(topics):  # one order for all, so that two changes cannot lock each other out
                        await change.run("UPDATE change_mark SET version = version + 1 WHERE topic = $1", topic)
                    yield change
                    await change.rows("SELECT pg_notify($1, '')", _CHANNEL)
                await self._read_marks(connection)
        except _LOST as problem:
            raise _unavailable(problem) from problem

    async def perform(self, work: Work[Result], *, length: Length = "usual") -> Result:  # noqa: ARG002 - it runs elsewhere
        try:
            async with self._pool.acquire(timeout=_ANSWER_SECONDS) as connection, connection.transaction():
                return await _drive(connection, work)
        except _LOST as problem:
            raise _unavailable(problem) from problem

    async def news(self, seen: object, seconds: float) -> object:
        if self._signals == seen:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._signalled.wait()
        return self._signals

    def signal(self) -> Statement:
        return "SELECT pg_notify($1, $2)", (_CHANNEL, _WORK)

    async def give_back(self) -> int:
        return 0  # autovacuum does

    async def ping(self) -> None:
        await self.rows("SELECT 1 FROM change_mark")

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except (TimeoutError, *_LOST):
            self._pool.terminate()

    async def _read_marks(self, connection: asyncpg.Connection | asyncpg.Pool) -> None:
        rows = await connection.fetch("SELECT topic, version FROM change_mark")
        before = self.marks.get("profile")
        # An answer may be overtaken by a later one; marks only ever grow.
        self.marks = {topic: max(version, self.marks.get(topic, 0)) for topic, version in rows}
        if self.marks.get("profile") != before:
            self._tell()
        self._confirmed_at = time.monotonic()

    def _notified(self, *told: object) -> None:
        if told[-1] != _WORK:
            self._wake.set()
        else:
            self._tell()

    def _tell(self) -> None:
        self._signals += 1
        self._signalled.set()
        self._signalled = asyncio.Event()

    async def _watch(self) -> None:
        lost = False
        while True:
            connection = None
            try:
                connection = await asyncpg.connect(self._dsn, timeout=_ANSWER_SECONDS, command_timeout=_ANSWER_SECONDS)
                await connection.add_listener(_CHANNEL, self._notified)
                connection.add_termination_listener(lambda *_: self._wake.set())
                if lost:
                    _logger.info("the database answers again")
                lost = False
                while True:
                    await self._read_marks(connection)
                    with suppress(TimeoutError):
                        # Not wait_for: on Python 3.11 it swallows a cancellation that comes with the event.
                        async with asyncio.timeout(_POLL_SECONDS):
                            await self._wake.wait()
                    self._wake.clear()
            except Exception as problem:  # noqa: BLE001 - a watcher that ends would leave the node stale for ever
                if lost:
                    await asyncio.sleep(_POLL_SECONDS)
                else:  # it may have been this connection alone: another is tried at once
                    _logger.warning("the database does not answer", extra={"facts": failure(problem)})
                lost = True
            finally:
                if connection is not None:
                    connection.terminate()


class _PostgresqlChange:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        try:
            rows: Sequence[Row] = await self._connection.fetch(sql, *values)
        except asyncpg.IntegrityConstraintViolationError as problem:
            raise Conflict(type(problem).__name__) from problem
        return rows

    async def run(self, sql: str, *values: Any) -> int:
        try:
            status: str = await self._connection.execute(sql, *values)
        except asyncpg.IntegrityConstraintViolationError as problem:
            raise Conflict(type(problem).__name__) from problem
        return int(status.rpartition(" ")[2])


async def _drive(connection: asyncpg.Connection, work: Work[Result]) -> Result:
    try:
        sql, values = next(work)
        while True:
            sql, values = work.send(await connection.fetch(sql, *values))
    except asyncpg.IntegrityConstraintViolationError as problem:
        raise Conflict(type(problem).__name__) from problem
    except StopIteration as end:
        result: Result = end.value
        return result


async def _schema_version(connection: asyncpg.Connection) -> tuple[str | None, str | None]:
    """The schema's number, and that of the oldest keyrelay that may work on it."""
    return (
        await _text(connection, "alembic_version", "SELECT version_num FROM alembic_version"),
        await _text(connection, "schema_floor", "SELECT oldest FROM schema_floor"),
    )


async def _text(connection: asyncpg.Connection, table: str, sql: str) -> str | None:
    if await connection.fetchval("SELECT to_regclass($1::text)", table) is None:
        return None
    text: str | None = await connection.fetchval(sql)
    return text


def _unavailable(problem: BaseException) -> StoreUnavailable:
    # Callers who are not signed in see the error too; the reason may name users and hosts.
    _logger.warning("the database refused", extra={"facts": {"reason": reason(problem)}})
    return StoreUnavailable("The database does not answer.")


def reason(problem: BaseException) -> str:
    """The driver's words where they cannot hold the password; the kind of error otherwise."""
    if isinstance(problem, asyncpg.PostgresError):
        return str(problem).rstrip(".")
    if isinstance(problem, ValueError):  # its words may hold a part of the password
        return "its address cannot be read (in a password, / @ : # and % are written as %2F %40 %3A %23 %25)"
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return "the connection could not be made" if isinstance(problem, OSError) else type(problem).__name__
