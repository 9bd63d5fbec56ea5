"""What is counted and told of every change, on real tables."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.outbox.books import CONTENT, Books, Turn
from keyrelay.outbox.model import STATES
from keyrelay.store.schema import HEAD
from outboxes import ByHand, Time, ensure_books_are_right, letter, queue, said, site, submit
from relaying import run

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

some_state = st.none() | st.sampled_from(STATES)
turns = st.lists(
    st.builds(Turn, st.sampled_from("abcd"), some_state, some_state, st.sampled_from((0, 0, 7, -7, 100))),
    max_size=12,
)


@pytest.fixture
def connection(sqlite_template, tmp_path):
    made = sqlite3.connect(":memory:")
    with sqlite3.connect(sqlite_template) as template:
        template.backup(made)
    template.close()
    assert made.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    yield made
    made.close()


def enter(connection, books: Books, *several: Turn, wall: datetime = NOW) -> None:
    for sql, values in books.entries(several, wall):
        connection.execute(sql.replace("$", "?"), values)


@given(data=st.lists(turns, max_size=6))
def test_the_sums_over_all_desks_are_what_happened(sqlite_template, data):
    with sqlite3.connect(":memory:") as made:
        with sqlite3.connect(sqlite_template) as template:
            template.backup(made)
        template.close()
        desks = [Books("a", "in"), Books("a", "out"), Books("b", "out")]
        expected: Counter[str] = Counter()
        octets = 0
        for at, several in enumerate(data):
            enter(made, desks[at % 3], *several)
            for one in several:
                expected.update({one.after: 1} if one.after else {})
                expected.subtract({one.before: 1} if one.before else {})
                expected.update({CONTENT: (one.content > 0) - (one.content < 0)})
                octets += one.content
        found = dict(made.execute("SELECT state, SUM(messages) FROM outbox_tally GROUP BY state"))
        assert {state: number for state, number in found.items() if number} == {
            state: number for state, number in expected.items() if number
        }
        assert made.execute("SELECT COALESCE(SUM(octets), 0) FROM outbox_tally").fetchone() == (octets,)
        told = Counter()
        for (changes,) in made.execute("SELECT changes FROM outbox_event"):
            told.update(tuple(change) for change in msgspec.json.decode(changes))
        assert told == Counter(
            (one.id, one.after) for several in data for one in several if one.after not in {None, one.before}
        )
    made.close()


def test_events_are_short_and_numbered_without_a_gap(connection):
    books = Books("a", "in")
    enter(connection, books, *(Turn(f"m{at}", None, "queued") for at in range(450)))
    enter(connection, books, Turn("m0", "queued", "cancelled"))
    rows = connection.execute("SELECT node, serial, changes FROM outbox_event ORDER BY serial").fetchall()
    assert [(node, serial) for node, serial, _ in rows] == [("a.in", at) for at in range(1, 5)]
    assert [len(msgspec.json.decode(changes)) for _, _, changes in rows] == [200, 200, 50, 1]


def test_each_minute_says_what_came_in_and_what_became_of_it(connection):
    books = Books("a", "out")
    enter(connection, books, Turn("m", None, "queued"), Turn("n", None, "queued"))
    enter(connection, books, Turn("m", "queued", "sending"), Turn("m", "sending", "accepted"))
    enter(connection, books, Turn("n", "queued", "cancelled"), wall=NOW + timedelta(minutes=1))
    enter(connection, books, Turn("n", "cancelled", "queued"), wall=NOW + timedelta(minutes=1))
    enter(connection, books, Turn("n", "queued", "held"), Turn("n", "held", "queued"), wall=NOW + timedelta(minutes=2))
    enter(connection, books, Turn("n", "cancelled", None), wall=NOW + timedelta(minutes=3))
    minute = int(NOW.timestamp()) // 60
    rows = connection.execute("SELECT minute, what, amount FROM outbox_minute ORDER BY minute, what").fetchall()
    assert rows == [
        *((minute, "accepted", 1), (minute, "submitted", 2)),
        *((minute + 1, "cancelled", 1), (minute + 1, "resent", 1)),
        (minute + 2, "held", 1),
    ]


def test_nothing_happened_is_nothing_written():
    assert list(Books("a", "in").entries([], NOW)) == []


def test_nobody_waits_for_another_to_count(fresh_settings):
    """The rows that two nodes write are never the same."""

    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as made:
            offices = [await made.office(name) for name in "ab"]
            for office in offices:
                await submit(queue(office), letter(), letter())
                node = ByHand(office)
                for claim in (await node.round(1)).claims:
                    node.settle(claim, said(claim))
                await node.round(0)
            for table in ("outbox_tally", "outbox_minute", "outbox_event"):
                rows = await made.store.rows(f"SELECT DISTINCT node FROM {table} ORDER BY node")
                assert [name for (name,) in rows] == [
                    f"{office.node}.{desk}" for office in offices for desk in ("in", "out")
                ]
            await ensure_books_are_right(made.store)

    run(main())
