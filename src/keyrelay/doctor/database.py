"""The database: whether it answers, fits this keyrelay, keeps what it confirms, and knows what time it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from keyrelay.amounts import octets_text, span_text
from keyrelay.doctor.case import Case
from keyrelay.errors import KeyrelayError, SettingsInvalid
from keyrelay.health.finding import Finding, failure, ok, skipped, warning
from keyrelay.outbox.records import moment
from keyrelay.store import facts_of_postgresql as postgresql
from keyrelay.store.facts_of_postgresql import Connections, Durability
from keyrelay.store.facts_of_sqlite import integrity as look_through
from keyrelay.store.reading import Schema
from keyrelay.store.schema import HEAD

_INTEGRITY_SECONDS = 8.0
_OF_A_PROCESS = 6  # connections (docs/scale-out.md)
_CROWDED = 0.8
# Nobody notices less; a token that is signed here is refused for more.
_OFF, _FAR_OFF = timedelta(seconds=5), timedelta(minutes=5)
_ON_SQLITE = "The data is in SQLite."


async def database(case: Case) -> Finding:
    if isinstance(case.store, SettingsInvalid):
        return skipped(case.store.message)
    if isinstance(case.store, KeyrelayError):
        return failure(case.store.message, case.store.advice)
    if case.store.engine == "postgresql":
        ((version,),) = await case.store.rows("SELECT current_setting('server_version')")
        return ok(f"PostgreSQL {version.split()[0]} answers.")
    ((pages,),) = await case.store.rows("PRAGMA page_count")
    ((size,),) = await case.store.rows("PRAGMA page_size")
    return ok(f"The SQLite file can be read; it has {octets_text(pages * size)}.")


async def schema(case: Case) -> Finding:
    return schema_found(case.opened.schema)


def schema_found(found: Schema) -> Finding:
    if found.version is None:
        return warning("The database is empty.", "The first start fills it; if it was used before, it is another one.")
    if found.version < HEAD:
        return warning(
            f"The database has schema {found.version}, and this keyrelay works on {HEAD}.",
            "Make a backup; the next start brings it up to date.",
        )
    if not found.usable:
        return failure(
            f"The database has schema {found.version}, and this keyrelay knows schemas up to {HEAD}.",
            "Install the version of keyrelay that the other nodes have; going back needs a backup.",
        )
    if found.version > HEAD:
        return warning(
            f"The database has schema {found.version} of a newer keyrelay, which lets this one ({HEAD}) go on.",
            "Replace this node with the newer version soon.",
        )
    return ok(f"The database has schema {HEAD}, as this keyrelay needs it.")


async def durability(case: Case) -> Finding:
    if case.opened.engine == "sqlite":
        return ok("SQLite has every commit on disk before it is confirmed (synchronous=FULL).")
    return durability_found(await postgresql.durability(case.opened))


def durability_found(found: Durability) -> Finding:
    """As the table in docs/scale-out.md tells."""
    if found.in_recovery:
        return failure(
            "PostgreSQL is a standby, which takes no changes.",
            "Name the primary, or both with target_session_attrs=read-write (docs/scale-out.md).",
        )
    off = [
        name
        for name, value in (
            ("fsync", found.fsync),
            ("full_page_writes", found.full_page_writes),
            ("synchronous_commit", found.synchronous_commit != "off"),
        )
        if not value
    ]
    if off:
        return failure(
            f"PostgreSQL may lose what it has confirmed: {' and '.join(off)} {'is' if len(off) == 1 else 'are'} off.",
            "Switch it on for this database, its role and the server; messages that were answered 202 may be lost.",
        )
    return _replication(found)


def _replication(found: Durability) -> Finding:
    safe = "PostgreSQL keeps what it confirms when it is killed or the power fails"
    if found.synchronous_standby_names:
        if not found.standbys:
            return failure(
                "PostgreSQL waits for a synchronous standby at each commit, and none is connected.",
                "Start a standby that synchronous_standby_names names; until then every change is answered 503.",
            )
        if found.synchronous_commit == "local":
            return warning(f"{safe}; synchronous_commit is local, so it waits for no standby.", _SYNCHRONOUS)
        return ok(f"{safe}, and also when the primary is lost: a standby confirms each commit.")
    if found.standbys:
        return warning(f"{safe}; when the primary is lost, its last moments are lost, too.", _SYNCHRONOUS)
    return ok(f"{safe}; there is no replica, so make backups.")


_SYNCHRONOUS = "For mail that must not be lost, replicate synchronously to one of two standbys (docs/scale-out.md)."


async def connections(case: Case) -> Finding:
    if case.opened.engine == "sqlite":
        return skipped(_ON_SQLITE)
    return connections_found(await postgresql.connections(case.opened))


def connections_found(found: Connections) -> Finding:
    told = f"{found.used} of {found.most} connections to PostgreSQL are in use."
    if found.most - found.used < _OF_A_PROCESS:
        return failure(told, f"Another process needs {_OF_A_PROCESS}: raise max_connections, or run fewer processes.")
    if found.used > _CROWDED * found.most:
        return warning(told, f"Each process may have {_OF_A_PROCESS}: raise max_connections before you add one.")
    return ok(told)


async def integrity(case: Case) -> Finding:
    file = case.settings.sqlite_file
    if file is None:
        return skipped("The data is in PostgreSQL.")
    found = await look_through(file, _INTEGRITY_SECONDS)
    if found.problems:
        return failure(
            f"The SQLite file is damaged: {'; '.join(found.problems)}.",
            "Stop keyrelay, keep a copy of the file, restore the newest backup, and look at the disk.",
        )
    if not found.complete:
        return ok(f"The SQLite file shows no damage, as far as it was read in {_INTEGRITY_SECONDS:g} seconds.")
    return ok("The SQLite file shows no damage.")


async def clock(case: Case) -> Finding:
    """Ours against that of the database's machine, and against the last time that a node wrote down."""
    sql = f"SELECT wall, {case.opened.dialect.wall_clock} FROM outbox WHERE id = 1"  # noqa: S608 - a constant
    before = datetime.now(UTC)
    ((wall, at),) = await case.opened.rows(sql)
    after = datetime.now(UTC)
    theirs = moment(at)
    ours = min(max(theirs, before), after)  # within the time it took to ask, both agree
    return clock_found(ours - theirs, theirs - moment(wall))


def clock_found(ahead: timedelta, since_last: timedelta) -> Finding:
    """``ahead``: our clock of the database's. ``since_last``: since a node last wrote the time down."""
    if abs(ahead) >= _OFF:
        told = (
            f"Our clock is {span_text(abs(ahead).total_seconds())} {'ahead of' if ahead > timedelta(0) else 'behind'}"
        )
        verdict = failure if abs(ahead) >= _FAR_OFF else warning
        return verdict(f"{told} the database's.", _NTP)
    if since_last <= -_FAR_OFF:
        back = span_text(-since_last.total_seconds())
        return warning(f"The clock is {back} behind the last time that a node has written down.", _NTP)
    return ok("Our clock agrees with the database's.")


_NTP = "Let a time service keep the clocks of all machines; the outbox goes on by a time of its own meanwhile."
