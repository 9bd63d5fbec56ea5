"""Bringing a database's schema up to date with Alembic, in one transaction, one node at a time.

It happens in a process of its own that ends when it is done: SQLAlchemy and Alembic double a server's memory, and
take longer to import than everything else that a start needs (docs/decisions/0002).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyrelay.errors import DatabaseNewer, DatabaseUnreachable

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0005"
# Any number will do, as long as it is ours: the advisory lock that makes starting nodes wait for each other.
_MIGRATION_LOCK = 0x6B657972656C6179
_PATIENCE_SECONDS = 30.0
_INCREMENTAL = 2  # of SQLite's ways to give free pages back


def require_usable(version: str | None, floor: str | None) -> None:
    """Raise DatabaseNewer for a schema this keyrelay cannot work on.

    While nodes are replaced one by one, the old ones go on working on the new schema: ``floor`` is the oldest keyrelay,
    by the schema it was made for, that the database allows.
    """
    if version is not None and version > HEAD and (floor is None or floor > HEAD):
        raise DatabaseNewer(f"The database has schema {version}; this keyrelay knows schemas up to {HEAD}.")


async def migrate(database: Path | str) -> None:
    """Migrate the SQLite file or PostgreSQL URL, in a process of its own. Raises DatabaseUnreachable."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the directory keyrelay is started in is nobody's to import from
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    # By standard input, because a URL may hold a password, and arguments can be seen by anybody.
    order = {"sqlite": str(database)} if isinstance(database, Path) else {"postgresql": database}
    _, said = await process.communicate(json.dumps(order).encode())
    if process.returncode != 0:
        reason = said.decode(errors="replace").strip().rpartition("\n")[2] or "the process was ended"
        raise DatabaseUnreachable(
            f"The schema could not be brought up to date; nothing was changed. {reason}",
            remedy="Mend what the reason names, and start again.",
        )


def migrate_sqlite(file: Path) -> None:
    """Migrate the SQLite database in ``file``, in this process, waiting for another one that does the same."""
    import sqlalchemy

    # Outside any transaction, and before anybody else uses the file.
    with closing(sqlite3.connect(file, isolation_level=None, timeout=_PATIENCE_SECONDS)) as first:
        _let_shrink(first)
        first.execute("PRAGMA journal_mode=WAL")
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(file)),
        connect_args={"isolation_level": None, "timeout": _PATIENCE_SECONDS},
        poolclass=sqlalchemy.NullPool,
    )
    # The driver would commit before each CREATE TABLE; with our own BEGIN the migration is one transaction.
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.connect() as connection, connection.begin():
        _upgrade(connection)


def _let_shrink(connection: sqlite3.Connection) -> None:
    """Have the file keep what giving pages back needs. A file that was made without has to be written anew for that."""
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
    if connection.execute("PRAGMA page_count").fetchone() != (0,):
        with suppress(sqlite3.OperationalError):  # the disk has no room for that, or the file is in use
            connection.execute("VACUUM")


async def migrate_postgresql(url: str) -> None:
    """Migrate the PostgreSQL database at ``url``, in this process."""
    import asyncpg
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    async def connect(*_: object, **__: object) -> asyncpg.Connection:
        return await asyncpg.connect(url)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=sqlalchemy.NullPool)
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, HEAD)


def _main() -> None:
    order = json.load(sys.stdin)
    try:
        if "sqlite" in order:
            migrate_sqlite(Path(order["sqlite"]))
        else:
            asyncio.run(migrate_postgresql(order["postgresql"]))
    except Exception as problem:  # noqa: BLE001 - the last line is what the operator reads
        # SQLAlchemy's message goes on with the statement; the driver's own error is its cause.
        raise SystemExit(str(getattr(problem, "orig", problem)).partition("\n")[0]) from None


if __name__ == "__main__":
    _main()
