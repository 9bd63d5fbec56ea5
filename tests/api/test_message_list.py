"""``GET /api/v1/messages``: messages are found by state, recipient and time, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from message_desk import Desk

from keyrelay.outbox.model import STATES
from outboxes import NO
from submissions import MESSAGES, refused


@pytest.fixture
def idle(fresh_settings, start) -> Desk:
    """On SQLite and on PostgreSQL."""
    return Desk(start(replace(fresh_settings, worker=False)))


@pytest.fixture
def desk(sqlite_settings, start) -> Desk:
    return Desk(start(replace(sqlite_settings, worker=False)))


def test_the_list_goes_page_by_page_from_the_newest(idle):
    ids = [idle.hand_in() for _ in range(5)][::-1]
    first = idle.server.get(MESSAGES, params={"limit": 2}).json()
    assert [message["id"] for message in first["messages"]] == ids[:2]
    second = idle.server.get(MESSAGES, params={"limit": 2, "after": first["next"]}).json()
    third = idle.server.get(MESSAGES, params={"limit": 2, "after": second["next"]}).json()
    assert [message["id"] for message in second["messages"] + third["messages"]] == ids[2:]
    assert third["next"] is None
    detail = idle.shown(ids[0])
    del detail["attempts"]
    assert first["messages"][0] == detail


def test_the_list_is_filtered_by_state_and_recipient_and_time(idle):
    early = idle.hand_in("a@example.org")
    failed = idle.hand_in("b@example.org")
    idle.answer({"b@example.org": NO})
    late = idle.hand_in("a@example.org", "b@example.org")
    assert idle.listed(state="refused") == [failed]
    assert idle.listed(state=["refused", "accepted"]) == idle.listed(state="refused,accepted") == [failed, early]
    assert idle.listed(state=list(STATES)) == idle.listed() == [late, failed, early]
    assert idle.listed(recipient="B@EXAMPLE.ORG") == [late, failed]
    assert idle.listed(recipient="b@example.org", state="queued") == [late]
    assert idle.listed(recipient="c@example.org") == []
    since = idle.shown(failed)["submitted_at"]
    assert idle.listed(since=since) == [late, failed]
    assert idle.listed(until=since) == [early]
    a_day = [datetime.now(UTC) + timedelta(days=days) for days in (-1, 1)]
    assert len(idle.listed(since=a_day[0].isoformat(), until=a_day[1].isoformat())) == 3


def test_a_plus_sign_in_a_time_that_was_not_escaped_is_understood(desk):
    desk.hand_in()
    assert len(desk.server.get(f"{MESSAGES}?since=2026-01-01T01:00:00+01:00").json()["messages"]) == 1


BAD_FILTERS: list[tuple[str, str]] = [
    *(("state", f"state={text}") for text in ("", "sent", "queued,", "QUEUED", "%00", "queued;held")),
    *(("recipient", f"recipient={text}") for text in ("", "ops", "a%00@b.org", "a%0a@b.org", "x" * 400)),
    *(("since", f"since={text}") for text in ("", "now", "2026-03-01", "2026-03-01T12:00:00", "2026-02-30T12:00:00Z")),
    *(("until", f"until={text}") for text in ("1", "%00", "2026-03-01T25:00:00Z", "2026-03-01T12:00:00%2B99:00")),
    *(("after", f"after={text}") for text in ("", "x", "%00", "1" * 36, "é")),
    *(("limit", f"limit={text}") for text in ("", "0", "201", "-1", "1.5", "1e2", "²", "9" * 5000)),
    ("limit", "limit=1&limit=2"),
    ("recipient", "recipient=a@b.org&recipient=a@b.org"),
    ("page", "page=2"),
    ("State", "State=queued"),
]


@pytest.mark.parametrize(("field", "query"), BAD_FILTERS)
def test_a_filter_that_cannot_be_meant_is_refused_by_its_name(module_server, field, query):
    refused(module_server.get(f"{MESSAGES}?{query}"), 400, "bad_input", field)


def test_everything_that_is_wrong_with_the_filters_is_told_at_once(module_server):
    answer = module_server.get(f"{MESSAGES}?state=x&recipient=y&since=z&until=z&after=z&limit=z&w=1")
    refused(answer, 400, "bad_input", "w", "state", "recipient", "since", "until", "after", "limit")


@pytest.mark.parametrize("year", ["0001", "1969", "9999"])
def test_no_time_is_too_far_away_for_a_filter(module_server, year):
    for offset in ("Z", "%2B14:00", "-14:00"):
        for name in ("since", "until"):
            for day in ("01-01T00:00:00", "12-31T23:59:59.999999"):
                answer = module_server.get(f"{MESSAGES}?{name}={year}-{day}{offset}")
                assert answer.status_code == 200, answer.text
