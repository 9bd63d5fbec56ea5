"""``POST /api/v1/messages``: a message that was answered 202 is kept, once, as it was handed in."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from canary import leaks, new_canary
from keyrelay.api import entrance
from keyrelay.outbox import foresight
from live import ADMIN_PASSWORD, ANONYMOUS, Command, LiveServer
from submissions import (
    JSON,
    MESSAGE,
    MESSAGES,
    hand_in,
    idle_desk,
    keyed,
    number_kept,
    octets,
    parsed,
    refused,
    submission,
    taken_in,
    told,
)

EVERY_FIELD = JSON | {
    "cc": ["Ca <ca@example.org>", "pki@example.org"],
    "bcc": "auditor@example.org",
    "reply_to": "help@example.org",
    "html": "<p>Renewed.</p>",
    "headers": {"Auto-Submitted": "auto-generated"},
    "attachments": [{"name": "a.txt", "type": "text/plain", "content": base64.b64encode(b"One file").decode()}],
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


@pytest.fixture
def idle_server(sqlite_settings, start) -> LiveServer:
    """A server that takes in and sends nothing."""
    return start(replace(sqlite_settings, worker=False))


def aimed_at(relay, **more: Any) -> dict[str, Any]:
    return ANONYMOUS | {"Host": "localhost", "Port": relay.port} | more


# --- What is taken in ----------------------------------------------------------------------------------------


def test_a_json_submission_is_kept_as_the_message_it_describes(configured):
    answer = hand_in(configured, EVERY_FIELD)
    name = taken_in(answer)
    message = parsed(configured, name)
    shown = {key: str(message[key]) for key in ("from", "to", "cc", "reply-to", "subject", "auto-submitted")}
    assert shown == {
        "from": "PKI <pki@example.org>",
        "to": "ops@example.org",
        "cc": "Ca <ca@example.org>, pki@example.org",
        "reply-to": "help@example.org",
        "subject": "Renewed",
        "auto-submitted": "auto-generated",
    }
    assert message["bcc"] is None
    assert message["message-id"] == answer.json()["message_id"]
    assert message.get_body(("plain",)).get_content().splitlines() == JSON["text"].splitlines()
    assert [file.get_content() for file in message.iter_attachments()] == ["One file"]
    assert told(configured, name) == ("ops@example.org", "ca@example.org", "pki@example.org", "auditor@example.org")
    kept = submission(configured, name)
    assert (kept.sender, kept.submitted_by, kept.priority) == ("pki@example.org", "admin", 1)
    assert kept.size == len(octets(configured, name))


def test_a_message_that_is_well_is_kept_as_it_was_handed_in(configured):
    given = b"Date: Sun, 01 Mar 2026 12:30:05 +0000\r\nMessage-ID: <1@example.org>\r\n" + MESSAGE
    answer = hand_in(configured, given)
    name = taken_in(answer)
    assert octets(configured, name) == given
    assert answer.json()["message_id"] == "<1@example.org>"
    assert told(configured, name) == ("ops@example.org",)


def test_a_message_from_a_script_gets_what_it_lacks_and_loses_its_bcc(desk):
    answer = hand_in(desk, b"To: ops@example.org\nBcc: auditor@example.org\nSubject: hello\n\nOne line.\n")
    name = taken_in(answer)
    message = parsed(desk, name)
    assert (message["from"], message["bcc"]) == ("PKI <pki@example.org>", None)
    assert message["message-id"] == answer.json()["message_id"]
    assert told(desk, name) == ("ops@example.org", "auditor@example.org")


def test_the_envelope_of_a_message_can_stand_in_the_query(desk):
    query = [
        ("sender", "pki@example.org"),
        ("recipient", "a+b@example.org"),
        ("recipient", "c@example.org"),
        ("recipient", "a+b@EXAMPLE.org"),
        ("priority", "low"),
        ("send_after", "2020-01-01T00:00:00+01:00"),
    ]
    name = taken_in(hand_in(desk, MESSAGE, params=query))
    kept = submission(desk, name)
    assert told(desk, name) == ("a+b@example.org", "c@example.org")
    assert (kept.sender, kept.priority, kept.send_after) == ("pki@example.org", -1, None)


@pytest.mark.parametrize("media", ["message/rfc822", "Message/RFC822; charset=us-ascii", "message/rfc822 ;x=y"])
def test_a_message_is_known_by_its_media_type(desk, media):
    taken_in(desk.post(MESSAGES, content=MESSAGE, headers={"content-type": media}))


@pytest.mark.parametrize("media", ["application/json", "text/json; charset=utf-8", "application/vnd.x+json", None])
def test_everything_else_is_json(desk, media):
    headers = {} if media is None else {"content-type": media}
    taken_in(desk.post(MESSAGES, content=b"\xef\xbb\xbf" + json.dumps(JSON).encode(), headers=headers))


def test_what_is_given_as_null_is_not_given(desk):
    taken_in(hand_in(desk, JSON | dict.fromkeys(["from", "cc", "bcc", "html", "headers", "send_after", "priority"])))


def test_a_message_can_wait_for_its_time_up_to_a_year(desk):
    for when in (timedelta(hours=1), timedelta(days=365)):
        moment = (datetime.now(UTC) + when).replace(microsecond=0)
        for answer in (
            hand_in(desk, JSON | {"send_after": moment.isoformat()}),
            hand_in(desk, MESSAGE, params={"send_after": moment.isoformat().replace("+00:00", "Z")}),
        ):
            assert submission(desk, taken_in(answer)).send_after == moment


@pytest.mark.parametrize("past", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "2026-01-01t00:00:00-23:59"])
def test_a_time_that_has_passed_means_now(desk, past):
    assert submission(desk, taken_in(hand_in(desk, JSON | {"send_after": past}))).send_after is None


def test_what_was_taken_in_goes_out(sqlite_server, relay, eventually):
    sink = relay()
    sqlite_server.put_v2(aimed_at(sink)).raise_for_status()
    names = [taken_in(hand_in(sqlite_server, body)) for body in (JSON, MESSAGE)]
    eventually(lambda: sink.accepted == 2)
    assert sorted(received.content for received in sink.messages) == sorted(
        octets(sqlite_server, name) for name in names
    )


def test_without_a_profile_there_is_nobody_to_send_as(sqlite_server):
    for body in (JSON, MESSAGE):
        refused(hand_in(sqlite_server, body), 409, "no_profile")
    assert number_kept(sqlite_server) == 0


def test_many_at_once_are_each_kept_once(configured):
    before = number_kept(configured)
    with ThreadPoolExecutor(16) as pool:
        names = set(pool.map(lambda _: taken_in(hand_in(configured, MESSAGE)), range(64)))
    assert len(names) == 64
    assert number_kept(configured) == before + 64


def test_an_answered_message_survives_a_kill(tmp_path, sqlite_template):
    environment = {
        "KEYRELAY_DATA_DIR": str(tmp_path / "data"),
        "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "KEYRELAY_WORKER": "no",
    }
    command = Command.serve(environment)
    with httpx2.Client(base_url=command.url, auth=("admin", ADMIN_PASSWORD), timeout=30) as client:
        client.put("/api/v1/profile", json=_profile()).raise_for_status()
        names = {client.post(MESSAGES, json=JSON).raise_for_status().json()["id"] for _ in range(5)}
        command.kill()
    with sqlite3.connect(tmp_path / "data" / "keyrelay.db") as database:
        kept = {
            row[0] for row in database.execute("SELECT m.id FROM message m JOIN message_content c ON c.message = m.id")
        }
    database.close()
    assert kept == names


def _profile() -> dict[str, Any]:
    return {"host": "mail.example.org", "port": 25, "sender_account": "pki@example.org", "sender_name": "PKI"}


@pytest.mark.parametrize(("kind", "beside"), [("small", False), ("large", True)])
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "rfc822"])
def test_a_large_message_is_read_beside_the_event_loop(desk, monkeypatch, kind, beside, as_json):
    lines = b"x" * 70 + b"\r\n"
    text = lines * (20_000 if kind == "large" else 10)
    threads = []
    name = "from_json" if as_json else "from_rfc822"
    real = getattr(entrance, name)

    def reading(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return real(*given)

    if as_json:
        monkeypatch.setattr(entrance, "from_json", reading)
    else:
        original = entrance._form
        monkeypatch.setattr(entrance, "_form", lambda request: msgspec.structs.replace(original(request), read=reading))
    body: Any = JSON | {"text": text.decode()} if as_json else MESSAGE + text
    name = taken_in(hand_in(desk, body, headers={"idempotency-key": new_canary()}))
    assert len(octets(desk, name)) > len(text)
    assert (threads[0] is not desk._thread) is beside


# --- What the relay cannot take ------------------------------------------------------------------------------

UTF8 = "From: pki@example.org\r\nTo: grüße@example.org\r\nSubject: hello\r\n\r\nx\r\n".encode()
SIGNED = (
    b"DKIM-Signature: v=1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n" + MESSAGE + b"\xc3\xbc\r\n"
)


@pytest.mark.parametrize(
    ("body", "extensions", "expected"),
    [
        (UTF8, ("8BITMIME", "SIZE"), "smtputf8_not_offered"),
        (JSON | {"to": "grüße@example.org"}, ("8BITMIME",), "smtputf8_not_offered"),
        (SIGNED, ("SMTPUTF8", "SIZE 1000000"), "8bitmime_not_offered"),
        (MESSAGE + (b"x" * 98 + b"\r\n") * 11_000, ("SIZE 1048576",), None),
    ],
    ids=["SMTPUTF8", "SMTPUTF8 in json", "8BITMIME", "SIZE"],
)
def test_what_the_relay_cannot_take_is_never_queued(idle_server, relay, body, extensions, expected):
    sink = relay(extensions=extensions)
    idle_server.put_v2(aimed_at(sink)).raise_for_status()
    for _ in range(3):
        answer = hand_in(idle_server, body)
        if expected is None:
            assert "the relay takes no more than 1048576" in refused(answer, 413, "body_too_large")
        else:
            refused(answer, 400, "bad_input", "message")
            assert [error["code"] for error in answer.json()["errors"]] == [expected]
    assert (number_kept(idle_server), sink.connections) == (0, 1)
    taken_in(hand_in(idle_server, MESSAGE))


def test_what_the_relay_can_take_by_the_standards_downgrade_is_queued_and_sent(sqlite_server, relay, eventually):
    sink = relay(extensions=("PIPELINING", "SIZE"))
    sqlite_server.put_v2(aimed_at(sink)).raise_for_status()
    taken_in(hand_in(sqlite_server, SIGNED.partition(b"\r\n")[2]))
    eventually(lambda: sink.accepted == 1)
    assert sink.messages[0].content.isascii()


def test_a_relay_that_cannot_be_asked_keeps_nobody_waiting_for_long(sqlite_settings, start, relay, monkeypatch):
    monkeypatch.setattr(foresight, "_PATIENCE", 1.0)
    server = start(replace(sqlite_settings, worker=False))
    silent = relay(silent=True)
    server.put_v2(aimed_at(silent)).raise_for_status()
    with ThreadPoolExecutor(8) as pool:
        names = {taken_in(answer) for answer in pool.map(lambda _: hand_in(server, UTF8), range(16))}
    assert (len(names), silent.connections) == (16, 1)


# --- Trouble of our own --------------------------------------------------------------------------------------


def test_a_full_outbox_refuses_early(sqlite_settings, start):
    server = start(replace(sqlite_settings, worker=False, outbox_megabytes=1))
    server.put_v2(ANONYMOUS).raise_for_status()
    answer = hand_in(server, MESSAGE + (b"x" * 98 + b"\r\n") * 11_000)
    said = refused(answer, 507, "outbox_full")
    assert "KEYRELAY_OUTBOX_MEGABYTES" in said
    assert answer.headers["retry-after"] == "60"
    assert number_kept(server) == 0
    taken_in(hand_in(server))


def test_while_the_database_is_down_nothing_is_promised(postgres, sqlite_settings, start):
    server = start(replace(sqlite_settings, database_url=postgres.fresh_database(), worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    first = hand_in(server, JSON, **keyed("kept"))
    taken_in(first)
    postgres.kill()
    try:
        for key in ("kept", "new"):
            answer = hand_in(server, JSON, **keyed(key))
            refused(answer, 503, "store_unavailable")
            assert answer.headers["retry-after"]
    finally:
        postgres.resume()
    again = _when_it_is_back(server, keyed("kept"))
    assert again.content == first.content
    assert number_kept(server) == 1


def _when_it_is_back(server: LiveServer, more: dict[str, Any]) -> httpx2.Response:
    for _ in range(200):
        answer = hand_in(server, JSON, **more)
        if answer.status_code != 503:
            return answer
        threading.Event().wait(0.05)
    raise AssertionError("the database has not come back")


def test_what_a_message_says_is_neither_logged_nor_kept_in_clear(logged, sqlite_settings, start, database_text):
    server = start(sqlite_settings)  # it tries to send, in vain
    server.put_v2(ANONYMOUS).raise_for_status()
    planted = {
        place: new_canary() for place in ("subject", "text", "file", "raw", "broken", "refused", "name", "header")
    }
    file = {"name": f"{planted['name']}.txt", "content": base64.b64encode(planted["file"].encode()).decode()}
    said = JSON | {"subject": planted["subject"], "text": planted["text"], "attachments": [file]}
    taken_in(hand_in(server, said | {"headers": {"X-Note": planted["header"]}}))
    taken_in(hand_in(server, MESSAGE + planted["raw"].encode()))
    answers = [
        hand_in(server, MESSAGE + planted["broken"].encode() + b"\0"),
        hand_in(server, JSON | {"text": planted["refused"], "priority": planted["refused"], "to": planted["refused"]}),
        server.post(MESSAGES, content=f'{{"text": "{planted["refused"]}'.encode(), headers={}),
    ]
    for answer in answers:
        complaint_of = refused(
            answer, 400, answer.json()["code"], *(e["field"] for e in answer.json().get("errors", []))
        )
        assert leaks(planted, complaint_of.encode()) == []
    assert number_kept(server) == 2
    assert leaks(planted, logged.getvalue().encode()) == []
    assert leaks(planted, database_text()) == []


def test_a_failure_of_ours_while_a_message_is_read_tells_nothing_of_it(logged, sqlite_settings, start, monkeypatch):
    server = start(replace(sqlite_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    canary = new_canary()

    def fail(body: bytes, *_: object) -> None:
        raise RuntimeError(body.decode())

    monkeypatch.setattr(entrance, "from_json", fail)
    answer = hand_in(server, JSON | {"text": canary})
    refused(answer, 500, "unexpected")
    assert "request failed" in logged.getvalue()
    assert leaks({"text": canary}, logged.getvalue().encode()) == []
    assert number_kept(server) == 0
