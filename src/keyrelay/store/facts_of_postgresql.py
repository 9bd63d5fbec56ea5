"""What PostgreSQL says of itself: whether it keeps what it has confirmed, and how many connections it takes."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.store.model import Reader


@dataclass(frozen=True, slots=True)
class Durability:
    """``standbys``: the sync_state of each that is connected; None of those that our role may not look at."""

    version: str
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    synchronous_standby_names: str
    in_recovery: bool
    standbys: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Connections:
    """``most``: how many all roles but superusers may have together, or our role or database alone if that is less."""

    used: int
    most: int


async def durability(reader: Reader) -> Durability:
    """Raises StoreUnavailable."""
    ((version, fsync, pages, commit, names, recovery),) = await reader.rows(
        "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),"
        " current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), pg_is_in_recovery()"
    )
    standbys = await reader.rows("SELECT sync_state FROM pg_stat_replication")
    states = tuple(state for (state,) in standbys)
    return Durability(version.split()[0], fsync == "on", pages == "on", commit, names, recovery, states)


async def connections(reader: Reader) -> Connections:
    """Raises StoreUnavailable."""
    ((most, superusers, reserved, used),) = await reader.rows(
        "SELECT CAST(current_setting('max_connections') AS INTEGER),"
        " CAST(current_setting('superuser_reserved_connections') AS INTEGER),"
        " CAST(COALESCE(current_setting('reserved_connections', true), '0') AS INTEGER),"
        " (SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
    )
    found = [Connections(int(used), most - superusers - reserved)]
    for statement in _NARROWER:
        found += [Connections(int(used), limit) for limit, used in await reader.rows(statement) if limit >= 0]
    return min(found, key=lambda one: one.most - one.used)


_NARROWER = (
    (
        "SELECT rolconnlimit, (SELECT COUNT(*) FROM pg_stat_activity WHERE usename = current_user)"
        " FROM pg_roles WHERE rolname = current_user"
    ),
    (
        "SELECT datconnlimit, (SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database())"
        " FROM pg_database WHERE datname = current_database()"
    ),
)


async def table_sizes(reader: Reader) -> list[tuple[str, int, int]]:
    """Name, estimated rows and octets (indexes, too) of every table of ours. Raises StoreUnavailable."""
    rows = await reader.rows(
        "SELECT relname, n_live_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables"
        " WHERE schemaname = current_schema() ORDER BY relname"
    )
    return [(name, int(number), int(octets)) for name, number, octets in rows]
