"""What every database here can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

Row = Sequence[Any]
Topic = Literal["access", "keys", "pam", "profile"]


class Conflict(Exception):
    """A constraint of the database refused the change; nothing was changed."""


class Reader(Protocol):
    """What statements can be run on: a store, or a transaction under way."""

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        """Run a statement and give the rows it returns."""


class Change(Reader, Protocol):
    """A transaction under way."""

    async def run(self, sql: str, *values: Any) -> int:
        """Run a statement and give the number of rows it changed."""


class Store(Reader, Protocol):
    """A database, open and at the newest schema.

    ``marks`` holds a number for each topic, which grows with every change to it. It is replaced, never altered,
    so a reader may keep it and compare. Methods raise StoreUnavailable when the database does not answer or refuses.
    """

    marks: Mapping[Topic, int]

    def look(self) -> None:
        """Bring ``marks`` up to date as far as that costs no waiting. Cheap enough for every request.

        SQLite: exact, whichever process made the change. PostgreSQL: as of the last notification or poll, which is
        less than a second ago; raises when the database has not answered for longer than staleness is accepted.
        """

    def change(self, *topics: Topic) -> AbstractAsyncContextManager[Change]:
        """One transaction; changes that share a topic run one after the other, on all nodes.

        When the block ends without an error the change is durable, and ``marks`` here are up to date.
        """

    async def ping(self) -> None:
        """Return when the database answers."""

    async def close(self) -> None: ...
