"""Bringing a database's schema up to date with Alembic, in one transaction, one node at a time.

SQLAlchemy and Alembic are imported here alone and only when there is something to migrate: they take longer to
import than everything else a start needs (docs/decisions/0002).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyrelay.errors import DatabaseNewer

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0001"
# Any number will do, as long as it is ours: the advisory lock that makes starting nodes wait for each other.
_MIGRATION_LOCK = 0x6B657972656C6179


def require_not_newer(version: str | None) -> None:
    """Raise DatabaseNewer for a schema this keyrelay does not know."""
    if version is not None and version > HEAD:
        raise DatabaseNewer(f"The database has schema {version}; this keyrelay knows schemas up to {HEAD}.")


def migrate_sqlite(file: Path, patience: float) -> None:
    """Migrate the SQLite database in ``file``, waiting up to ``patience`` seconds for another process."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(file)),
        connect_args={"isolation_level": None, "timeout": patience},
        poolclass=sqlalchemy.NullPool,
    )
    # The driver would commit before each CREATE TABLE; with our own BEGIN the migration is one transaction.
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.rollback()
        with connection.begin():
            _upgrade(connection)


async def migrate_postgresql(url: str) -> None:
    """Migrate the PostgreSQL database at ``url``."""
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
