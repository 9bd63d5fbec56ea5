"""Submissions as rows, and back."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.outbox.model import STATES, WAITING, Recipient, Said, Submission
from keyrelay.outbox.records import (
    Kept,
    due,
    due_at,
    first_id,
    many,
    moment,
    new_id,
    read,
    read_attempt,
    stamp,
    written,
    written_said,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware
sayings = st.builds(Said, st.sampled_from(("connect", "data")), code=st.integers(200, 599), text=st.text(max_size=20))
states = st.sampled_from([state for state in STATES if state != "sending"])


@st.composite
def recipient(draw) -> Recipient:
    state = draw(states)
    next_at = draw(moments) if state in WAITING else None
    tries, unknown = draw(st.integers(0, 99)), draw(st.integers(0, 9))
    return Recipient("a@example.org", draw(moments), next_at, state, tries, unknown, draw(st.none() | sayings))


def waiting(state: str, next_at: datetime, expires_at: datetime = NOW + DAY) -> Recipient:
    return Recipient("a@example.org", expires_at, next_at, state)


def submission(*recipients: Recipient, send_after: datetime | None = None) -> Submission:
    return Submission("id", "<m@x>", "s@example.org", recipients, "me", NOW, 10, send_after=send_after)


@given(moments)
def test_a_moment_comes_back_as_it_was(one):
    assert moment(stamp(one)) == one


@given(st.lists(recipient(), min_size=1, max_size=4).map(tuple), st.none() | moments, st.integers(0, 9))
def test_a_submission_comes_back_as_it_was(recipients, send_after, attempts):
    stamped = None if send_after is None else stamp(send_after)
    row = ("id", "<m@x>", "s", "me", stamp(NOW), 5, -1, 1, 0, stamped, written(recipients), None, None, 0, attempts)
    kept = read(row)
    assert kept.submission.recipients == recipients
    assert (kept.submission.submitted_at, kept.submission.send_after) == (NOW, send_after)
    assert (kept.submission.needs_smtputf8, kept.submission.needs_8bit, kept.attempts) == (True, False, attempts)
    assert (kept.turn, kept.lease, kept.state) == ((), None, kept.submission.state)
    assert kept.shown == kept.submission


@given(st.lists(st.tuples(st.text(max_size=9), sayings), max_size=3).map(tuple))
def test_an_attempt_comes_back_as_it_was(said):
    attempt = read_attempt((3, "a", stamp(NOW), stamp(NOW + DAY), written_said(said)))
    assert (attempt.number, attempt.node, attempt.started_at, attempt.ended_at) == (3, "a", NOW, NOW + DAY)
    assert attempt.said == said


def test_those_whose_turn_it_is_are_said_to_be_sent_and_nobody_else():
    recipients = (
        waiting("queued", NOW),
        waiting("deferred", NOW + DAY / 2),
        Recipient("b@example.org", NOW + DAY, None, "accepted"),
        waiting("outcome_unknown", NOW - DAY),
        waiting("queued", NOW),
    )
    row = ("id", "<m@x>", "s", "me", stamp(NOW), 5, 0, 0, 0, None, written(recipients), "a", stamp(NOW), 2, 1)
    kept = read(row)
    assert kept.turn == (0, 3), "as many as were claimed, of those that were due"
    assert [one.state for one in kept.shown.recipients] == ["sending", "deferred", "accepted", "sending", "queued"]
    assert kept.state == "sending"
    assert Kept(kept.submission, None, (), 1).state == "queued"


@pytest.mark.parametrize(
    ("one", "released", "is_due"),
    [
        (waiting("queued", NOW), False, True),
        (waiting("queued", NOW + DAY / 2), False, False),
        (waiting("queued", NOW + DAY / 2), True, True),
        (waiting("deferred", NOW + DAY / 2), True, False),
        (waiting("queued", NOW - DAY, NOW), False, False),
        (waiting("queued", NOW + DAY / 2, NOW), True, False),
        (Recipient("a@example.org", NOW + DAY, None, "held"), True, False),
    ],
)
def test_who_is_due(one, released, is_due):
    """What had a time of day is due as soon as that was reached, whatever the outbox's own clock says."""
    assert due(submission(one, send_after=NOW if released else None), NOW) == ((0,) if is_due else ())


def test_the_first_of_those_that_wait_says_when_a_message_is_due():
    held = Recipient("a@example.org", NOW + DAY, None, "held")
    assert due_at((held, waiting("deferred", NOW + DAY), waiting("queued", NOW))) == stamp(NOW)
    assert due_at((held,)) is None


@given(moments, moments)
def test_ids_sort_by_time_and_after_the_first_of_their_moment(one, other):
    early, late = sorted((one, other))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", new_id(one))
    assert early == late or new_id(early) < new_id(late)
    assert first_id(late) <= new_id(late)
    if stamp(late) // 1000 > stamp(early) // 1000:
        assert new_id(early) < first_id(late)


def test_ids_differ():
    assert len({new_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("number", [0, 1, 2, 3, 64, 65, 200])
def test_many_rows_go_in_few_statements_of_few_sizes_and_in_their_order(number):
    rows = [(at, f"text {at}") for at in range(number)]
    statements = list(many("INSERT INTO t (a, b)", rows))
    assert len(statements) <= number // 64 + 6
    assert all(len(values).bit_count() == 1 for _, values in statements), "powers of two, so that few are prepared"
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        for sql, values in statements:
            connection.execute(re.sub(r"\$(\d+)", r"?\1", sql), values)
        assert connection.execute("SELECT a, b FROM t ORDER BY rowid").fetchall() == rows
    connection.close()


def test_types_are_said_where_the_database_cannot_know_them():
    ((sql, values),) = many("WITH v AS (", [("a", 1)], ") SELECT", types="TEXT BIGINT")
    assert sql == "WITH v AS ( VALUES (CAST($1 AS TEXT), CAST($2 AS BIGINT)) ) SELECT"
    assert values == ["a", 1]
