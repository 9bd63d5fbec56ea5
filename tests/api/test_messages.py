"""``/api/v1/messages``: what became of messages is found and shown, and people steer them."""

from __future__ import annotations

import email
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from message_desk import Desk
from test_documents import OPERATIONS, Listed, assert_documented

from complaints import complaint
from live import ANONYMOUS, LiveServer
from outboxes import LATER, NO
from submissions import MESSAGE, MESSAGES, hand_in, octets, refused, taken_in

NOWHERE = "00000000-0000-7000-8000-000000000000"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PASSWORD = "long enough 1"


@pytest.fixture
def idle(fresh_settings, start) -> Desk:
    """On SQLite and on PostgreSQL."""
    return Desk(start(replace(fresh_settings, worker=False)))


@pytest.fixture
def desk(sqlite_settings, start) -> Desk:
    return Desk(start(replace(sqlite_settings, worker=False)))


# --- One message ---------------------------------------------------------------------------------------------


def test_a_message_that_was_handed_in_is_shown(idle):
    name = idle.hand_in("ops@example.org", "dev@example.org", priority="high")
    shown = idle.shown(name)
    kept = octets(idle.server, name)
    assert shown == {
        "id": name,
        "message_id": email.message_from_bytes(kept)["Message-ID"],
        "state": "queued",
        "sender": "pki@example.org",
        "submitted_by": "admin",
        "submitted_at": shown["submitted_at"],
        "size": len(kept),
        "priority": "high",
        "send_after": None,
        "recipients": [
            {
                "address": address,
                "state": "queued",
                "tries": 0,
                "unknown": 0,
                "next_attempt_at": shown["recipients"][0]["next_attempt_at"],
                "expires_at": shown["recipients"][0]["expires_at"],
                "reply": None,
                "cause": None,
            }
            for address in ("ops@example.org", "dev@example.org")
        ],
        "attempts": [],
    }
    assert INSTANT.fullmatch(shown["submitted_at"])
    first = shown["recipients"][0]
    submitted, due, expires = (
        datetime.fromisoformat(at) for at in (shown["submitted_at"], first["next_attempt_at"], first["expires_at"])
    )
    assert abs(datetime.now(UTC) - submitted) < timedelta(minutes=1)
    assert abs(due - submitted) <= timedelta(seconds=1)
    assert abs(expires - submitted - timedelta(days=5)) <= timedelta(seconds=1)


def test_each_recipient_shows_what_the_relay_said_and_what_to_do_about_it(idle):
    name = idle.hand_in("a@example.org", "b@example.org", "c@example.org")
    idle.answer({"b@example.org": LATER, "c@example.org": NO})
    shown = idle.shown(name)
    assert shown["state"] == "deferred"
    accepted, deferred, failed = shown["recipients"]
    assert (accepted["state"], accepted["cause"], accepted["reply"]["code"]) == ("accepted", None, 250)
    assert (deferred["state"], deferred["tries"]) == ("deferred", 1)
    assert deferred["reply"] == {
        "stage": "recipient",
        "kind": "reply",
        "code": 450,
        "enhanced": "4.2.1",
        "text": "4.2.1 busy",
    }
    assert INSTANT.fullmatch(deferred["next_attempt_at"])
    assert (failed["state"], failed["next_attempt_at"]) == ("refused", None)
    assert failed["cause"]["id"] == "recipient-unknown"
    assert "c@example.org" in failed["cause"]["sentence"]
    assert ANONYMOUS["Host"] in failed["cause"]["sentence"]
    assert failed["cause"]["remedy"]
    (attempt,) = shown["attempts"]
    assert attempt["number"] == 1
    assert [(one["recipient"], one["code"]) for one in attempt["replies"]] == [
        ("a@example.org", 250),
        ("b@example.org", 450),
        ("c@example.org", 550),
    ]


def test_an_outcome_that_is_unknown_is_explained(desk):
    name = desk.hand_in()
    desk.answer(how="attempted")
    (recipient,) = desk.shown(name)["recipients"]
    assert (recipient["state"], recipient["unknown"]) == ("outcome_unknown", 1)
    assert recipient["reply"]["kind"] == recipient["cause"]["id"].replace("-", "_") == "outcome_unknown"


def test_what_is_being_sent_is_shown_so_and_cannot_be_steered(idle):
    name = idle.hand_in()
    idle.begin()
    assert idle.shown(name)["state"] == idle.shown(name)["recipients"][0]["state"] == "sending"
    for action in ("cancel", "hold", "release", "resend"):
        assert "being sent" in refused(idle.steer(name, action), 409, "not_now")


UNKNOWN_IDS = [NOWHERE, "x", "1", "..", "%00", "%0a", "%C3%A9", "%ff", "' OR 1=1 --", "a" * 2000, NOWHERE.upper() + "0"]


@pytest.mark.parametrize("name", UNKNOWN_IDS)
def test_an_id_that_is_not_known_is_answered_404_whatever_it_is(idle, name):
    idle.hand_in()
    actions = ("cancel", "hold", "release", "resend")
    paths = [("GET", ""), ("GET", "/raw"), *(("POST", f"/{action}") for action in actions)]
    for method, rest in paths:
        answer = idle.server.request(method, f"{MESSAGES}/{name}{rest}")
        complaint(answer, 404)


def test_an_id_may_be_written_in_either_case(desk):
    name = desk.hand_in()
    assert desk.shown(name.upper())["id"] == name


# --- Content -------------------------------------------------------------------------------------------------


def test_the_content_is_given_octet_by_octet_as_something_to_keep_and_not_to_open(idle):
    name = taken_in(hand_in(idle.server, MESSAGE))
    answer = idle.server.get(f"{MESSAGES}/{name}/raw").raise_for_status()
    assert answer.content == octets(idle.server, name)
    assert answer.content.endswith(b"It was renewed.\r\n")
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.eml"'
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_who_may_read_messages_may_not_read_what_is_in_them(desk):
    name = desk.hand_in()
    desk.server.add_user("reader", PASSWORD, "/messages/read/")
    desk.server.add_user("raw-reader", PASSWORD, "/messages/raw/")
    for user, (document, content) in {"reader": (200, 403), "raw-reader": (403, 200)}.items():
        for rest, status in (("", document), ("/raw", content)):
            answer = httpx2.get(f"{desk.server.url}{MESSAGES}/{name}{rest}", auth=(user, PASSWORD))
            assert answer.status_code == status


def test_content_that_is_not_kept_any_more_is_answered_404_and_the_rest_is_shown(desk):
    name = desk.hand_in()

    async def forget(node: Any) -> None:
        async with node.store.change() as change:
            await change.run("DELETE FROM message_content")

    desk.server.run(forget)
    assert "not kept" in refused(desk.server.get(f"{MESSAGES}/{name}/raw"), 404, "unknown_name")
    assert desk.shown(name)["state"] == "queued"


# --- Steering ------------------------------------------------------------------------------------------------


def test_a_message_is_cancelled_and_sent_again_after_all(idle):
    name = idle.hand_in()
    cancelled = idle.steer(name, "cancel").raise_for_status().json()
    assert cancelled["state"] == cancelled["recipients"][0]["state"] == "cancelled"
    assert "attempts" not in cancelled
    assert "cancelled" in refused(idle.steer(name, "cancel"), 409, "not_now")
    assert idle.steer(name, "resend").raise_for_status().json()["state"] == "queued"
    idle.answer()
    assert idle.shown(name)["state"] == "accepted"
    refused(idle.steer(name, "resend"), 409, "not_now")


def test_a_message_that_is_held_is_released(idle):
    name = idle.hand_in()
    idle.answer(how="failed_at")
    assert idle.shown(name)["state"] == "held"
    assert idle.steer(name, "release").raise_for_status().json()["state"] == "queued"


def test_a_message_that_waits_is_held_until_it_is_released(idle):
    name = idle.hand_in(send_after=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    held = idle.steer(name, "hold").raise_for_status().json()
    assert (held["state"], held["recipients"][0]["next_attempt_at"]) == ("held", None)
    assert "held" in refused(idle.steer(name, "hold"), 409, "not_now")
    idle.answer()
    assert idle.shown(name)["state"] == "held"
    idle.steer(name, "release").raise_for_status()
    idle.answer()
    assert idle.shown(name)["state"] == "accepted"
    refused(idle.steer(name, "hold"), 409, "not_now")


def test_steering_reads_no_body_but_an_empty_one(desk):
    name = desk.hand_in()
    refused(desk.steer(name, "cancel", json={"reason": "x"}), 400, "bad_input", "reason")
    refused(desk.steer(name, "cancel", content=b"["), 400, "malformed_body")
    assert desk.shown(name)["state"] == "queued"
    assert desk.steer(name, "cancel", json={}).status_code == 200


def test_those_that_failed_are_sent_again_together(idle):
    since = datetime.now(UTC) - timedelta(minutes=1)
    names = [idle.hand_in(f"{number}@example.org") for number in range(4)]
    idle.answer({"1@example.org": NO, "2@example.org": NO})
    body = {"since": since.isoformat(), "states": ["expired"]}
    answer = idle.server.post(f"{MESSAGES}/resend", json=body).raise_for_status()
    assert answer.json() == {"resent": 0, "without_content": 0}
    answer = idle.server.post(f"{MESSAGES}/resend", json={"since": since.isoformat()}).raise_for_status()
    assert answer.json() == {"resent": 2, "without_content": 0}
    assert idle.listed(state="queued") == names[2:0:-1]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["since"]),
        ({"since": None}, ["since"]),
        ({"since": 1}, ["since"]),
        ({"since": "yesterday"}, ["since"]),
        ({"since": "2026-03-01T12:00:00"}, ["since"]),
        ({"since": "2026-03-01T12:00:00Z", "states": "refused"}, ["states"]),
        ({"since": "2026-03-01T12:00:00Z", "states": []}, ["states"]),
        ({"since": "2026-03-01T12:00:00Z", "states": ["accepted"]}, ["states"]),
        ({"since": "2026-03-01T12:00:00Z", "states": [1, {}]}, ["states"]),
        ({"since": "2026-03-01T12:00:00Z", "states": None}, ["states"]),
        ({"since": "x", "states": ["queued"], "all": True}, ["all", "since", "states"]),
    ],
)
def test_an_order_to_send_again_that_cannot_be_meant_is_refused(module_server, body, fields):
    refused(module_server.post(f"{MESSAGES}/resend", json=body), 400, "bad_input", *fields)


def test_a_message_that_is_sent_again_goes_out_at_once(fresh_settings, start, relay, eventually):
    settings = fresh_settings
    server = start(settings)
    first = relay(replies={"rcpt": "550 5.1.1 no such user"})
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": first.port}).raise_for_status()
    name = taken_in(hand_in(server))
    eventually(state_is(server, name, "refused"))
    second = relay()
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": second.port}).raise_for_status()
    server.post(f"{MESSAGES}/{name}/resend").raise_for_status()
    eventually(state_is(server, name, "accepted"))
    assert len(server.get(f"{MESSAGES}/{name}").json()["attempts"]) == 2


def state_is(server: LiveServer, name: str, state: str) -> Callable[[], bool]:
    def reached() -> bool:
        with suppress(KeyError):
            return server.get(f"{MESSAGES}/{name}").json()["state"] == state
        return False

    return reached


# --- As documented -------------------------------------------------------------------------------------------


def documented(method: str, path: str) -> Listed:
    """The operation as the OpenAPI document has it."""
    (listed,) = [each for each in OPERATIONS if (each.method, each.path) == (method, path)]
    return listed


def test_what_is_done_to_a_message_is_answered_as_documented(desk):
    for action, how in {"cancel": None, "hold": None, "release": "failed_at", "resend": "attempted"}.items():
        listed = documented("POST", f"{MESSAGES}/{{id}}/{action}")
        name = desk.hand_in()
        if how:
            desk.answer(how=how)
        for place, status in ((name, 200), (NOWHERE, 404)):
            answer = desk.steer(place, action)
            assert answer.status_code == status
            assert_documented(listed, answer)
        while (answer := desk.steer(name, action)).status_code == 200:  # who waits may be sent again at once
            desk.answer()
        assert answer.status_code == 409
        assert_documented(listed, answer)


def test_messages_in_every_state_are_shown_as_documented(desk):
    desk.hand_in("a@example.org", "b@example.org", "c@example.org")
    desk.answer({"b@example.org": LATER, "c@example.org": NO})
    for how in ("attempted", "failed_at"):
        desk.hand_in()
        desk.answer(how=how)
    desk.steer(desk.hand_in(), "cancel").raise_for_status()
    desk.hand_in(send_after=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    sending = desk.hand_in()
    desk.begin()
    desk.hand_in(priority="low")
    page = desk.server.get(MESSAGES)
    assert {message["state"] for message in page.json()["messages"]} >= {
        *("deferred", "outcome_unknown", "held", "cancelled", "queued", "sending")
    }
    assert desk.shown(sending)["state"] == "sending"
    assert_documented(documented("GET", MESSAGES), page)
    for message in page.json()["messages"]:
        for rest in ("", "/raw"):
            answer = desk.server.get(f"{MESSAGES}/{message['id']}{rest}")
            assert_documented(documented("GET", f"{MESSAGES}/{{id}}{rest}"), answer)
    for rest in ("", "/raw"):
        answer = desk.server.get(f"{MESSAGES}/{NOWHERE}{rest}")
        assert_documented(documented("GET", f"{MESSAGES}/{{id}}{rest}"), answer)
