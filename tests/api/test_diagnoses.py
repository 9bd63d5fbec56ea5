"""``POST /api/v1/diagnoses``: the explained test, as one document and as events while it runs."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary import leaks, new_canary
from complaints import complaint, nothing_changes
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.relay.model import STAGES
from live import SMTP, V1, V2, LiveServer
from token_server import issues, refused

DIAGNOSES, PROFILE = "/api/v1/diagnoses", "/api/v1/profile"
EVENTS = {"accept": "text/event-stream"}
RECIPIENT = "ops@example.org"
PASSWORD = "Xk4-vQz7-Jw2"  # no piece of it is a word that a relay might say
CLIENT_SECRET = "Bq8-mRt3-Yd6"
TOKEN = "Hn5-cLp9-Uf1"


def plain(relay: ChaosRelay, **more: object) -> dict[str, Any]:
    """The settings of a relay that asks for no sign-in."""
    settings = {"host": "localhost", "port": relay.port, "sender_account": "pki@example.org", "sender_name": "PKI"}
    return settings | more


def basic(relay: ChaosRelay, **more: object) -> dict[str, Any]:
    names = {"relay_username": {"secret_value": "mailer"}, "relay_password": {"secret_value": PASSWORD}}
    return plain(relay, use_ssl=True, authentication="basic") | names | more


def diagnose(server: LiveServer, **body: object) -> dict[str, Any]:
    answer = server.post(DIAGNOSES, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stage_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [stage for stage in report["stages"] if stage["stage"] == name]
    return found


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["verdict"] for stage in report["stages"]}


def verbs(relay: ChaosRelay) -> list[str]:
    return [line.split(maxsplit=1)[0].upper() for _, line in relay.commands]


def assert_problem(answer: httpx2.Response, status: int, code: str, *fields: str) -> None:
    complaint(answer, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert [error["field"] for error in answer.json().get("errors", [])] == list(fields)


@pytest.fixture
def basic_relay(relay) -> ChaosRelay:
    return relay(starttls=True, auth=("PLAIN",), users={"mailer": PASSWORD})


@pytest.fixture
def oauth_relay(relay) -> ChaosRelay:
    return relay(starttls=True, auth=("XOAUTH2",), users={"pki@example.org": TOKEN})


@pytest.fixture
def oauth(token_server, oauth_relay) -> dict[str, Any]:
    """A profile whose relay takes the token that the token server issues to this client."""
    token_server.clients["client-1"] = CLIENT_SECRET
    token_server.answer = issues(TOKEN)
    return plain(
        oauth_relay,
        use_ssl=True,
        authentication="oauth_client_credentials",
        client_id={"secret_value": "client-1"},
        client_secret={"secret_value": CLIENT_SECRET},
        token_endpoint=token_server.url,
        scope="mail.send",
        audience="relay",
        request_headers=[{"name": "X-Tenant", "value": "abc"}],
    )


# --- What is tested ------------------------------------------------------------------------------------------


@pytest.fixture
def stored_server(fresh_settings, ca_bundle, start) -> LiveServer:
    """A server that trusts the relays, on SQLite and on PostgreSQL: stored secrets come from there."""
    return start(replace(fresh_settings, ca_bundle=ca_bundle))


def test_the_stored_profile_is_tested_with_its_stored_password(stored_server, basic_relay):
    stored_server.put(PROFILE, json=basic(basic_relay)).raise_for_status()
    report = diagnose(stored_server, recipient=RECIPIENT)
    assert (report["verdict"], report["mode"], report["recipient"]) == ("ok", "message", RECIPIENT)
    (received,) = basic_relay.messages
    assert (received.user, received.tls, received.recipients) == ("mailer", True, (RECIPIENT,))
    assert report["message_id"] in received.content.decode()


def test_the_stored_profile_is_tested_with_its_stored_client_secret(stored_server, token_server, oauth, oauth_relay):
    stored_server.put(PROFILE, json=oauth).raise_for_status()
    report = diagnose(stored_server, recipient=RECIPIENT)
    assert report["verdict"] == "ok", report["cause"]
    assert oauth_relay.messages[0].user == "pki@example.org"
    (request,) = token_server.requests
    assert (request.client_id, request.form["scope"], request.form["audience"]) == ("client-1", "mail.send", "relay")
    learned = stage_of(report, "token")["learned"]
    assert (learned["status"], learned["token_type"], learned["encrypted"]) == (200, "Bearer", True)
    assert TOKEN not in json.dumps(report)


def test_settings_that_are_given_are_merged_over_the_stored_ones_and_nothing_is_saved(stored_server, basic_relay):
    stored_server.put(PROFILE, json=basic(basic_relay)).raise_for_status()
    with nothing_changes(stored_server):
        changes = {"sender_name": "Another name", "sender_account": "other@example.org"}
        report = diagnose(stored_server, profile=changes, recipient=RECIPIENT)
    assert report["verdict"] == "ok", report["cause"]
    (received,) = basic_relay.messages
    assert (received.user, received.sender) == ("mailer", "other@example.org")
    assert b"From: Another name <other@example.org>" in received.content


def test_another_destination_is_tested_with_a_secret_given_again(trusting_server, basic_relay, relay):
    other = relay(starttls=True, auth=("PLAIN",), users={"mailer": "Zr1-wKx8-Gv5"})
    trusting_server.put(PROFILE, json=basic(basic_relay)).raise_for_status()
    changes = {"port": other.port, "relay_password": {"secret_value": "Zr1-wKx8-Gv5"}}
    assert diagnose(trusting_server, profile=changes, mode="connect")["verdict"] == "ok"
    assert (basic_relay.connections, other.connections) == (0, 1)


ELSEWHERE: dict[str, dict[str, Any]] = {
    "host": {"host": "127.0.0.1"},
    "port": {},  # filled in below: another relay's
    "use_ssl": {"use_ssl": False},
    "name": {"relay_username": {"secret_value": "somebody"}},
}


@pytest.mark.parametrize("change", ELSEWHERE)
@pytest.mark.parametrize("mode", ["connect", "message"])
def test_a_stored_password_is_never_sent_to_another_destination(trusting_server, basic_relay, relay, change, mode):
    lure = relay(starttls=True, auth=("PLAIN", "LOGIN"))
    trusting_server.put(PROFILE, json=basic(basic_relay)).raise_for_status()
    changes = ELSEWHERE[change] or {"port": lure.port}
    answer = trusting_server.post(DIAGNOSES, json={"profile": changes, "mode": mode, "recipient": RECIPIENT})
    assert_problem(answer, 400, "secret_required", "relay_password")
    assert (basic_relay.connections, lure.connections) == (0, 0)


@pytest.mark.parametrize("change", ["host", "port", "use_ssl", "client_id", "token_endpoint", "scope", "audience"])
def test_a_stored_client_secret_is_never_sent_to_another_destination(
    trusting_server, token_server, oauth, relay, change
):
    lure = relay(starttls=True, auth=("XOAUTH2",))
    trusting_server.put(PROFILE, json=oauth).raise_for_status()
    changed = {
        "host": "127.0.0.1",
        "port": lure.port,
        "use_ssl": False,
        "client_id": {"secret_value": "client-2"},
        "token_endpoint": token_server.url.replace("tenant", "elsewhere"),
        "scope": "everything",
        "audience": "everybody",
    }
    answer = trusting_server.post(DIAGNOSES, json={"profile": {change: changed[change]}, "recipient": RECIPIENT})
    assert_problem(answer, 400, "secret_required", "client_secret")
    assert (token_server.requests, relay.connections) == ([], 0)


def test_without_a_profile_there_is_nothing_to_test_unless_one_is_given(sqlite_server, relay):
    relay = relay()
    for body in ({}, {"recipient": RECIPIENT}, {"profile": None}, {"mode": "connect"}):
        assert_problem(sqlite_server.post(DIAGNOSES, json=body), 409, "no_profile")
    answer = sqlite_server.post(DIAGNOSES, json={"profile": {}})
    assert_problem(answer, 400, "bad_input", "host", "port", "sender_account", "sender_name")
    assert diagnose(sqlite_server, profile=plain(relay))["verdict"] == "ok"


# --- How far it goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/x-www-form-urlencoded"}], ids=str)
def test_an_empty_body_tests_the_stored_profile_as_an_empty_object_does(module_server, relay, headers):
    relay = relay()
    module_server.put(PROFILE, json=plain(relay)).raise_for_status()
    report = module_server.post(DIAGNOSES, content=b"", headers=headers)
    assert report.status_code == 200, report.text
    assert verdicts(report.json()) == verdicts(diagnose(module_server))
    assert (report.json()["verdict"], report.json()["mode"], relay.connections) == ("ok", "connect", 2)


def test_without_a_recipient_it_ends_when_signed_in(trusting_server, basic_relay):
    report = diagnose(trusting_server, profile=basic(basic_relay))
    assert (report["mode"], report["recipient"], report["message_id"]) == ("connect", None, None)
    assert {stage for stage, verdict in verdicts(report).items() if verdict == "skipped"} == {
        *("vault", "token", "sender", "recipient", "data")
    }
    assert stage_of(report, "data")["learned"]["why"] == "Not part of this test."
    assert "AUTH" in verbs(basic_relay)
    assert not {"MAIL", "RCPT", "DATA"} & set(verbs(basic_relay))
    assert verbs(basic_relay)[-1] == "QUIT"


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_an_envelope_is_taken_back_and_nobody_is_mailed(module_server, relay, extensions):
    relay = relay(extensions=extensions)
    report = diagnose(module_server, profile=plain(relay), mode="envelope", recipient=RECIPIENT)
    assert (report["verdict"], report["message_id"]) == ("ok", None)
    assert [verdicts(report)[stage] for stage in ("sender", "recipient", "data")] == ["ok", "ok", "skipped"]
    assert verbs(relay)[-4:] == ["MAIL", "RCPT", "RSET", "QUIT"]
    assert not relay.messages
    assert not relay.mistakes


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_a_message_is_really_sent(module_server, relay, extensions):
    relay = relay(extensions=extensions)
    report = diagnose(module_server, profile=plain(relay), mode="message", recipient=RECIPIENT)
    assert report["verdict"] == "ok"
    assert relay.accepted == 1
    assert report["round_trips"] == {0: 4, 1: 2, 2: 1}[len(extensions)]
    assert not relay.mistakes


def test_a_refused_recipient_is_found_without_a_message(module_server, relay):
    relay = relay(replies={"rcpt": "550 5.1.1 nobody of that name"})
    report = diagnose(module_server, profile=plain(relay), mode="envelope", recipient=RECIPIENT)
    assert (report["verdict"], report["failed_stage"]) == ("failed", "recipient")
    assert "RSET" in verbs(relay)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"mode": "everything"}, ["mode"]),
        ({"mode": ""}, ["mode"]),
        ({"mode": "message"}, ["recipient"]),
        ({"mode": "envelope", "recipient": None}, ["recipient"]),
        ({"recipient": ""}, ["recipient"]),
        ({"recipient": "nobody"}, ["recipient"]),
        ({"mode": "connect", "recipient": "no address"}, ["recipient"]),
        ({"recipient": "a@example.org\r\nDATA"}, ["recipient"]),
        ({"recipient": "=?utf-8?q?a@example.org"}, ["recipient"]),
        ({"recipient": 7, "mode": 7}, ["recipient", "mode"]),
        ({"Recipient": RECIPIENT}, ["Recipient"]),
        ({"profile": []}, ["profile"]),
        ({"profile": "stored"}, ["profile"]),
        ({"profile": {"port": 0, "Host": "x"}, "mode": "x"}, ["mode", "Host", "port"]),
        ({"profile": {"scope": "x"}}, ["scope"]),
        ({"profile": {"host": None}}, ["host"]),
    ],
    ids=str,
)
def test_nothing_is_connected_for_an_order_that_cannot_be_carried_out(sqlite_server, relay, body, fields):
    relay = relay()
    sqlite_server.put(PROFILE, json=plain(relay)).raise_for_status()
    answer = sqlite_server.post(DIAGNOSES, json=body)
    complaint(answer, 400)
    assert {error["field"] for error in answer.json()["errors"]} == set(fields)
    assert relay.connections == 0


# --- The report ----------------------------------------------------------------------------------------------

REPORT_KEYS = [
    *("verdict", "mode", "recipient", "failed_stage", "cause", "message_id", "round_trips", "stages", "advice")
]


def test_the_report_has_every_stage_once_with_what_was_learned_and_said(trusting_server, basic_relay):
    report = diagnose(trusting_server, profile=basic(basic_relay), recipient=RECIPIENT)
    assert list(report) == REPORT_KEYS
    assert sorted(verdicts(report)) == sorted(STAGES)
    assert len(report["stages"]) == len(STAGES)
    for stage in report["stages"]:
        assert list(stage) == ["stage", "verdict", "milliseconds", "learned", "dialogue", "reply", "cause"]
        assert stage["verdict"] == ("skipped" if stage["stage"] in {"vault", "token"} else "ok")
        assert stage["milliseconds"] >= 0
        assert stage["cause"] is None
        assert all(line[:2] in {"> ", "< "} for line in stage["dialogue"])
    assert stage_of(report, "resolve")["learned"]["addresses"]
    assert stage_of(report, "connect")["learned"]["address"] in {"127.0.0.1", "::1"}
    tls = stage_of(report, "tls")["learned"]
    assert (tls["encrypted"], tls["verified"]) == (True, True)
    assert tls["certificates"][0]["days_left"] > 300
    assert stage_of(report, "auth")["learned"]["mechanism"] == "PLAIN"
    assert any(line.startswith("> RCPT TO:") for line in stage_of(report, "recipient")["dialogue"])
    assert any(line.startswith("< 250") for line in stage_of(report, "data")["dialogue"])
    shown = json.dumps(report)
    for secret in (PASSWORD, base64.b64encode(f"\0mailer\0{PASSWORD}".encode()).decode()):
        assert secret not in shown
    assert "Somebody is testing" not in shown  # nor the message


def test_a_failure_is_explained_where_it_happened_and_what_was_not_reached_is_named(hurried_server, relay):
    relay = relay(replies={"mail": "550 5.7.60 you may not send as this address"})
    report = diagnose(hurried_server, profile=plain(relay), recipient=RECIPIENT)
    assert (report["verdict"], report["failed_stage"]) == ("failed", "sender")
    failed = stage_of(report, "sender")
    assert failed["cause"] == report["cause"]
    assert list(report["cause"]) == ["id", "sentence", "remedy", "retry", "more"]
    assert failed["dialogue"][-1] == "< 550 5.7.60 you may not send as this address"
    assert failed["reply"] == {"code": 550, "enhanced": "5.7.60", "lines": ["5.7.60 you may not send as this address"]}
    assert {stage["stage"] for stage in report["stages"] if stage["reply"] is not None} == {"sender"}
    assert [verdicts(report)[stage] for stage in ("hello", "recipient", "data")] == ["ok", "skipped", "skipped"]
    assert stage_of(report, "data")["learned"]["why"] == "An earlier stage failed."


def test_a_certificate_that_is_refused_is_shown_all_the_same(hurried_server, relay):
    relay = relay(starttls=True, certificate="expired")
    report = diagnose(hurried_server, profile=plain(relay, use_ssl=True))
    assert report["failed_stage"] == "tls"
    assert "expired" in report["cause"]["id"]
    seen = stage_of(report, "tls")["learned"]["seen_without_verification"]
    assert seen["certificates"][0]["days_left"] < 0


@pytest.mark.parametrize(
    ("password", "right", "wrong"), [("winter-sunrise", "winter", "summer"), ("moon7", "moon7", "sun07")]
)
def test_what_a_caller_sent_itself_tells_nothing_about_the_secret(trusting_server, relay, password, right, wrong):
    """Else, words could be tried until one is blackened, and then be made longer letter by letter."""
    refusals = {f"{word}@example.org": f"550 5.1.1 <{word}@example.org> is nobody" for word in (right, wrong)}
    relay = relay(starttls=True, auth=("PLAIN",), users={"mailer": password}, rcpt_replies=refusals)
    profile = basic(relay, relay_password={"secret_value": password})
    trusting_server.put(PROFILE, json=profile).raise_for_status()

    def told(word: str) -> str:
        report = diagnose(trusting_server, recipient=f"{word}@example.org", mode="envelope")
        assert report["failed_stage"] == "recipient"
        return json.dumps([stage_of(report, "recipient")["dialogue"], report["cause"]]).replace(word, "WORD")

    assert told(right) == told(wrong)


def test_a_sender_who_is_also_the_user_name_can_be_read_in_the_dialogue(trusting_server, relay):
    relay = relay(starttls=True, auth=("PLAIN",), users={"pki@example.org": PASSWORD})
    profile = basic(relay, relay_username={"secret_value": "pki@example.org"})
    report = diagnose(trusting_server, profile=profile, recipient=RECIPIENT)
    assert any("<pki@example.org>" in line for line in stage_of(report, "sender")["dialogue"])


# --- Events --------------------------------------------------------------------------------------------------


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each event's name and data, as soon as it is complete."""
    name, data = "", ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif data:
            yield name, json.loads(data)
            name, data = "", ""
    assert not name + data, "the last event is not complete"


def streamed(server: LiveServer, **body: object) -> list[tuple[str, dict[str, Any]]]:
    with server.client.stream("POST", DIAGNOSES, json=body, headers=EVENTS) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        return list(events_of(answer.iter_lines()))


@pytest.mark.parametrize("rules", [{}, {"replies": {"mail": "550 no"}}, {"close": "ehlo"}], ids=str)
def test_events_tell_every_stage_and_at_last_the_whole(hurried_server, relay, rules):
    body = {"profile": plain(relay(**rules)), "recipient": RECIPIENT}
    *stages, (last, report) = streamed(hurried_server, **body)
    assert {name for name, _ in stages} == {"stage"}
    assert last == "report"
    assert [stage for _, stage in stages] == report["stages"]
    assert sorted(verdicts(report)) == sorted(STAGES)
    whole = diagnose(hurried_server, **body)
    assert verdicts(whole) == verdicts(report)
    assert whole["cause"] == report["cause"]


def test_events_come_while_the_test_is_under_way(trusting_server, relay):
    stalled = relay(stall="mail")
    body = {"profile": plain(stalled), "recipient": RECIPIENT}
    with trusting_server.client.stream("POST", DIAGNOSES, json=body, headers=EVENTS) as answer:
        events = events_of(answer.iter_lines())
        early = [next(events) for _ in range(8)]
        assert [stage["stage"] for _, stage in early] == [*STAGES[:8]]
        assert stalled.open == 1
        relay.stop(stalled)  # and only now the rest can be known
        *late, (last, report) = list(events)
    assert last == "report"
    assert report["failed_stage"] == "sender"
    assert "time" not in report["cause"]["id"]  # it did not wait until its patience was at an end
    assert {stage["stage"] for _, stage in late} == {"sender", "recipient", "data"}


def test_what_is_wrong_before_the_first_event_is_an_ordinary_problem(sqlite_settings, start, relay):
    server = start(replace(sqlite_settings, tests_per_minute=1))
    relay = relay()
    assert_problem(server.post(DIAGNOSES, json={}, headers=EVENTS), 409, "no_profile")
    assert_problem(server.post(DIAGNOSES, json={"mode": "x"}, headers=EVENTS), 400, "bad_input", "mode")
    assert_problem(server.post(DIAGNOSES, content=b"{", headers=EVENTS), 400, "malformed_body")
    assert_problem(server.post(DIAGNOSES, json={}, headers=EVENTS, auth=("admin", "no")), 401, "sign_in_required")
    assert streamed(server, profile=plain(relay))[-1][1]["verdict"] == "ok"
    refused = server.post(DIAGNOSES, json={"profile": plain(relay)}, headers=EVENTS)
    assert_problem(refused, 429, "too_many_tests")
    assert 1 <= int(refused.headers["retry-after"]) <= 63
    assert relay.connections == 1


def diagnoses_under_way(server: LiveServer) -> int:
    async def count(_: object) -> int:
        return len([task for task in asyncio.all_tasks() if task.get_name().startswith("keyrelay-diagnosis")])

    return server.run(count)


@pytest.fixture
def one_at_once(sqlite_settings, start) -> LiveServer:
    return start(replace(sqlite_settings, tests_at_once=1))


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["document", "events"])
@pytest.mark.parametrize("stall", ["greeting", "mail"])
def test_a_caller_who_goes_away_ends_the_test(one_at_once, relay, eventually, headers, stall):
    server = one_at_once
    stalled, other = relay(stall=stall), relay()
    body = {"profile": plain(stalled), "recipient": RECIPIENT}
    timeout = httpx2.Timeout(10, read=1.0)
    with (
        httpx2.Client(base_url=server.url, auth=server.auth, timeout=timeout) as client,
        pytest.raises(httpx2.ReadTimeout),
        client.stream("POST", DIAGNOSES, json=body, headers=headers) as answer,
    ):
        list(answer.iter_lines())
    assert stalled.connections == 1
    eventually(lambda: stalled.open == 0)
    eventually(lambda: diagnoses_under_way(server) == 0)
    assert diagnose(server, profile=plain(other))["verdict"] == "ok"


# --- Whatever is sent ----------------------------------------------------------------------------------------

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.sampled_from(["localhost", "connect", "envelope", "message", RECIPIENT, "ö@exämple.org", "=?x@example.org"]),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.sampled_from(["secret_value", "provider", "stored"]), st.text(max_size=9) | st.none()),
)
_FIELDS = (
    *("host", "use_ssl", "sender_account", "sender_name", "authentication", "relay_username", "relay_password"),
    *("client_id", "client_secret", "token_endpoint", "scope", "audience", "request_headers", "x"),
)


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["document", "events"])
@settings(max_examples=150)
@given(
    order=st.dictionaries(st.sampled_from(["mode", "recipient", "x"]), _ODD, max_size=2),
    changes=st.dictionaries(st.sampled_from(_FIELDS), _ODD, max_size=2),
)
def test_nothing_that_is_sent_makes_a_500_or_a_connection_before_validation(
    module_server, module_relay, headers, order, changes
):
    connections = module_relay.connections
    content = json.dumps({"profile": plain(module_relay) | changes} | order).encode()
    answer = module_server.post(DIAGNOSES, content=content, headers=headers | {"content-type": "application/json"})
    if answer.status_code != 200:
        complaint(answer, 400)
        fields = {error["field"].partition(".")[0] for error in answer.json().get("errors", [])}
        assert fields <= {*_FIELDS, "port", "mode", "recipient", "profile"}, "a name that no caller knows"
        assert module_relay.connections == connections
    elif headers:
        assert list(events_of(iter(answer.text.split("\n"))))[-1][0] == "report"
    else:
        assert answer.json()["verdict"] in {"ok", "failed"}


# --- Secrets -------------------------------------------------------------------------------------------------


def everything_told(server: LiveServer, body: dict[str, Any]) -> bytes:
    """The answers to a diagnosis as a document and as events."""
    answers = [server.post(DIAGNOSES, json=body, headers=headers) for headers in ({}, EVENTS)]
    for answer in answers:
        assert answer.status_code == 200
    return b"\n".join(answer.content for answer in answers)


def v2(profile: dict[str, Any], number: int) -> dict[str, Any]:
    """The same settings as the compatible API spells them."""

    def secret(field: str) -> dict[str, str] | None:
        return {"SecretValue": profile[field]["secret_value"]} if field in profile else None

    return {
        "Host": profile["host"],
        "Port": profile["port"],
        "UseSSL": True,
        "RelayAuthenticationType": number,
        "SenderAccount": profile["sender_account"],
        "SenderName": profile["sender_name"],
        "TestRecipient": RECIPIENT,
        "RelayUsername": secret("relay_username"),
        "RelayPassword": secret("relay_password"),
        "ClientId": secret("client_id"),
        "ClientSecret": secret("client_secret"),
        "TokenEndpoint": profile.get("token_endpoint"),
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("outcome", ["refused and repeated", "repeated later", "accepted"])
def test_no_answer_event_or_log_holds_a_piece_of_a_password(hurried_server, relay, logged, mechanism, outcome):
    password = new_canary()
    coded = base64.b64encode(f"\0mailer\0{password}".encode()).decode()
    repeats = f"550 5.7.1 {password} {password.lower()} {coded} {password[3:15]}"
    rules = {
        "refused and repeated": {"users": {"mailer": "another"}, "echo_credentials": True},
        "repeated later": {"users": {"mailer": password}, "replies": {"rcpt": (repeats, repeats)}},
        "accepted": {"users": {"mailer": password}},
    }[outcome]
    relay = relay(starttls=True, auth=(mechanism,), **rules)
    profile = basic(relay, relay_password={"secret_value": password})
    hurried_server.put(PROFILE, json=profile).raise_for_status()
    told = everything_told(hurried_server, {"recipient": RECIPIENT})
    told += everything_told(hurried_server, {"profile": profile, "recipient": RECIPIENT})
    for version, body in ((V2, v2(profile, 2)), (V1, v2(profile, 2))):
        answer = hurried_server.post(SMTP + "/Test", json=body, headers=version)
        assert answer.status_code == (200 if outcome == "accepted" else 400)
        told += answer.content
    assert b'"verdict": "ok"' in told
    spoken = {coded, base64.b64encode(password.encode()).decode()}
    assert any(line.split()[-1] in spoken for _, line in relay.commands)  # it was used
    planted = {"password": password, "password in small letters": password.lower()}
    assert leaks(planted, told) == []
    assert leaks(planted, logged.getvalue().encode()) == []


@pytest.mark.parametrize("outcome", ["refused and repeated", "endpoint repeats", "no token", "accepted"])
def test_no_answer_event_or_log_holds_a_piece_of_a_client_secret_or_token(
    hurried_server, relay, token_server, logged, outcome
):
    planted = {"client secret": new_canary(), "token": new_canary()}
    token_server.answer = {
        "endpoint repeats": refused(400, "invalid_client", f"AADSTS7000215: {planted['client secret']} is wrong"),
        "no token": issues(planted["token"], token_type=planted["client secret"]),
    }.get(outcome, issues(planted["token"]))
    accepts = outcome == "accepted"
    users = {"pki@example.org": planted["token"]}
    relay = relay(starttls=True, auth=("XOAUTH2",), users=users, echo_credentials=not accepts)  # echoing is refusing
    profile = plain(
        relay,
        use_ssl=True,
        authentication="oauth_client_credentials",
        client_id={"secret_value": "client-1"},
        client_secret={"secret_value": planted["client secret"]},
        token_endpoint=token_server.url,
    )
    hurried_server.put(PROFILE, json=profile).raise_for_status()
    told = everything_told(hurried_server, {"recipient": RECIPIENT})
    told += hurried_server.post(SMTP + "/Test", json=v2(profile, 3), headers=V2).content
    assert token_server.requests[0].form["client_secret"] == planted["client secret"]
    assert (relay.accepted > 0) == accepts
    assert leaks(planted, told) == []
    assert leaks(planted, logged.getvalue().encode()) == []
