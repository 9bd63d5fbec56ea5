"""What tests of the outbox share: nodes on one database, clocks that are turned, and a relay that counts."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from counting_relay import CountingRelay
from keyrelay.audit.journal import Journal
from keyrelay.outbox import content
from keyrelay.outbox.books import CONTENT
from keyrelay.outbox.budget import Limit, Limits
from keyrelay.outbox.letter import Letter
from keyrelay.outbox.model import Recipient, Submission
from keyrelay.outbox.office import Office
from keyrelay.outbox.outbox import Outbox
from keyrelay.outbox.queue import Order, Queue
from keyrelay.outbox.records import COLUMNS, Kept, read, stamp
from keyrelay.outbox.room import Room
from keyrelay.outbox.rounds import Given, Rounds, Wish
from keyrelay.outbox.schedule import RetryPolicy
from keyrelay.outbox.settling import Claim, Found, How
from keyrelay.outbox.worker import Pace
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import Anonymous, SmtpProfile
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import Content, Envelope, Evidence, Reply
from keyrelay.relay.pool import Limits as PoolLimits
from keyrelay.relay.session import Delivery
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.master import MasterKey
from keyrelay.settings import Settings
from keyrelay.store.engine import open_store
from keyrelay.store.model import Store
from relaying import as_given, terms

BEGINNING = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
_MASTER = MasterKey.of(b"k" * 32)
_ENOUGH = 1 << 40  # octets
_TABLES = (
    *("message_content", "attempt", "message_recipient", "submission_key", "message", "node"),
    *("outbox_sum", "outbox_tally", "outbox_minute", "outbox_event"),
)


# --- Clocks --------------------------------------------------------------------------------------------------


class Time:
    """The clock nobody can turn, and the wall clock, which anybody may. ``rate`` 0: both stand until they are moved."""

    def __init__(self, rate: float = 0.0) -> None:
        self._rate = rate
        self._began = time.monotonic()
        self._passed = 0.0
        self._turned = timedelta(0)

    def ticks(self) -> float:
        return self._passed + self._rate * (time.monotonic() - self._began)

    @property
    def wall(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.ticks()) + self._turned

    def pass_by(self, seconds: float) -> None:
        self._passed += seconds

    def turn(self, by: timedelta) -> None:
        """Somebody turns the wall clock."""
        self._turned += by


class _Turned:
    """A dialect whose wall clock is that of a Time."""

    def __init__(self, dialect: Any, clocks: Time) -> None:
        self.lock, self.skip_locked = dialect.lock, dialect.skip_locked
        self._clocks = clocks

    @property
    def wall_clock(self) -> str:
        return f"CAST({stamp(self._clocks.wall)} AS BIGINT)"


@contextmanager
def clocks_of(made: Time) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("keyrelay.outbox.") and hasattr(module, "ticks"):
                patch.setattr(module, "ticks", made.ticks)
        yield


# --- Nodes on one database -----------------------------------------------------------------------------------


async def _listening(store: Store) -> None:
    """Return when a store hears notifications: on PostgreSQL a moment after it was opened."""
    opened_at = getattr(store, "_confirmed_at", None)
    while opened_at is not None and store._confirmed_at == opened_at:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.002)


class Site:
    """One database, and the nodes that a test opens on it. ``snapshot`` is the profile as all of them see it."""

    def __init__(self, settings: Settings, clocks: Time | None = None) -> None:
        self.clocks = clocks
        self.snapshot = Snapshot(0, None, None, None, None, {})
        self._settings = settings
        self._stores: list[Store] = []
        self._outboxes: list[Outbox] = []
        self._numbers = count(1)

    async def open(self) -> None:
        self.store = await self.another_store()
        keyring = Keyring((_MASTER,))
        async with self.store.change("keys") as change:
            if not await change.rows("SELECT 1 FROM data_key"):
                await keyring.add_key(change)
        await keyring.refresh(self.store)
        await Journal(keyring).prepare(self.store)

    async def emptied(self) -> None:
        """Begin anew, as on a database in which nothing ever happened."""
        async with self.store.change() as change:
            for table in _TABLES:
                await change.run(f"DELETE FROM {table}")
            await change.run("UPDATE outbox SET now = 0, wall = 0, pressure = '{}', revision = 0, probing_until = 0")

    async def close(self) -> None:
        for outbox in self._outboxes:
            await outbox.close()
        for store in self._stores:
            await store.close()

    async def another_store(self) -> Store:
        store = await open_store(self._settings)
        await _listening(store)
        if self.clocks is not None:
            store.dialect = _Turned(store.dialect, self.clocks)
        self._stores.append(store)
        return store

    async def keyring(self, store: Store) -> Keyring:
        keyring = Keyring((_MASTER,))
        await keyring.refresh(store)
        return keyring

    async def office(self, name: str = "a", *, store: Store | None = None, **more: Any) -> Office:
        """A node: with limits, policy or lease of its own, if it is given any."""
        store = store or await self.another_store()
        given = {"policy": policy(), "limits": Limits()} | more
        keyring = await self.keyring(store)
        made = Office(f"{name}-{next(self._numbers)}", name, store, keyring, Journal(keyring), **given)
        await made.open()
        return made

    async def outbox(self, name: str = "a", *, sessions: int = 8, goodbye: float = 5.0, **more: Any) -> Outbox:
        """A whole node, that is not started yet, and is closed with the site."""
        reply = more.pop("reply", 10.0)
        made = await self.office(name, **more)
        mailer = Mailer(self.profile_now, as_given(), terms(reply=reply), PoolLimits(sessions=sessions))
        outbox = Outbox(made, room(made), mailer, self.profile_now, Pace(sessions, goodbye))
        self._outboxes.append(outbox)
        return outbox

    async def profile_now(self) -> Snapshot:
        return self.snapshot

    def aim(self, port: int, **more: Any) -> None:
        """A new profile: the relay at this port."""
        made = {"use_ssl": False, "authentication": Anonymous()} | more
        profile = SmtpProfile("127.0.0.1", port, sender_account="pki@example.org", sender_name="PKI", **made)
        self.snapshot = Snapshot(self.snapshot.revision + 1, profile, BEGINNING, "me", None, {})


@asynccontextmanager
async def site(settings: Settings, clocks: Time | None = None) -> AsyncIterator[Site]:
    with clocks_of(clocks) if clocks is not None else pytest.MonkeyPatch.context():
        made = Site(settings, clocks)
        await made.open()
        try:
            yield made
        finally:
            await made.close()


def policy(**more: Any) -> RetryPolicy:
    waits = more.pop("waits", (60, 300, 900))
    return RetryPolicy(tuple(timedelta(seconds=wait) for wait in waits), **more)


def per(seconds: float, messages: int | None = None, recipients: int | None = None) -> tuple[Limit, ...]:
    """At most so many messages, or recipients, in any window of that length."""
    most = {"messages": messages, "recipients": recipients}
    return tuple(Limit(what, number, timedelta(seconds=seconds)) for what, number in most.items() if number)


def room(office: Office, most: int = _ENOUGH) -> Room:
    return Room(office.store, most, None)


def queue(office: Office, most: int = _ENOUGH, taken_in: Callable[[], None] = lambda: None) -> Queue:
    return Queue(office, room(office, most), taken_in)


_letters = count(1)


def letter(*to: str, body: bytes = b"One line.\r\n", **more: Any) -> Letter:
    number = next(_letters)
    message_id = f"<{number}@example.org>"
    octets = Content(b"Message-ID: %s\r\nSubject: number %d\r\n\r\n%s" % (message_id.encode(), number, body))
    envelope = Envelope("pki@example.org", to or ("ops@example.org",))
    return Letter(envelope, octets, more.get("needs_smtputf8", False), more.get("needs_8bit", False), message_id)


async def submit(entrance: Outbox | Queue, *letters: Letter, **order: Any) -> list[str]:
    """Hand these in, all at once; their ids."""
    desk = entrance.queue if isinstance(entrance, Outbox) else entrance
    receipts = await asyncio.gather(*(desk.submit(one, Order("me", **order)) for one in letters or (letter(),)))
    return [receipt.id for receipt in receipts]


# --- Rounds by hand ------------------------------------------------------------------------------------------


class ByHand:
    """A node whose rounds a test makes, and whose attempts come out as the test says."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.rounds = Rounds(office)
        self.in_hand: dict[str, Claim] = {}
        self.found: list[Found] = []
        self.unsure = True

    async def round(self, capacity: int = 100, **more: Any) -> Given:
        wish = Wish(1, tuple(self.found), dict(self.in_hand), self.unsure, capacity=capacity)
        given = await self.rounds.round(replace(wish, **more))
        self.found.clear()
        self.unsure = False
        self.in_hand.update({claim.id: claim for claim in given.claims})
        return given

    def settle(self, claim: Claim, result: Delivery | Evidence, how: How = "attempted") -> None:
        """In the next round. The attempt has come to its end."""
        if self.in_hand.get(claim.id) is claim:
            del self.in_hand[claim.id]
        at = datetime.now(UTC)
        self.found.append(Found(claim, result, 1, at, at, how))


YES, LATER, NO = Reply(250, ("2.0.0 ok",)), Reply(450, ("4.2.1 busy",)), Reply(550, ("5.1.1 nobody",))
UNKNOWN = Evidence("data", "outcome_unknown")


def said(claim: Claim, replies: Mapping[str, Reply] | None = None) -> Delivery:
    """What a relay makes of it that says yes, but for the ``replies`` to some addresses."""
    each = tuple((one.address, (replies or {}).get(one.address, YES)) for one in claim.recipients)
    return Delivery(YES, each, YES if any(reply.positive for _, reply in each) else None)


# --- Looking -------------------------------------------------------------------------------------------------


async def kept(store: Store) -> dict[str, Kept]:
    """Every submission as it stands in its row."""
    return {row[0]: read(row) for row in await store.rows(f"SELECT {COLUMNS} FROM message")}


async def shown(store: Store, name: str) -> Submission:
    return (await kept(store))[name].shown


async def recipients(store: Store, name: str) -> tuple[Recipient, ...]:
    return (await shown(store, name)).recipients


async def everybody(store: Store) -> list[Recipient]:
    """The recipients of all messages."""
    return [one for each in (await kept(store)).values() for one in each.shown.recipients]


async def states(store: Store) -> Counter[str]:
    """How many messages are in which state, counted one by one."""
    return Counter(one.state for one in (await kept(store)).values())


async def tallies(store: Store) -> Counter[str]:
    """The same, as it is written down."""
    rows = await store.rows("SELECT state, SUM(messages) FROM outbox_tally GROUP BY state")
    return Counter({state: int(number) for state, number in rows if int(number)})


async def ensure_books_are_right(store: Store) -> None:
    """What is written down about all messages is what there is."""
    counted = await tallies(store)
    ((number, octets),) = await store.rows("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM message")
    assert counted.pop(CONTENT, 0) == number
    assert counted == await states(store)
    rows = await store.rows("SELECT COALESCE(SUM(octets), 0) FROM outbox_tally")
    assert int(rows[0][0]) == int(octets)
    wrong = await store.rows("SELECT node, state FROM outbox_tally WHERE state <> $1 AND octets <> 0", CONTENT)
    assert not wrong
    for row in await store.rows(f"SELECT {COLUMNS}, state FROM message"):
        assert row[-1] == read(row[:-1]).state


async def attempts(store: Store, name: str) -> list[tuple[int, str]]:
    rows = await store.rows("SELECT number, node FROM attempt WHERE message = $1 ORDER BY number", name)
    return [(number, node) for number, node in rows]


async def eventually(reached: Callable[[], Awaitable[bool]], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await reached():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def until_all_are(store: Store, state: str, seconds: float = 20.0) -> None:
    async def reached() -> bool:
        return set(await tallies(store)) <= {state, CONTENT}

    try:
        await eventually(reached, "", seconds)
    except AssertionError:
        raise AssertionError(f"not all are {state}: {await tallies(store)}") from None


async def octets_of(office: Office, name: str) -> bytes:
    found = await content.reveal(office.store, office.keyring, name)
    assert found is not None
    return found


# --- A node at work ------------------------------------------------------------------------------------------

SOON = policy(waits=(0.3,), jitter=0.0)


@asynccontextmanager
async def sending(settings, relay: CountingRelay, clocks: Time | None = None):
    """A relay, and a site whose nodes send to it. The books are right at the end, whatever happened."""
    async with relay.listening(), site(settings, clocks) as made:
        made.aim(relay.port)
        yield made
        await ensure_books_are_right(made.store)


async def working(made, name: str = "a", **more) -> Outbox:
    outbox = await made.outbox(name, **{"policy": SOON} | more)
    outbox.start(works=True)
    return outbox


async def is_in_state(store, name: str, state: str, seconds: float = 20.0) -> None:
    async def reached() -> bool:
        return (await shown(store, name)).state == state

    await eventually(reached, f"it never is {state}", seconds)


async def handed_in(made: Site, *letters, **order) -> list[str]:
    return await submit(queue(await made.office("in")), *letters, **order)


async def by_hand(made: Site, name: str = "a", **more) -> ByHand:
    return ByHand(await made.office(name, **more))
