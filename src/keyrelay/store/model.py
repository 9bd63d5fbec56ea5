"""What every database here can do."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

Row = Sequence[Any]
Topic = Literal["access", "keys", "outbox", "pam", "profile"]

Statement = tuple[str, Sequence[Any]]
Result = TypeVar("Result")
# A transaction as a generator: it yields statements, is sent the rows of each, and returns what came of it. It neither
# waits nor asks anybody but the database, so one engine can run the whole of it in its own thread, without a hop back
# and forth for each statement.
Work = Generator[Statement, Sequence[Row], Result]
# How long a transaction takes, for an engine that runs in this process. What is ``long`` must not hold up what else
# goes on here; for one that is ``brief`` everything may wait a moment, because that is sooner over.
Length = Literal["brief", "usual", "long"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the engines spell differently.

    ``lock`` ends a SELECT whose rows nobody else is to change before the transaction ends, or to read this way;
    ``skip_locked`` one that leaves out what others have locked. ``wall_clock`` is the database's clock, in microseconds
    since 1970.
    """

    lock: str
    skip_locked: str
    wall_clock: str


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
    so a reader may keep it and compare. ``writable``: whether changes can be made through it at all. Methods raise
    StoreUnavailable when the database does not answer or refuses.
    """

    marks: Mapping[Topic, int]
    dialect: Dialect
    writable: bool

    def look(self) -> None:
        """Bring ``marks`` up to date as far as that costs no waiting. Cheap enough for every request.

        SQLite: exact, whichever process made the change. PostgreSQL: as of the last notification or poll, which is
        less than a second ago; raises when the database has not answered for longer than staleness is accepted.
        """

    async def survey(self, sql: str, *values: Any) -> Sequence[Row]:
        """As ``rows``, for what may have to look at much: it holds up nothing else, and is given up after a while."""

    def change(self, *topics: Topic) -> AbstractAsyncContextManager[Change]:
        """One transaction; changes that share a topic run one after the other, on all nodes.

        When the block ends without an error the change is durable, and ``marks`` here are up to date.
        """

    async def perform(self, work: Work[Result], *, length: Length = "usual") -> Result:
        """Run a transaction that is about no topic. When this returns, it is durable.

        Raises Conflict when a constraint refuses a statement, and what ``work`` raises; then nothing was changed.
        """

    async def news(self, seen: object, seconds: float) -> object:
        """Wait until somebody may have given this process something to do, has changed the profile, or time is up.

        ``seen`` is what the last call gave, or None. A statement of ``signal`` in a transaction is what wakes others.
        """

    def signal(self) -> Statement:
        """The statement that wakes those who wait for news in other processes, when its transaction is committed."""

    async def give_back(self) -> int:
        """Give a little of the disk space back that is free within the database, if that is much.

        Gives how many octets; 0 when there is nothing (more) to do, as ever where the database does it by itself.
        """

    async def ping(self) -> None:
        """Return when the database answers."""

    async def close(self) -> None: ...
