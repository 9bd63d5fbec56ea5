"""What a database says of itself, whichever it is: version, schema, size, and whether it takes changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keyrelay.errors import StoreUnavailable
from keyrelay.store.model import Reader, Store, Work

Kind = Literal["SQLite", "PostgreSQL"]

_SELECT: dict[Kind, str] = {
    "SQLite": "SELECT sqlite_version(), page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "PostgreSQL": "SELECT current_setting('server_version'), pg_database_size(current_database())",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """``octets``: all of it, free room within among them. ``schema``: the number of its newest migration."""

    kind: Kind
    version: str
    octets: int
    schema: str


async def facts(reader: Reader, kind: Kind) -> Facts:
    """Raises StoreUnavailable."""
    ((version, octets),) = await reader.rows(_SELECT[kind])
    ((schema,),) = await reader.rows("SELECT version_num FROM alembic_version")
    return Facts(kind, version.split()[0], int(octets), schema)


async def why_not_writable(store: Store) -> str | None:
    """Why no change can be made, in a sentence; None when one can. It is tried, with a change of nothing."""
    try:
        await store.perform(_nothing())
    except StoreUnavailable as problem:
        return problem.message
    return None


def _nothing() -> Work[None]:
    yield "DELETE FROM portal_session WHERE id = $1", ("",)
