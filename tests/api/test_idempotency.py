"""Idempotency-Key: the same submission again is answered as the first time, and is one message."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from canary import new_canary
from live import ANONYMOUS, LiveServer
from submissions import JSON, MESSAGE, hand_in, idle_desk, keyed, number_kept, refused, taken_in

PASSWORD = "long enough 1"
SUBMIT = "/messages/submit/"
EVERY_FIELD = JSON | {
    "cc": ["Ca <ca@example.org>"],
    "bcc": "auditor@example.org",
    "html": "<p>Renewed.</p>",
    "headers": {"Auto-Submitted": "auto-generated"},
    "attachments": [{"name": "a.bin", "content": "AAAA"}],
    "send_after": "2020-01-01T00:00:00Z",
    "priority": "high",
}


@pytest.fixture(scope="module")
def desk(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    with idle_desk(request, tmp_path_factory, sqlite_template) as server:
        yield server


@pytest.fixture
def configured(server) -> LiveServer:
    """A server with a profile, on SQLite and on PostgreSQL."""
    server.put_v2(ANONYMOUS).raise_for_status()
    return server


@pytest.mark.parametrize("body", [EVERY_FIELD, MESSAGE], ids=["json", "rfc822"])
def test_the_same_again_with_its_key_gets_the_first_answer_again(configured, body):
    first = hand_in(configured, body, **keyed("order-1"))
    name = taken_in(first)
    assert "idempotency-replayed" not in first.headers
    for _ in range(2):
        again = hand_in(configured, body, **keyed("order-1"))
        assert taken_in(again) == name
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
    assert number_kept(configured) == 1


def test_without_a_key_every_request_is_a_message(desk):
    before = number_kept(desk)
    assert taken_in(hand_in(desk)) != taken_in(hand_in(desk))
    assert number_kept(desk) == before + 2


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (JSON | {"subject": "Other"}, {}),
        (MESSAGE, {}),
        (b"X-Other: 1\r\n" + MESSAGE, {"params": {"recipient": "ops@example.org"}}),
    ],
    ids=["another text", "another type", "another type and query"],
)
def test_another_submission_with_the_same_key_is_refused(configured, body, more):
    name = taken_in(hand_in(configured, JSON, **keyed("order-2")))
    refused(hand_in(configured, body, **keyed("order-2"), **more), 409, "key_reused")
    assert number_kept(configured) == 1
    assert taken_in(hand_in(configured, JSON, **keyed("order-2"))) == name


def test_another_envelope_is_another_submission(desk):
    key = new_canary()
    taken_in(hand_in(desk, MESSAGE, **keyed(key), params={"recipient": "a@example.org"}))
    for other in ({"recipient": "b@example.org"}, {"recipient": "a@example.org", "priority": "high"}, {}):
        refused(hand_in(desk, MESSAGE, **keyed(key), params=other), 409, "key_reused")


def test_keys_belong_to_the_user_who_gave_them(desk):
    desk.add_user("somebody", PASSWORD, SUBMIT)
    key = new_canary()
    mine = taken_in(hand_in(desk, JSON, **keyed(key)))
    assert taken_in(hand_in(desk, JSON, **keyed(key), auth=("somebody", PASSWORD))) != mine


@pytest.mark.parametrize("key", ["a", "x" * 255, '"quoted"', "!~", "8e03978e-40d5-43e8-bc93-6894a57f9324"])
def test_a_key_is_any_text_that_can_be_seen(desk, key):
    assert taken_in(hand_in(desk, JSON, **keyed(key))) == taken_in(hand_in(desk, JSON, **keyed(key)))


def test_equal_keys_that_come_at_once_are_one_message(configured):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: hand_in(configured, JSON, **keyed("race")), range(32)))
    assert len({taken_in(answer) for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert number_kept(configured) == 1


def test_equal_keys_on_two_nodes_at_once_are_one_message(fresh_settings, start):
    nodes = [start(fresh_settings), start(fresh_settings)]
    nodes[0].put_v2(ANONYMOUS).raise_for_status()
    for number in range(6):
        body = {"text": f"number {number}"}
        hand_in(nodes[1], JSON | body)  # it has heard of the profile
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda node, body=body, number=number: hand_in(node, JSON | body, **keyed(f"k{number}")), nodes * 4
                )
            )
        assert len({taken_in(answer) for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert number_kept(nodes[0]) == 12


def test_of_different_submissions_with_one_key_at_once_one_is_taken_in(fresh_settings, start):
    nodes = [start(fresh_settings), start(fresh_settings)]
    nodes[0].put_v2(ANONYMOUS).raise_for_status()
    taken_in(hand_in(nodes[1]))
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: hand_in(nodes[number % 2], JSON | {"text": str(number)}, **keyed("one")), range(8))
        )
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 7]
    assert number_kept(nodes[0]) == 2


def test_what_was_taken_in_is_not_refused_when_it_comes_again(sqlite_settings, start):
    server = start(replace(sqlite_settings, worker=False, outbox_megabytes=1))
    server.put_v2(ANONYMOUS).raise_for_status()
    body = JSON | {"from": "pki@example.org"}
    first = hand_in(server, body, **keyed("before"))
    filling = MESSAGE + (b"x" * 98 + b"\r\n") * 6_000
    while (answer := hand_in(server, filling)).status_code == 202:
        pass
    refused(answer, 507, "outbox_full")
    assert hand_in(server, body, **keyed("before")).content == first.content  # the outbox is full
    server.add_user("narrow", PASSWORD, SUBMIT)
    server.put_v2(ANONYMOUS | {"SenderAccount": "another@example.org"}).raise_for_status()
    refused(hand_in(server, body, auth=("narrow", PASSWORD)), 403, "permission_missing")
    assert hand_in(server, body, **keyed("before")).content == first.content  # the profile is another


def test_a_repeat_is_known_when_nothing_is_kept_of_the_message_any_more(desk):
    key = new_canary()
    first = hand_in(desk, JSON, **keyed(key))

    async def forget(node):
        async with node.store.change() as change:
            await change.run("DELETE FROM message WHERE id = $1", first.json()["id"])

    desk.run(forget)
    again = hand_in(desk, JSON, **keyed(key))
    assert again.status_code == 202
    assert again.json() == first.json() | {"message_id": None}
