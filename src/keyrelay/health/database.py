"""The database: what it is, how large, and whether it takes changes."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.settings import Settings
from keyrelay.store.facts import Facts, facts, why_not_writable
from keyrelay.store.model import Store
from keyrelay.store.schema import HEAD


@dataclass(frozen=True, slots=True)
class Database:
    """What is known of it, and what a look has found."""

    facts: Facts
    finding: Finding


async def database(store: Store, chosen: Settings) -> Database:
    """Raises StoreUnavailable when it does not answer."""
    known = await facts(store, "PostgreSQL" if chosen.sqlite_file is None else "SQLite")
    return Database(known, _found(known, await why_not_writable(store)))


def _found(known: Facts, why_not: str | None) -> Finding:
    if why_not is not None:
        return failure(
            f"{known.kind} answers, and takes no changes. {why_not}",
            "Look whether the disk is full or read-only, or the server a standby.",
        )
    if known.schema != HEAD:
        return warning(
            f"The database has schema {known.schema}, and this keyrelay is made for {HEAD}.",
            "Replace this node with the newer version soon.",
        )
    return ok(f"{known.kind} answers, and takes changes.")
