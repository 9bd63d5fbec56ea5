"""``POST /SMTP/Test`` really sends mail, says why when it cannot, and touches nothing else (contract 2.4, D8)."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.header import decode_header
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from complaints import complaint, nothing_changes
from keyrelay.chaos.relay import ChaosRelay, Received
from live import SMTP, V1, V2, LiveServer
from token_server import issues, refused

TEST = SMTP + "/Test"
TEST_FAILED, TOO_MANY_TESTS = "0xA0110024", "0xA0140005"
USERS = {"mailer": "Xk4-vQz7-Jw2"}  # no piece of it is a word that a relay might say
each_version = pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])


def settings_of(relay: ChaosRelay, **more: object) -> dict[str, Any]:
    """What a test of this relay is sent, in either version."""
    return {
        "Host": "localhost",
        "Port": relay.port,
        "RelayAuthenticationType": 0,
        "SenderAccount": "pki@example.org",
        "SenderName": "PKI mailer",
        "TestRecipient": "ops@example.org",
        "UseSSL": False,
    } | more


def signed_in(relay: ChaosRelay, **more: object) -> dict[str, Any]:
    name, password = next(iter(USERS.items()))
    basic = {"RelayUsername": {"SecretValue": name}, "RelayPassword": {"SecretValue": password}}
    return settings_of(relay, RelayAuthenticationType=2, UseSSL=True) | basic | more


def ask(server: LiveServer, body: object, version: dict[str, str] = V2, **more) -> httpx2.Response:
    return server.post(TEST, json=body, headers=version, **more)


def assert_failed(answer: httpx2.Response, *said: str) -> str:
    message = complaint(answer, 400)
    assert answer.json()["ErrorCode"] == TEST_FAILED, message
    for text in said:
        assert text in message
    return message


def parsed(received: Received) -> EmailMessage:
    found = email.message_from_bytes(received.content, policy=email.policy.SMTP)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


# --- The message ---------------------------------------------------------------------------------------------


def test_07_version_2_answers_200_with_nothing_when_one_real_message_has_arrived(module_server, relay):
    relay = relay()
    answer = ask(module_server, settings_of(relay))
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    (received,) = relay.messages
    assert (received.sender, received.recipients) == ("pki@example.org", ("ops@example.org",))
    message = parsed(received)
    assert message["From"] == "PKI mailer <pki@example.org>"
    assert message["To"] == "ops@example.org"
    assert re.fullmatch(r"<[^<>@\s]+@example\.org>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"
    sent_at = parsedate_to_datetime(message["Date"])
    assert abs(datetime.now(UTC) - sent_at) < timedelta(minutes=1)
    assert message.get_content().strip()
    assert relay.mistakes == []
    assert relay.commands[-1] == (1, "QUIT")


def test_07_version_1_echoes_the_settings_without_the_password(trusting_server, relay):
    relay = relay(starttls=True, auth=("PLAIN",), users=USERS)
    answer = ask(trusting_server, signed_in(relay), V1)
    assert answer.status_code == 200, answer.text
    assert list(answer.json().items()) == [
        ("Host", "localhost"),
        ("Id", 1),
        ("Port", relay.port),
        ("RelayAuthenticationType", 2),
        ("RelayUsername", "mailer"),
        ("SenderAccount", "pki@example.org"),
        ("SenderName", "PKI mailer"),
        ("TestRecipient", "ops@example.org"),
        ("UseSSL", True),
    ]
    assert USERS["mailer"] not in answer.text
    (received,) = relay.messages
    assert (received.user, received.tls) == ("mailer", True)


def test_07_version_1_echoes_null_for_a_user_name_that_there_is_none_of(module_server, module_relay):
    answer = ask(module_server, settings_of(module_relay), V1)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["RelayUsername"], answer.json()["RelayAuthenticationType"]) == (None, 0)


@pytest.mark.parametrize("as_text", [("RelayUsername",), ("RelayPassword",), ("RelayUsername", "RelayPassword")])
def test_version_1_takes_each_secret_as_a_text_or_an_object_and_echoes_the_name_alike(trusting_server, relay, as_text):
    relay = relay(starttls=True, auth=("LOGIN",), users=USERS)
    body = signed_in(relay)
    answer = ask(trusting_server, body | {field: body[field]["SecretValue"] for field in as_text}, V1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["RelayUsername"] == "mailer"
    assert relay.messages[0].user == "mailer"


def test_version_1_takes_the_sender_address_for_the_sender_account(module_server, relay):
    relay = relay()
    body = settings_of(relay, SenderAddress="other@example.org")
    del body["SenderAccount"]
    assert ask(module_server, body, V1).json()["SenderAccount"] == "other@example.org"
    assert relay.messages[0].sender == "other@example.org"


@each_version
def test_each_test_sends_a_message_of_its_own(module_server, relay, version):
    relay = relay()
    for _ in range(2):
        assert ask(module_server, settings_of(relay), version).status_code == 200
    first, second = map(parsed, relay.messages)
    assert first["Message-ID"] != second["Message-ID"]
    assert relay.connections == 2


def test_a_name_outside_ascii_arrives_as_it_was_given(module_server, relay):
    relay = relay()
    assert ask(module_server, settings_of(relay, SenderName="Zertifikate für Köln, “PKI”")).status_code == 200
    (name, charset), (rest, _) = decode_header(email.message_from_bytes(relay.messages[0].content)["From"])
    assert (name.decode(charset), rest) == ("Zertifikate für Köln, “PKI”", b" <pki@example.org>")


def test_an_address_outside_ascii_is_sent_where_the_relay_takes_it_and_refused_clearly_elsewhere(module_server, relay):
    able, unable = relay(), relay(extensions=("PIPELINING",))
    recipient = "jürgen@example.org"
    assert ask(module_server, settings_of(able, TestRecipient=recipient)).status_code == 200
    assert able.messages[0].recipients == (recipient,)
    message = assert_failed(ask(module_server, settings_of(unable, TestRecipient=recipient)), "stage sender")
    assert "SMTPUTF8" in message
    assert not unable.messages


# --- What failed, and what to do about it --------------------------------------------------------------------

REFUSALS = {
    "greeting": ("greeting", "554 5.7.1 not from your address"),
    "ehlo": ("hello", "550 5.7.1 go away"),
    "mail": ("sender", "550 5.1.8 bad sender"),
    "rcpt": ("recipient", "550 5.1.1 nobody of that name"),
    "data": ("data", "451 4.3.0 try again"),
    "body": ("data", "554 5.7.1 looks like spam"),
}


@each_version
@pytest.mark.parametrize("at", REFUSALS)
def test_08_a_refusal_is_told_with_stage_reply_cause_and_remedy(hurried_server, relay, version, at):
    stage, reply = REFUSALS[at]
    replies = {at: reply, "helo": reply} if at == "ehlo" else {at: reply}
    relay = relay(replies=replies)
    message = assert_failed(ask(hurried_server, settings_of(relay), version), f"stage {stage}", reply)
    diagnosed = hurried_server.post(
        "/api/v1/diagnoses",
        json={
            "profile": {
                "host": "localhost",
                "port": relay.port,
                "sender_account": "pki@example.org",
                "sender_name": "PKI mailer",
            },
            "recipient": "ops@example.org",
        },
    ).json()
    assert diagnosed["failed_stage"] == stage
    assert diagnosed["cause"]["sentence"] in message
    assert message.endswith(diagnosed["cause"]["remedy"])
    assert not relay.messages


@each_version
def test_08_a_refused_sign_in_is_told_with_the_relays_own_words(trusting_server, relay, version):
    relay = relay(starttls=True, auth=("PLAIN",), users={"mailer": "another"})
    assert_failed(ask(trusting_server, signed_in(relay), version), "stage auth", "535 5.7.8", "user and password")
    assert len([line for _, line in relay.commands if line.startswith("AUTH")]) == 1  # or accounts get locked


@each_version
def test_08_nobody_listening_is_told(hurried_server, version):
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        body = settings_of(ChaosRelay(port=closed.getsockname()[1]))
        assert_failed(ask(hurried_server, body, version), "stage connect", str(body["Port"]))


def test_08_a_name_that_does_not_exist_is_told(module_server):
    message = assert_failed(ask(module_server, settings_of(ChaosRelay(port=25), Host="mail.nowhere.test")))
    assert "stage resolve" in message
    assert "mail.nowhere.test" in message


def test_an_error_of_the_relay_on_several_lines_is_told_on_one(module_server, relay):
    relay = relay(replies={"rcpt": ("550-5.7.1 first", "550-5.7.1 second", "550 5.7.1 third")})
    message = assert_failed(ask(module_server, settings_of(relay)))
    assert "first" in message
    assert "third" in message
    assert "\n" not in message


@each_version
def test_what_the_sentence_repeats_is_not_told_again(module_server, relay, version):
    relay = relay(replies={"mail": "503 5.5.1 Bad sequence of commands"})
    message = assert_failed(ask(module_server, settings_of(relay), version))
    assert message.count("503 5.5.1 Bad sequence of commands") == 1
    assert "The relay said" not in message


# --- TLS and signing in --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_the_operators_own_authority_vouches_for_the_relay(trusting_server, relay, mechanism):
    relay = relay(starttls=True, auth=(mechanism,), users=USERS)
    assert ask(trusting_server, signed_in(relay)).status_code == 200
    assert (relay.messages[0].user, relay.messages[0].tls) == ("mailer", True)
    assert relay.sni == ["localhost"]


@pytest.mark.parametrize("certificate", ["expired", "wrong_name", "unknown_ca", "self_signed"])
def test_credentials_never_go_to_a_relay_whose_certificate_is_not_right(hurried_server, relay, certificate):
    relay = relay(starttls=True, auth=("PLAIN",), users=USERS, certificate=certificate)
    assert_failed(ask(hurried_server, signed_in(relay)), "stage tls")
    assert_failed(ask(hurried_server, signed_in(relay, UseSSL=False)), "stage tls")
    assert not relay.messages
    assert not [line for _, line in relay.commands if line.startswith(("AUTH", "MAIL"))]


def test_mail_without_sign_in_goes_on_whatever_the_certificate_says_unless_tls_was_asked_for(hurried_server, relay):
    relay = relay(starttls=True, certificate="expired")
    assert ask(hurried_server, settings_of(relay)).status_code == 200
    assert relay.messages[0].tls
    assert_failed(ask(hurried_server, settings_of(relay, UseSSL=True)), "stage tls")
    assert len(relay.messages) == 1


def test_a_relay_that_hides_starttls_gets_nothing_when_tls_was_asked_for(hurried_server, relay):
    relay = relay(auth=("PLAIN",), users=USERS)
    for body in (signed_in(relay), signed_in(relay, UseSSL=False), settings_of(relay, UseSSL=True)):
        assert_failed(ask(hurried_server, body))
    assert {line.split()[0] for _, line in relay.commands} <= {"EHLO", "HELO", "QUIT"}


@pytest.fixture
def oauth(token_server, relay) -> dict[str, Any]:
    """OAuth settings for a relay that takes the token which the token server issues to this client."""
    token_server.clients["client-1"] = "client-secret-1"
    token_server.answer = issues("the-access-token-1")
    users = {"pki@example.org": "the-access-token-1"}
    return settings_of(
        relay(starttls=True, auth=("XOAUTH2",), users=users),
        RelayAuthenticationType=3,
        UseSSL=True,
        ClientId={"SecretValue": "client-1"},
        ClientSecret={"SecretValue": "client-secret-1"},
        TokenEndpoint=token_server.url,
        Scope="mail.send",
        RequestHeaders=[{"Name": "X-Tenant", "Value": "abc"}],
    )


@pytest.mark.parametrize("number", [3, 4])
def test_a_token_is_fetched_and_signs_in(trusting_server, token_server, oauth, number):
    answer = ask(trusting_server, oauth | {"RelayAuthenticationType": number})
    assert answer.status_code == 200, answer.text
    (request,) = token_server.requests
    assert (request.client_id, request.form["scope"], request.headers["x-tenant"]) == ("client-1", "mail.send", "abc")


def test_08_a_token_endpoint_that_refuses_is_explained(trusting_server, token_server, oauth):
    token_server.answer = refused(400, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    assert "client-secret-1" not in assert_failed(ask(trusting_server, oauth), "stage token", "client secret")
    token_server.answer = refused(400, "invalid_scope", "The scope mail.send is none of ours.")
    message = assert_failed(ask(trusting_server, oauth), "stage token", "Scope")
    assert "The token endpoint said: invalid_scope: The scope mail.send is none of ours. " in message


# --- The body's settings, and nothing else -------------------------------------------------------------------


@each_version
def test_the_stored_profile_is_neither_used_nor_changed(sqlite_server, relay, version):
    stored, tested = relay(), relay()
    profile = settings_of(stored, SenderName="Somebody else")
    del profile["TestRecipient"]
    sqlite_server.put_v2(profile).raise_for_status()
    with nothing_changes(sqlite_server):
        assert ask(sqlite_server, settings_of(tested), version).status_code == 200
    assert (stored.connections, tested.accepted) == (0, 1)
    assert parsed(tested.messages[0])["From"] == "PKI mailer <pki@example.org>"


@each_version
def test_a_stored_secret_is_never_used(trusting_server, relay, version):
    relay = relay(starttls=True, auth=("PLAIN",), users=USERS)
    profile = signed_in(relay)
    del profile["TestRecipient"]
    trusting_server.put_v2(profile).raise_for_status()
    for nothing in (None, "", {}, {"SecretValue": None}, {"SecretValue": ""}):
        body = signed_in(relay, RelayPassword=nothing)
        message = complaint(ask(trusting_server, body, version), 400)
        assert "RelayPassword" in message
    without = signed_in(relay)
    del without["RelayPassword"]
    assert complaint(ask(trusting_server, without, version), 400).startswith("RelayPassword is required.")
    assert relay.connections == 0
    assert_failed(ask(trusting_server, signed_in(relay, RelayPassword={"SecretValue": "wrong"}), version))
    (credentials,) = [line.split()[2] for _, line in relay.commands if line.startswith("AUTH PLAIN")]
    assert base64.b64decode(credentials) == b"\0mailer\0wrong"


BROKEN = [
    {"Host": None},
    {"Host": "local host"},
    {"Host": "localhost\r\nMAIL FROM:<x@example.org>"},
    {"Host": "http://localhost"},
    {"Port": 0},
    {"Port": 65536},
    {"Port": "many"},
    {"RelayAuthenticationType": 1},
    {"RelayAuthenticationType": 2},
    {"RelayAuthenticationType": 3},
    {"RelayAuthenticationType": None},
    {"RelayAuthenticationType": 2, "RelayUsername": {"SecretValue": "x"}, "RelayPassword": {"Provider": 7}},
    {"RelayAuthenticationType": 2, "RelayUsername": {"SecretValue": "x"}, "RelayPassword": {"SecretValue": "••••••"}},
    {"SenderAccount": "no address"},
    {"SenderAccount": "a@example.org>\r\nRCPT TO:<b@example.org"},
    {"SenderAccount": ""},
    {"SenderName": ""},
    {"SenderName": "PKI\r\nBcc: everybody@example.org"},
    {"TestRecipient": None},
    {"TestRecipient": ""},
    {"TestRecipient": "ops"},
    {"TestRecipient": "a@example.org, b@example.org"},
    {"TestRecipient": "ops@example.org\r\nDATA"},
    {"TestRecipient": "Ops <ops@example.org>"},
    {"TestRecipient": ["ops@example.org"]},
    {"TestRecipient": "=?utf-8?q?ops@example.org"},
    {"TestRecipient": "o" * 65 + "@example.org"},
    {"TestRecipient": "ü" * 33 + "@example.org"},
    {"UseSSL": "perhaps"},
]


@each_version
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: json.dumps(broken)[:60])
def test_nothing_is_connected_before_the_settings_are_known_to_be_right(module_server, module_relay, version, broken):
    before = module_relay.connections
    answer = ask(module_server, settings_of(module_relay) | broken, version)
    message = complaint(answer, 400)
    assert answer.json()["ErrorCode"] != TEST_FAILED
    fields = {2: "RelayPassword", 3: "ClientSecret" if version is V2 else "version 2"}
    assert fields.get(broken.get("RelayAuthenticationType"), next(iter(broken))) in message
    assert module_relay.connections == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"Port": 1e400}', b"[" * 9999])
def test_nothing_is_connected_for_a_body_that_cannot_be_read(module_server, module_relay, content):
    before = module_relay.connections
    complaint(module_server.post(TEST, content=content, headers=V2 | {"content-type": "application/json"}))
    assert module_relay.connections == before


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.sampled_from(["localhost", "127.0.0.1", "::1", "ops@example.org", "ö@exämple.org", "=?x@example.org", "a\0b"]),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.sampled_from(["SecretValue", "Provider", "Parameters", "x"]), st.text(max_size=9) | st.none()),
)
_FIELDS = (
    *("Host", "RelayAuthenticationType", "SenderAccount", "SenderName", "TestRecipient", "UseSSL", "RelayUsername"),
    *("RelayPassword", "ClientId", "ClientSecret", "TokenEndpoint", "Scope", "Audience", "RequestHeaders", "Id"),
)


@each_version
@settings(max_examples=150)
@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _ODD, min_size=1, max_size=3))
def test_nothing_that_is_sent_makes_a_500_or_a_connection_before_validation(
    module_server, module_relay, version, changes
):
    connections, accepted = module_relay.connections, module_relay.accepted
    content = json.dumps(settings_of(module_relay) | changes).encode()
    answer = module_server.post(TEST, content=content, headers=version | {"content-type": "application/json"})
    if answer.status_code == 200:
        assert module_relay.accepted == accepted + 1
        return
    complaint(answer, 400)
    assert module_relay.accepted == accepted
    if answer.json()["ErrorCode"] != TEST_FAILED:
        assert module_relay.connections == connections


# --- Time ----------------------------------------------------------------------------------------------------

TROUBLES = {
    "silent": {"silent": True},
    **{
        f"stalls at {stage}": {"stall": stage}
        for stage in ("greeting", "ehlo", "mail", "rcpt", "data", "body", "quit", "rset")
    },
    "stalls at starttls": {"stall": "starttls", "starttls": True},
    "stalls in the handshake": {"stall": "tls", "starttls": True},
    "drips": {"drip": 0.2},
    "drips a long greeting": {"drip": 0.05, "replies": {"greeting": ("220-" + "x" * 200, "220 y")}},
    "closes after the dot": {"close": "after-dot"},
    "closes in the middle of a reply": {"close": "mid:ehlo"},
}


@pytest.mark.parametrize("name", TROUBLES)
def test_an_answer_comes_whatever_the_relay_does(hurried_server, relay, name):
    relay = relay(**TROUBLES[name])
    answer = ask(hurried_server, settings_of(relay))
    if name in {"stalls at quit", "stalls at rset"}:  # by then, the message has been accepted
        assert answer.status_code == 200
        assert relay.accepted == 1
    else:
        assert_failed(answer, "stage ")


def test_without_pipelining_too_an_answer_comes_at_every_stage(hurried_server, relay):
    for stage in ("mail", "rcpt", "data", "body"):
        assert_failed(ask(hurried_server, settings_of(relay(extensions=(), stall=stage))), "stage ")


@pytest.mark.long
def test_the_answer_comes_within_30_seconds_as_keyrelay_is_shipped(trusting_server, relay):
    """Side by side, because each of them takes its time."""
    troubles = [{"silent": True}, {"drip": 1.0}, {"starttls": True, "stall": "tls"}, {"delay": 4.0}, {"stall": "body"}]

    def measured(rules: dict[str, Any]) -> tuple[float, httpx2.Response]:
        body = settings_of(relay(**rules))
        began = time.monotonic()
        answer = ask(trusting_server, body, timeout=90)
        return time.monotonic() - began, answer

    with ThreadPoolExecutor(len(troubles)) as threads:
        for rules, (seconds, answer) in zip(troubles, threads.map(measured, troubles), strict=True):
            assert seconds < 30, rules
            assert_failed(answer, "stage ")


# --- How many, how often, and who ----------------------------------------------------------------------------


def assert_too_many(answer: httpx2.Response) -> None:
    complaint(answer, 429)
    assert answer.json()["ErrorCode"] == TOO_MANY_TESTS
    assert 1 <= int(answer.headers["retry-after"]) <= 63


@pytest.mark.parametrize("limit", [1, 2])
def test_so_many_tests_run_at_once_and_no_more(sqlite_settings, start, relay, eventually, limit):
    server = start(replace(sqlite_settings, tests_at_once=limit))
    stalled, other = relay(stall="mail"), relay()
    with ThreadPoolExecutor(limit) as threads:
        running = [threads.submit(ask, server, settings_of(stalled)) for _ in range(limit)]
        eventually(lambda: len([line for _, line in stalled.commands if line.startswith("MAIL")]) == limit)
        assert_too_many(ask(server, settings_of(other)))
        assert_too_many(ask(server, settings_of(other), V1))
        refused = server.post("/api/v1/diagnoses", json={"profile": own(other)})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_tests")
        assert int(refused.headers["retry-after"]) >= 1
        assert other.connections == 0
        relay.stop(stalled)
        for test in running:
            assert_failed(test.result(30), "stage sender")
    assert ask(server, settings_of(other)).status_code == 200


def own(relay: ChaosRelay, **more: object) -> dict[str, object]:
    """The settings as our own API spells them."""
    plain = {"host": "localhost", "port": relay.port, "sender_account": "pki@example.org", "sender_name": "PKI mailer"}
    return plain | more


def test_each_user_starts_so_many_a_minute_and_no_more(sqlite_settings, start, relay):
    server = start(replace(sqlite_settings, tests_per_minute=3))
    server.add_user("other", "long enough 1", "/system_settings/modify/")
    relay = relay()
    for _ in range(5):  # what is wrong in itself is no test
        complaint(ask(server, settings_of(relay, Port=0)), 400)
    assert ask(server, settings_of(relay)).status_code == 200
    assert ask(server, settings_of(relay), V1).status_code == 200
    assert server.post("/api/v1/diagnoses", json={"profile": own(relay)}).status_code == 200
    assert_too_many(ask(server, settings_of(relay)))
    assert server.post("/api/v1/diagnoses", json={"profile": own(relay)}).status_code == 429
    assert relay.connections == 3
    assert ask(server, settings_of(relay), auth=("other", "long enough 1")).status_code == 200


@each_version
def test_who_may_not_change_the_settings_may_not_test_either(sqlite_server, relay, version):
    relay = relay()
    sqlite_server.add_user("reader", "long enough 1", "/system_settings/read/")
    refused = ask(sqlite_server, settings_of(relay), version, auth=("reader", "long enough 1"))
    assert (refused.status_code, refused.json()["ErrorCode"]) == (403, "0xA0140003")
    assert ask(sqlite_server, settings_of(relay), version, auth=("reader", "wrong")).status_code == 401
    assert relay.connections == 0


def test_a_caller_who_goes_away_does_not_keep_a_turn_or_a_connection(sqlite_settings, start, relay, eventually):
    server = start(replace(sqlite_settings, tests_at_once=1))
    stalled, other = relay(stall="mail"), relay()
    body = json.dumps(settings_of(stalled)).encode()
    basic = base64.b64encode(":".join(server.auth).encode()).decode()
    head = f"POST {TEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\nContent-Length: {len(body)}\r\n\r\n"
    url = httpx2.URL(server.url)
    with closing(socket.create_connection((url.host, url.port), timeout=10)) as caller:
        caller.sendall(head.encode() + body)
        eventually(lambda: any(line.startswith("MAIL") for _, line in stalled.commands))
        assert_too_many(ask(server, settings_of(other)))
    eventually(lambda: stalled.open == 0)
    eventually(lambda: ask(server, settings_of(other)).status_code == 200)


def test_other_requests_are_answered_while_a_test_waits(module_server, relay):
    stalled = relay(stall="greeting")
    waiting = threading.Thread(target=lambda: ask(module_server, settings_of(stalled)), daemon=True)
    waiting.start()
    for _ in range(5):
        assert module_server.get(SMTP).status_code == 200
    assert waiting.is_alive()
    relay.stop(stalled)
    waiting.join(30)
    assert not waiting.is_alive()
