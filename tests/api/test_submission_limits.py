"""What cannot be sent is refused with one clear answer that names every problem, and nothing of it is queued."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyrelay.api import conventions, entrance
from live import LiveServer
from submissions import JSON, MESSAGE, MESSAGES, RFC822, hand_in, idle_desk, number_kept, refused, submission, taken_in
from wire import AUTHORIZATION, connection, head, read_answer

MEGABYTE = 1024 * 1024
LINE = b"x" * 98 + b"\r\n"


@pytest.fixture(scope="module")
def desk(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    """A server with small limits that sends nothing; all tests of the module share it."""
    limits = {"message_megabytes": 1, "message_recipients": 10, "message_attachments": 3}
    with idle_desk(request, tmp_path_factory, sqlite_template, **limits) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_queued(request, desk):
    before = number_kept(desk)
    yield
    assert "takes_in" in request.fixturenames or number_kept(desk) == before


@pytest.fixture
def takes_in() -> None:
    """This test has messages taken in."""


def file(content: bytes = b"x", **more: Any) -> dict[str, Any]:
    return {"name": "a.bin", "content": base64.b64encode(content).decode()} | more


def said_of(server: LiveServer, body: Any, *fields: str, **more: Any) -> str:
    return refused(hand_in(server, body, **more), 400, "bad_input", *fields)


# --- Size ----------------------------------------------------------------------------------------------------

LARGE = {
    "rfc822": MESSAGE + LINE * (MEGABYTE // 100),
    "LF that become CRLF": b"To: ops@example.org\n\n" + b"\n" * (MEGABYTE - 30),
    "text": JSON | {"text": "x" * MEGABYTE},
    "a file": JSON | {"attachments": [file(b"x" * 800_000)]},
    "files": JSON | {"attachments": [file(b"x" * 300_000)] * 3},
    "file and texts": JSON | {"text": "x" * 400_000, "html": "x" * 400_000, "attachments": [file(b"x" * 200_000)]},
    "text that is encoded": JSON | {"text": "ü" * 400_000},
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_a_message_that_is_too_large_is_answered_413_with_the_setting(desk, body):
    answer = hand_in(desk, body)
    assert "KEYRELAY_MESSAGE_MEGABYTES" in refused(answer, 413, "body_too_large")


@pytest.mark.parametrize("media", ["message/rfc822", "application/json"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "in chunks"])
def test_a_body_that_is_too_large_is_not_read_to_its_end(desk, media, chunked):
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100000000"
    with connection(desk) as opened:
        opened.sendall(head("POST", MESSAGES, AUTHORIZATION, f"Content-Type: {media}", framing))
        if chunked:
            for _ in range(24):
                opened.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        answer = read_answer(opened)
    assert "KEYRELAY_MESSAGE_MEGABYTES" in refused(answer, 413, "body_too_large")


@pytest.mark.usefixtures("takes_in")
def test_messages_up_to_the_limit_are_taken_in(desk):
    just = MESSAGE + LINE * ((MEGABYTE - len(MESSAGE) - 300) // 100)
    assert MEGABYTE - 500 < submission(desk, taken_in(hand_in(desk, just))).size <= MEGABYTE
    files = [file(b"\xff" * 250_000)] * 3
    assert submission(desk, taken_in(hand_in(desk, JSON | {"attachments": files}))).size <= MEGABYTE


def test_a_body_that_never_comes_is_not_waited_for(desk, monkeypatch):
    monkeypatch.setattr(conventions, "_BODY_SECONDS", 0.3)

    def dribble() -> Iterator[bytes]:
        yield MESSAGE[:20]
        time.sleep(1.5)
        yield MESSAGE[20:]

    monkeypatch.setattr(entrance, "_SLOWEST", 100 * MEGABYTE)
    answer = desk.post(MESSAGES, content=dribble(), headers=RFC822)
    refused(answer, 408, "body_too_slow")


def test_bodies_in_pieces_have_a_bound_together(desk, monkeypatch):
    monkeypatch.setattr(entrance, "_MOST_IN_PIECES", 300_000)
    large = MESSAGE + LINE * 5_000
    answer = hand_in(desk, large)
    assert "Try again later" in refused(answer, 503, "store_unavailable")
    assert answer.headers["retry-after"]
    refused(hand_in(desk, large[:280_000] + b"\0"), 400, "bad_input", "message")  # what was held is let go


# --- How much of each ----------------------------------------------------------------------------------------


def addresses(number: int) -> list[str]:
    return [f"user{each}@example.org" for each in range(number)]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"to": addresses(11)}, "to"),
        ({"to": addresses(4), "cc": addresses(4), "bcc": addresses(4)}, "to"),
        ({"attachments": [file()] * 4}, "attachments"),
        ({"headers": {f"X-{number}": "x" for number in range(501)}}, "headers"),
    ],
)
def test_no_more_of_each_than_is_allowed(desk, more, field):
    said_of(desk, JSON | more, field)
    assert hand_in(desk, JSON | more).json()["errors"][0]["code"] == "too_many"


@pytest.mark.parametrize(
    ("body", "query", "field"),
    [
        (b"To: %s\r\n\r\nx\r\n" % ", ".join(addresses(11)).encode(), [], "recipients"),
        (MESSAGE, [("recipient", address) for address in addresses(11)], "recipient"),
        (MESSAGE, [("recipient", "a@example.org")] * 1000, "recipient"),
        (b"X: y\r\n" * 501 + MESSAGE, [], "head"),
        (b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(80)) + MESSAGE, [], "head"),
    ],
    ids=["named", "in the query", "far too many in the query", "headers", "a long head"],
)
def test_no_more_in_a_message_than_is_allowed(desk, body, query, field):
    said_of(desk, body, field, params=query)


# --- JSON ----------------------------------------------------------------------------------------------------

MALFORMED = {
    b"": "line 1, column 1",
    b"[]": "not an object",
    b'"text"': "not an object",
    b"null": "not an object",
    b'{"to": "ops@example.org",\n "text" "x"}': "line 2, column 9",
    b'{"to": "ops@example.org"': "breaks off",
    b'{"to": "ops@example.org"} {}': "breaks off",
    b'{"to": "ops@example.org",}': "breaks off",
    b"{'to': 1}": "breaks off",
    b'{"text": NaN}': "number",
    b'{"text": 1e999}': "number",
    b'{"text": ' + b"9" * 5000 + b"}": "number",
    b'{"text": "\xff"}': "not UTF-8",
    b'{"text": "\\ud800"}': "half a character",
    '{"text": "x"}'.encode("utf-16"): "not UTF-8",
    b'{"text": ' + b"[" * 100_000: "nested too deeply",
    b'{"text": "a\nb"}': "breaks off",
    b'{"text": "x"}\0': "breaks off",
}


@pytest.mark.parametrize(("body", "words"), MALFORMED.items(), ids=range(len(MALFORMED)))
def test_what_is_no_json_object_is_told_with_its_place(desk, body, words):
    answer = desk.post(MESSAGES, content=body, headers={"content-type": "application/json"})
    assert words in refused(answer, 400, "malformed_body")


VALUES: list[Any] = [1, True, 1.5, [], {}, [1], [[]], {"a": {}}, "", "\0"]


@pytest.mark.usefixtures("takes_in")
@pytest.mark.parametrize(
    "member", ["from", "to", "cc", "subject", "text", "html", "headers", "attachments", "priority"]
)
def test_a_member_of_another_kind_is_named(desk, member):
    for value in VALUES:
        answer = hand_in(desk, {key: text for key, text in JSON.items() if key != member} | {member: value})
        if answer.status_code == 202:
            assert value in ("", [], {})
            continue
        assert {error["field"] for error in answer.json()["errors"]} <= {member, "text"}, value


def test_all_that_is_wrong_is_told_at_once(desk):
    wrong = JSON | {"to": "nobody", "subject": "a\r\nBcc: b", "send_after": "soon", "priority": 1, "Text": "x"}
    said = said_of(desk, wrong, "priority", "send_after", "Text", "subject", "to")
    assert "2026-03-01T08:00:00Z" in said
    query = {"recipient": "nobody", "priority": "1", "send_after": "soon", "state": "x"}
    said_of(desk, MESSAGE + b"\0", "state", "priority", "send_after", "message", params=query)


TIMES: list[Any] = [
    *("", "now", "2026-03-01", "08:00", "2026-03-01T08:00:00", "2026-03-01 08:00:00", "2026-W10-1T00:00:00Z"),
    *("2026-13-01T00:00:00Z", "2026-03-01T25:00:00Z", "2026-03-01T08:00:00+99:99", "9" * 5000, "2026-03-01T08:00Z "),
    *(
        0,
        1772352000,
        True,
        ["2026-03-01T08:00:00Z"],
        {"at": "2026-03-01T08:00:00Z"},
        "\N{FULLWIDTH DIGIT TWO}026-03-01T08:00:00Z",
    ),
]


@pytest.mark.parametrize("given", TIMES, ids=range(len(TIMES)))
def test_what_is_no_time_with_a_zone_is_refused(desk, given):
    answer = hand_in(desk, JSON | {"send_after": given})
    refused(answer, 400, "bad_input", "send_after")
    assert answer.json()["errors"][0]["code"] == "bad_time"


@pytest.mark.parametrize("given", ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59+00:00", "2999-01-01T00:00:00Z"])
def test_a_message_waits_for_a_year_at_the_most(desk, given):
    for answer in (hand_in(desk, JSON | {"send_after": given}), hand_in(desk, MESSAGE, params={"send_after": given})):
        refused(answer, 400, "bad_input", "send_after")
        assert answer.json()["errors"][0]["code"] == "out_of_range"


@pytest.mark.parametrize("given", ["", "urgent", "HIGH", 1, True, ["high"], {}])
def test_a_priority_is_one_of_three(desk, given):
    assert "high, normal or low" in said_of(desk, JSON | {"priority": given}, "priority")


# --- Injection -----------------------------------------------------------------------------------------------

BREAKS = ["\r\n", "\n", "\r", "\0", "\x0b", "\x1b", "\x7f", "\x85", "\u2028"]


@pytest.mark.parametrize("control", BREAKS, ids=ascii)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", "ops{}Bcc: x@example.org"),
        ("to", "Ops{}Bcc: x <ops@example.org>"),
        ("reply_to", "ops@example.org{}"),
        ("cc", ["a@example.org", "b{}@example.org"]),
        ("subject", "hello{}Bcc: x@example.org"),
        ("headers", {"X-Note": "a{}Bcc: x@example.org"}),
        ("headers", {"X-Note{}Bcc": "x@example.org"}),
        ("attachments", [file(name="a{}b.txt")]),
        ("attachments", [file(type="text/plain{}")]),
        ("from", "PKI{}Bcc: x <pki@example.org>"),
    ],
)
def test_no_text_of_json_becomes_a_header(desk, field, value, control):
    body = json.loads(json.dumps(JSON | {field: value}).replace("{}", json.dumps(control)[1:-1]))
    said_of(desk, body, field)


@pytest.mark.parametrize("name", ["Bcc", "From", "Content-Type", "DKIM-Signature", "Received", "", "a b", "X:", "ü"])
def test_no_header_that_is_set_otherwise_can_be_given(desk, name):
    said_of(desk, JSON | {"headers": {name: "x"}}, "headers")


@pytest.mark.parametrize("control", BREAKS, ids=ascii)
@pytest.mark.parametrize("parameter", ["sender", "recipient"])
def test_no_address_of_the_query_becomes_a_command(desk, parameter, control):
    for address in (
        f"a@example.org{control}RCPT TO:<b@example.org>",
        f"{control}a@example.org",
        f"a{control}@example.org",
    ):
        said_of(desk, MESSAGE, parameter, params={parameter: address})


@pytest.mark.parametrize(
    "address", ["", "nobody", "<a@example.org>", "a@example.org>", "a@b@c", "a@example.org NOTIFY=NEVER"]
)
@pytest.mark.parametrize("parameter", ["sender", "recipient"])
def test_what_is_no_address_in_the_query_is_refused(desk, parameter, address):
    said_of(desk, MESSAGE, parameter, params={parameter: address})


def test_a_plus_that_became_a_space_is_explained(desk):
    answer = desk.post(f"{MESSAGES}?recipient=a+b@example.org", content=MESSAGE, headers=RFC822)
    assert "%2B" in refused(answer, 400, "bad_input", "recipient")


QUERIES = {
    "recipients=a@example.org": ["recipients"],
    "Recipient=a@example.org": ["Recipient"],
    "sender=pki@example.org&sender=pki@example.org": ["sender"],
    "priority=high&priority=low": ["priority"],
    "send_after=": ["send_after"],
    "priority": ["priority"],
    "%0d%0ax=1": ["??x"],
    "recipient=%ff@example.org": ["query"],
    "&" * 1000: ["recipient"],
}


@pytest.mark.parametrize(("query", "fields"), QUERIES.items(), ids=range(len(QUERIES)))
def test_a_parameter_that_is_not_known_or_not_clear_is_refused(desk, query, fields):
    answer = desk.post(f"{MESSAGES}?{query}", content=MESSAGE, headers=RFC822)
    refused(answer, 400, "bad_input", *fields)


def test_octets_beyond_ascii_in_the_query_are_refused(desk):
    lines = ("Content-Type: message/rfc822", f"Content-Length: {len(MESSAGE)}")
    with connection(desk) as opened:
        start = head("POST", f"{MESSAGES}?recipient=QQ", AUTHORIZATION, *lines)
        opened.sendall(start.replace(b"QQ", b"\xfc@example.org") + MESSAGE)
        assert read_answer(opened).status_code == 400


@pytest.mark.parametrize("query", ["recipient=x@example.org", "priority=high", "dry_run=true"])
def test_json_has_everything_in_its_body(desk, query):
    answer = desk.post(f"{MESSAGES}?{query}", json=JSON)
    refused(answer, 400, "bad_input", query.partition("=")[0])


# --- Messages ------------------------------------------------------------------------------------------------

BROKEN = {
    "empty": (b"", ["message"]),
    "no head": (b"One line.\r\n", ["head", "recipients"]),
    "a lone CR": (MESSAGE + b"a\rb\r\n", ["message"]),
    "a lone LF": (MESSAGE + b"a\nb\r\n", ["message"]),
    "smuggled": (MESSAGE + b"\n.\r\nMAIL FROM:<x@example.org>\r\n", ["message"]),
    "NUL": (MESSAGE + b"\0", ["message"]),
    "a long line": (MESSAGE + b"x" * 999 + b"\r\n", ["message"]),
    "a header that is none": (b"No header\r\n" + MESSAGE, ["head"]),
    "a control character": (b"X: a\x1bb\r\n" + MESSAGE, ["head"]),
    "two authors": (b"From: a@example.org\r\n" + MESSAGE, ["from"]),
    "nobody": (b"Subject: x\r\n\r\nx\r\n", ["recipients"]),
    "no multipart": (b"Content-Type: multipart/mixed\r\n" + MESSAGE, ["message"]),
    "cut off": (b'Content-Type: multipart/mixed; boundary="b"\r\n' + MESSAGE + b"--b\r\n\r\nx\r\n", ["message"]),
    "binary": (b"Content-Transfer-Encoding: binary\r\n" + MESSAGE, ["message"]),
    "no text": (MESSAGE + b"\xff\xfe\r\n", ["body"]),
    "no text in a header": (b"X: \xff\r\n" + MESSAGE, ["head"]),
    "in circles": (b"Received: x\r\n" * 51 + MESSAGE, ["message"]),
}


@pytest.mark.parametrize(("body", "fields"), BROKEN.values(), ids=BROKEN)
def test_a_message_that_cannot_be_read_in_one_way_is_refused(desk, body, fields):
    said_of(desk, body, *fields)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/xml"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "message/global"},
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "message/rfc822", "content-encoding": "gzip"},
    ],
    ids=str,
)
def test_other_bodies_are_not_read(desk, headers):
    refused(desk.post(MESSAGES, content=MESSAGE, headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü", "a\tb"])
def test_a_key_that_is_none_is_refused(desk, key):
    answer = hand_in(desk, JSON, headers={"idempotency-key": key.encode("latin-1")})
    refused(answer, 400, "bad_input", "Idempotency-Key")


def test_two_keys_are_no_key(desk):
    content = json.dumps(JSON).encode()
    keys = [(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b"), (b"Content-Type", b"application/json")]
    refused(desk.post(MESSAGES, content=content, headers=keys), 400, "bad_input", "Idempotency-Key")


# --- Anything ------------------------------------------------------------------------------------------------

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_members = st.fixed_dictionaries(
    {}, optional=dict.fromkeys((*JSON, "from", "cc", "headers", "attachments", "send_after", "priority"), _anything)
)


@pytest.mark.usefixtures("takes_in")
@settings(max_examples=150)
@given(body=st.binary(max_size=200) | _members.map(lambda value: json.dumps(value).encode()), as_json=st.booleans())
def test_anything_is_taken_in_or_refused_in_one_clear_way(desk, body, as_json):
    headers = {"content-type": "application/json"} if as_json else RFC822
    answer = desk.post(MESSAGES, content=body, headers=headers)
    if answer.status_code == 202:
        taken_in(answer)
    else:
        assert answer.json()["code"] in {"bad_input", "malformed_body", "permission_missing"}


@pytest.mark.usefixtures("takes_in")
@settings(max_examples=100)
@given(name=st.sampled_from(["sender", "recipient", "send_after", "priority", "x"]), value=st.text(max_size=30))
def test_any_query_is_taken_in_or_refused_in_one_clear_way(desk, name, value):
    answer = desk.post(f"{MESSAGES}?{name}={quote(value)}", content=MESSAGE, headers=RFC822)
    if answer.status_code == 202:
        taken_in(answer)
    else:
        assert answer.json()["code"] in {"bad_input", "permission_missing"}
