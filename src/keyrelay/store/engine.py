"""Which database: SQLite or PostgreSQL, as the settings say."""

from __future__ import annotations

from keyrelay.settings import Settings
from keyrelay.store.model import Store


async def open_store(settings: Settings) -> Store:
    """Open the database the settings name, and bring its schema up to date.

    Raises DatabaseUnreachable, DatabaseNewer or DataDirUnusable.
    """
    if (file := settings.sqlite_file) is not None:
        from keyrelay.store.sqlite import SqliteStore

        return await SqliteStore.open(file)
    from keyrelay.store.postgresql import PostgresqlStore

    assert settings.database_url is not None  # noqa: S101 - sqlite_file is None only then
    return await PostgresqlStore.open(settings.database_url)
