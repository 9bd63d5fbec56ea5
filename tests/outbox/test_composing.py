"""A submission as JSON."""

from __future__ import annotations

import base64
import email
import email.policy
import tracemalloc
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyrelay.errors import BadInput
from keyrelay.outbox.composing import compose
from keyrelay.outbox.letter import Allowance, Bounds, Letter
from keyrelay.outbox.reading import read
from keyrelay.secrets.model import has_control

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
ALLOWED = Allowance(sender_account="pki@example.org", sender_name="PKI")
GIVEN: dict[str, Any] = {"to": ["ops@example.org"], "subject": "Test", "text": "Hello\n"}


def composed(allowance: Allowance = ALLOWED, **changes: Any) -> Letter:
    given = {name: value for name, value in (GIVEN | changes).items() if value is not ...}
    return compose(given, allowance, now=NOW)


def refused(allowance: Allowance = ALLOWED, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        composed(allowance, **changes)
    return [(violation.field, violation.code) for violation in caught.value.violations]


def parsed(letter: Letter) -> EmailMessage:
    message = email.message_from_bytes(letter.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert all(not part.defects for part in message.walk())
    return message


def attached(octets: bytes = b"PDF", **changes: Any) -> dict[str, Any]:
    return {"name": "a.pdf", "content": base64.b64encode(octets).decode()} | changes


# --- What is said --------------------------------------------------------------------------------------------


def test_the_plainest_submission_is_from_the_profile():
    letter = composed()
    read_ = parsed(letter)
    assert letter.envelope.sender == "pki@example.org"
    assert letter.envelope.recipients == ("ops@example.org",)
    assert (read_["From"], read_["To"], read_["Subject"]) == ("PKI <pki@example.org>", "ops@example.org", "Test")
    assert read_["Message-ID"] == letter.message_id
    assert read_["Date"].datetime == NOW
    assert read_.get_content() == "Hello\r\n"
    assert not letter.needs_smtputf8
    assert not letter.needs_8bit


def test_every_recipient_is_told_once_and_those_of_bcc_are_not_named():
    letter = composed(
        to=["Ops <ops@example.org>", "a@Example.org"],
        cc="Doe, J. <j@example.org>".replace("Doe, J.", '"Doe, J."'),
        bcc=["secret@example.org", "a@example.org"],
        reply_to="help@example.org",
    )
    assert letter.envelope.recipients == ("ops@example.org", "a@Example.org", "j@example.org", "secret@example.org")
    read_ = parsed(letter)
    assert [str(one) for one in read_["To"].addresses] == ["Ops <ops@example.org>", "a@Example.org"]
    assert str(read_["Cc"].addresses[0]) == '"Doe, J." <j@example.org>'
    assert read_["Reply-To"] == "help@example.org"
    assert read_["Bcc"] is None
    assert b"secret" not in letter.content


def test_a_message_for_bcc_alone_names_nobody():
    letter = composed(to=..., bcc=["secret@example.org"])
    assert b"secret" not in letter.content
    assert parsed(letter)["To"] == "undisclosed-recipients:;"


def test_html_without_text_stands_alone_and_beside_text_they_are_alternatives():
    assert parsed(composed(text=..., html="<p>Hello</p>")).get_content_type() == "text/html"
    both = parsed(composed(html="<p>Hello</p>"))
    assert [part.get_content_type() for part in both.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_files_come_after_the_text_and_are_what_they_were():
    octets = bytes(range(256)) * 400
    files = [
        attached(octets),
        attached(b"", name="empty"),
        attached(b"a,b", name="t.csv", type="text/csv; charset=utf-8"),
    ]
    read_ = parsed(composed(html="<p>Hello</p>", attachments=files))
    assert read_.get_content_type() == "multipart/mixed"
    found = list(read_.iter_attachments())
    assert [part.get_filename() for part in found] == ["a.pdf", "empty", "t.csv"]
    assert [part.get_payload(decode=True) for part in found] == [octets, b"", b"a,b"]
    assert [part.get_content_type() for part in found] == ["application/octet-stream"] * 2 + ["text/csv"]
    assert read_.get_body(("plain",)).get_content() == "Hello\r\n"


def test_base64_may_have_the_lines_that_the_program_of_that_name_writes():
    (found,) = parsed(composed(attachments=[attached(content="QUJD\nREVG\n")])).iter_attachments()
    assert found.get_payload(decode=True) == b"ABCDEF"


names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/\\"), min_size=1, max_size=80
).filter(lambda name: len(name.encode()) <= 255 and name == name.strip() and name not in {".", ".."})


@settings(max_examples=200)
@given(names, st.binary(max_size=500))
def test_any_file_name_arrives_as_it_was_and_fits_on_its_lines(name, octets):
    letter = composed(attachments=[attached(octets, name=name)])
    raw = letter.content.partition(b"Content-Disposition")[2].partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 78 for line in raw.split(b"\r\n"))
    assert letter.content.isascii()
    compat = email.message_from_bytes(letter.content)  # the newer policy strips and joins spaces of parameters
    part = compat.get_payload()[1]
    assert part.get_filename() == name
    assert part.get_payload(decode=True) == octets


def test_long_words_of_a_header_that_programs_read_are_not_encoded():
    where = "<https://example.org/" + "x" * 200 + ">"
    letter = composed(headers={"List-Unsubscribe": where, "References": "<1@example.org> <2@example.org>"})
    assert where.encode() in letter.content
    assert refused(headers={"List-Unsubscribe": "<" + "x" * 999 + ">"}) == [("headers", "bad_header")]
    assert refused(headers={"References": "<ü@example.org>"}) == [("headers", "bad_header")]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
subjects = texts.map(lambda text: "".join(character for character in text if not has_control(character)))


@settings(max_examples=150)
@given(subjects, texts, st.none() | texts, st.lists(st.binary(max_size=200), max_size=3))
def test_what_is_composed_could_have_been_handed_in_as_it_is(subject, text, html, files):
    letter = composed(subject=subject, text=text, html=html, attachments=[attached(octets) for octets in files])
    assert read(letter.content, ALLOWED, now=NOW, recipients=letter.envelope.recipients) == letter
    assert str(parsed(letter)["Subject"]) == subject


# --- Who it is from ------------------------------------------------------------------------------------------


def test_another_sender_needs_a_permission_and_is_then_the_senders_of_the_envelope_too():
    asked = []

    def may(address: str) -> bool:
        asked.append(address)
        return address == "app@example.org"

    allowance = Allowance(sender_account="pki@example.org", sender_name="PKI", may_send_as=may)
    letter = composed(allowance, **{"from": "App <app@Example.ORG>"})
    assert letter.envelope.sender == "app@Example.ORG"
    assert parsed(letter)["From"] == "App <app@Example.ORG>"
    assert refused(allowance, **{"from": "boss@example.org"}) == [("from", "not_permitted")]
    assert set(asked) == {"app@example.org", "boss@example.org"}
    assert parsed(composed(**{"from": "PKI@example.org"}))["From"] == "PKI <pki@example.org>"
    assert parsed(composed(**{"from": "Alarm <pki@example.org>"}))["From"] == "Alarm <pki@example.org>"


def test_what_is_asked_for_permission_is_what_the_relay_is_told():
    asked = []
    allowance = Allowance(
        sender_account="pki@example.org", sender_name="PKI", may_send_as=lambda a: not asked.append(a)
    )
    assert composed(allowance, **{"from": "a@Bücher.example"}).envelope.sender == asked[0] == "a@xn--bcher-kva.example"


@pytest.mark.parametrize("sender", ["", None])
def test_no_sender_is_the_profiles(sender):
    assert composed(**{"from": sender}).envelope.sender == "pki@example.org"


# --- What is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"to": ...}, ("to", "missing")),
        ({"to": []}, ("to", "missing")),
        ({"to": ["ops"]}, ("to", "bad_address")),
        ({"to": ["a@example.org, b@example.org"]}, ("to", "bad_address")),
        ({"to": [""]}, ("to", "bad_address")),
        ({"cc": ["a@example.org\r\nBcc: b@example.org"]}, ("cc", "bad_address")),
        ({"cc": ["a@example.org\nb"]}, ("cc", "control_character")),
        ({"bcc": ['"a\nb" <a@example.org>']}, ("bcc", "control_character")),
        ({"reply_to": ["x <<a@example.org>"]}, ("reply_to", "bad_address")),
        ({"to": 1}, ("to", "wrong_type")),
        ({"to": [1]}, ("to", "wrong_type")),
        ({"subject": ["a"]}, ("subject", "wrong_type")),
        ({"subject": "a\r\nBcc: b@example.org"}, ("subject", "control_character")),
        ({"subject": "x" * 2001}, ("subject", "too_long")),
        ({"text": ...}, ("text", "missing")),
        ({"text": "a\0"}, ("text", "control_character")),
        ({"html": "\ud800"}, ("html", "control_character")),
        ({"from": "nobody"}, ("from", "bad_address")),
        ({"from": "a@example.org, b@example.org"}, ("from", "bad_address")),
        ({"from": "boss@example.org"}, ("from", "not_permitted")),
        ({"from": "pki@example.org <boss@example.org>"}, ("from", "bad_address")),
        ({"headers": {"X-A": "a\nb"}}, ("headers", "control_character")),
        ({"headers": {"X-A": 1}}, ("headers", "wrong_type")),
        ({"headers": {"X-A": "a", "x-a": "b"}}, ("headers", "duplicate")),
        ({"headers": {"X-A": "a" * 4001}}, ("headers", "too_long")),
        *(
            ({"headers": {name: "a"}}, ("headers", "bad_header"))
            for name in ["Bcc", "Sender", "Reply-To", "Return-Path", "Resent-To", "Received", "X:", "", "X" * 51]
        ),
        ({"attachments": {}}, ("attachments", "wrong_type")),
        ({"attachments": [{"name": "a"}]}, ("attachments", "wrong_type")),
        ({"attachments": [attached(size=3)]}, ("attachments", "unknown")),
        *(
            ({"attachments": [attached(name=name)]}, ("attachments", "bad_name"))
            for name in ["", "../a", "a\\b", "..", ".", " ", " a", "a ", "x" * 256]
        ),
        ({"attachments": [attached(name='a"\r\nX: b')]}, ("attachments", "control_character")),
        *(
            ({"attachments": [attached(type=media)]}, ("attachments", "bad_media_type"))
            for media in [
                "pdf",
                "message/rfc822",
                "multipart/mixed",
                "a/b; x=y",
                "a/b\r\nX: y",
                "text/plain; charset=a b",
            ]
        ),
        *(
            ({"attachments": [attached(content=digits)]}, ("attachments", "bad_base64"))
            for digits in ["QQ", "QQ=", "Q", "QQ==QQ==", "QQ=Q", "====", "Q_-Q", "QQé=", "QQ==!", "=QQQ"]
        ),
        ({"surprise": 1}, ("surprise", "unknown")),
        ({"{field}\n": 1}, ("(field}?", "unknown")),
    ],
)
def test_what_cannot_be_sent_is_refused(changes, found):
    assert refused(**changes) == [found]


@pytest.mark.parametrize("octets", [3 * 76, 76 * 1024, 4 * 76 * 1024, 76 * 4096])
def test_base64_ends_where_its_padding_is_however_long_it_is(octets):
    digits = "QUJD" * (octets // 4 - 1) + "QQ=="
    (found,) = parsed(composed(attachments=[attached(content=digits)])).iter_attachments()
    assert found.get_payload(decode=True) == base64.b64decode(digits)
    assert refused(attachments=[attached(content=digits + "QQ==")]) == [("attachments", "bad_base64")]


def test_everything_that_is_wrong_is_said_at_once():
    found = refused(
        **{"from": "x", "to": ["x"], "cc": 1, "subject": "\n", "text": "\0", "headers": {"": ""}, "z": 0},
        attachments=[attached(content="!")],
    )
    assert {field for field, _ in found} == {"from", "to", "cc", "subject", "text", "headers", "attachments", "z"}


@pytest.mark.parametrize(
    ("bounds", "changes", "found"),
    [
        (Bounds(recipients=2), {"to": ["a@example.org"] * 3}, ("to", "too_many")),
        (Bounds(recipients=2), {"to": ["a@example.org"] * 2, "bcc": "c@example.org"}, ("to", "too_many")),
        (Bounds(attachments=1), {"attachments": [attached(), attached()]}, ("attachments", "too_many")),
        (Bounds(headers=1), {"headers": {"X-A": "a", "X-B": "b"}}, ("headers", "too_many")),
        (Bounds(size=1000), {"text": "x" * 1001}, ("text", "too_long")),
        (Bounds(size=1000), {"text": "x" * 990}, ("message", "too_large")),
        (Bounds(size=1000), {"attachments": [attached(b"x" * 900)]}, ("message", "too_large")),
    ],
)
def test_every_bound_holds(bounds, changes, found):
    allowance = Allowance(sender_account="pki@example.org", sender_name="PKI", bounds=bounds)
    assert refused(allowance, **changes) == [found]


def test_an_address_beyond_ascii_needs_smtputf8_wherever_it_is():
    assert composed(bcc=["jürgen@example.org"]).needs_smtputf8
    letter = composed(to=["jürgen@example.org"])
    assert letter.needs_smtputf8
    assert letter.needs_8bit
    assert not composed(to=["Jürgen <j@bücher.example>"]).needs_smtputf8


def test_a_large_file_is_held_little_more_than_twice_beside_what_was_given():
    digits = base64.b64encode(bytes(3 * 1024 * 1024)).decode()
    files = [attached(content=digits)]
    tracemalloc.start()
    try:
        letter = composed(attachments=files)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2.5 * len(letter.content)
