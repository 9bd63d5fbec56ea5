"""A submission as message/rfc822."""

from __future__ import annotations

import email
import email.policy
import time
import timeit
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keyrelay.errors import BadInput, Violation
from keyrelay.outbox.letter import Allowance, Bounds, Letter, told
from keyrelay.outbox.mailboxes import read_mailboxes
from keyrelay.outbox.parts import seven_bit
from keyrelay.outbox.reading import read
from keyrelay.relay.headers import Mailbox
from keyrelay.relay.model import Content

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
ALLOWED = Allowance(sender_account="pki@example.org", sender_name="PKI")

HEAD = (
    "From: PKI <pki@example.org>\r\n"
    "To: ops@example.org\r\n"
    "Subject: Test\r\n"
    "Date: Sun, 01 Mar 2026 12:30:05 +0000\r\n"
    "Message-ID: <1@example.org>\r\n"
)
WHOLE = f"{HEAD}\r\nHello\r\n".encode()


def handed_in(octets: bytes | str, allowance: Allowance = ALLOWED, **envelope: Any) -> Letter:
    return read(octets.encode() if isinstance(octets, str) else octets, allowance, now=NOW, **envelope)


def refused(octets: bytes | str, allowance: Allowance = ALLOWED, **envelope: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        handed_in(octets, allowance, **envelope)
    return [(violation.field, violation.code) for violation in caught.value.violations]


def letter_or_violations(octets: bytes | str) -> tuple[Letter | None, tuple[Violation, ...]]:
    try:
        return handed_in(octets), ()
    except BadInput as bad:
        return None, bad.violations


def parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def with_head(*lines: str, body: str = "Hello\r\n") -> str:
    """The usual message with other or further lines in its head."""
    replaced = {line.partition(":")[0].lower() for line in lines}
    kept = [line for line in HEAD.split("\r\n")[:-1] if line.partition(":")[0].lower() not in replaced]
    return "\r\n".join([*kept, *lines, "", body])


def without(*names: str) -> str:
    return (
        "".join(line for line in HEAD.splitlines(keepends=True) if line.partition(":")[0] not in names)
        + "\r\nHello\r\n"
    )


# --- A message that is well ----------------------------------------------------------------------------------


def test_a_message_that_is_well_is_sent_as_it_is():
    letter = handed_in(WHOLE)
    assert letter.content == WHOLE
    assert isinstance(letter.content, Content)
    assert letter.envelope.sender == "pki@example.org"
    assert letter.envelope.recipients == ("ops@example.org",)
    assert letter.message_id == "<1@example.org>"
    assert not letter.needs_smtputf8
    assert not letter.needs_8bit


def test_a_file_of_a_script_gets_the_line_ends_of_mail():
    for script in (WHOLE.replace(b"\r\n", b"\n"), WHOLE.replace(b"\r\n", b"\n").rstrip(), WHOLE.rstrip()):
        assert handed_in(script).content == WHOLE


def test_the_first_line_of_a_mailbox_file_is_left_out():
    assert handed_in(b"From pki@example.org Sun Mar  1 12:30:05 2026\r\n" + WHOLE).content == WHOLE


def test_what_is_missing_is_added_and_nothing_else_changes():
    letter = handed_in(without("From", "Date", "Message-ID"))
    added = (
        f"From: PKI <pki@example.org>\r\nDate: Sun, 01 Mar 2026 12:30:05 +0000\r\nMessage-ID: {letter.message_id}\r\n"
    )
    assert letter.content.decode() == "To: ops@example.org\r\nSubject: Test\r\n" + added + "\r\nHello\r\n"
    assert letter.message_id.endswith("@example.org>")


def test_a_head_alone_is_a_message_and_so_is_a_body_alone():
    assert handed_in(HEAD).content == HEAD.encode() + b"\r\n"
    letter = handed_in("\nHello\n", recipients=["ops@example.org"])
    assert parsed(letter.content).get_content() == "Hello\r\n"
    assert parsed(letter.content)["From"] == "PKI <pki@example.org>"


@pytest.mark.parametrize("name", ["Bcc", "bcc", "Return-Path", "Content-Length", "Resent-Bcc"])
def test_what_the_recipients_are_not_to_see_is_taken_out(name):
    letter = handed_in(with_head(f"{name}: a@example.org,\r\n b@example.org"), recipients=["c@example.org"])
    assert letter.content == WHOLE
    assert letter.envelope.recipients == ("c@example.org",)


# --- The envelope --------------------------------------------------------------------------------------------


def test_recipients_that_are_given_are_those_and_no_others():
    letter = handed_in(WHOLE, recipients=["a@example.org", "b@Bücher.example", "a@EXAMPLE.org"])
    assert letter.envelope.recipients == ("a@example.org", "b@xn--bcher-kva.example")


def test_recipients_that_are_not_given_stand_in_to_cc_and_bcc():
    head = (
        'To: "Doe, J. \\"x\\"" <j@example.org>, (a (nested) \\) comment) plain@example.org',
        "Cc: People: a@example.org,\r\n\tB <b@example.org>;, =?utf-8?q?J=C3=BC?= <c@example.org>",
        "Bcc: plain@example.org, last@[IPv6:2001:db8::1]",
    )
    assert handed_in(with_head(*head)).envelope.recipients == (
        *("j@example.org", "plain@example.org", "a@example.org", "b@example.org", "c@example.org"),
        "last@[IPv6:2001:db8::1]",
    )


MAY = Allowance(sender_account="pki@example.org", sender_name="PKI", may_send_as={"app@example.org"}.__contains__)


def test_who_may_send_as_another_is_told_to_the_relay_as_that():
    letter = handed_in(with_head("From: App <app@EXAMPLE.org>"), MAY)
    assert letter.envelope.sender == "app@EXAMPLE.org"
    assert (
        handed_in(with_head("From: app@example.org"), MAY, sender="pki@example.org").envelope.sender
        == "pki@example.org"
    )
    assert handed_in(WHOLE, MAY, sender="app@example.org").envelope.sender == "app@example.org"
    assert "From: app@example.org" not in handed_in(without("From"), MAY).content.decode()
    assert "From: <app@example.org>" in handed_in(without("From"), MAY, sender="app@example.org").content.decode()


@pytest.mark.parametrize("name", ["From", "Sender", "Resent-From", "Resent-Sender"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("boss@example.org", "not_permitted"),
        ("boss@example.org <boss@example.org>", "not_permitted"),
        ("pki@example.org <boss@example.org>", "bad_header"),
        ("boss@example.org <pki@example.org>", "bad_header"),
        ('"pki@example.org" <boss@example.org>', "not_permitted"),
        ("(pki@example.org) boss@example.org", "not_permitted"),
        ("<boss@example.org> (pki@example.org)", "not_permitted"),
        ("pki@example.org, boss@example.org", "bad_header"),
        ("boss@example.org, pki@example.org", "bad_header"),
        ("boss@example.org pki@example.org", "bad_header"),
        ("<boss@example.org> pki@example.org", "bad_header"),
        ("<boss@example.org><pki@example.org>", "bad_header"),
        ("<pki@example.org", "bad_header"),
        ("<@relay.example:pki@example.org>", "bad_header"),
        ("pki @example.org", "bad_header"),
        ("pki@example.org;boss@example.org", "bad_header"),
        ('"boss@example.org', "bad_header"),
        ("a (pki@example.org", "bad_header"),
        ("nobody:;", "bad_header"),
        ("<>", "bad_header"),
        ("", "bad_header"),
        ("nobody", "bad_header"),
    ],
)
def test_nobody_writes_in_a_name_that_is_not_permitted(name, value, code):
    assert refused(with_head(f"{name}: {value}"), recipients=["ops@example.org"]) == [
        (name.lower().replace("-", "_"), code)
    ]


def test_a_letter_that_only_looks_like_another_is_another():
    assert refused(with_head("From: p\u212ai@example.org"), recipients=["ops@example.org"]) == [
        ("from", "not_permitted")
    ]


@pytest.mark.parametrize(
    ("envelope", "found"),
    [
        ({"sender": "boss@example.org"}, ("sender", "not_permitted")),
        ({"sender": ""}, ("sender", "bad_address")),
        ({"sender": "a> SIZE=1"}, ("sender", "bad_address")),
        ({"recipients": []}, ("recipients", "missing")),
        ({"recipients": ["a@example.org\r\nRCPT TO:<b@example.org>"]}, ("recipients", "bad_address")),
        ({"recipients": ["ops"]}, ("recipients", "bad_address")),
    ],
)
def test_an_envelope_that_cannot_be_told_is_refused(envelope, found):
    assert refused(WHOLE, **envelope) == [found]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("To: undisclosed-recipients:;", ("recipients", "missing")),
        ("To: ,", ("recipients", "missing")),
        ("To: ops", ("to", "bad_address")),
        ("To: a@example.org: b@example.org;", ("to", "bad_header")),
        ("To: <a@example.org", ("to", "bad_header")),
        ('To: "a b"@example.org', ("to", "bad_header")),
        ("To: a@example.org b@example.org", ("to", "bad_header")),
        ("To: a: b: c@example.org;;", ("to", "bad_header")),
        ("To: a: c@example.org", ("to", "bad_header")),
        ("To: " + "(" * 100, ("to", "bad_header")),
        ("Resent-To: ops@example.org", ("recipients", "missing")),
    ],
)
def test_recipients_that_cannot_be_read_are_not_guessed(line, found):
    assert refused(with_head(line)) == [found]


MARKS = [
    *'ab@. ,;:<>()"\\[]',
    *("a@example.org", "b@example.net", "<c@example.com>", "(a@example.org)", '"x@example.org"', ", ", "g:"),
]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(MARKS), max_size=8).map("".join))
def test_a_list_of_addresses_is_read_as_others_read_it_or_not_at_all(text):
    try:
        found = read_mailboxes(text)
    except ValueError:
        return
    addresses = [box.address for box in found]
    assume(all(map(told, addresses)))
    others = [address for _, address in getaddresses([text]) if address]
    assert list(dict.fromkeys(others)) == list(dict.fromkeys(addresses))


# --- Lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        *(b"a\rb", b"a\r\r\nb", b"a\nb", b"a\n.\nb", b"a\r\n.\nb", b"a\n.\r\nb", b"a\r.\rb", b"a\n\rb"),
        b"a\n.\r\nMAIL FROM:<boss@example.org>\r\n",
    ],
)
def test_line_ends_that_relays_understand_in_different_ways_are_refused(odd):
    assert refused(WHOLE + odd + b"\r\n") == [("message", "bad_line_end")]
    assert refused(WHOLE + odd) == [("message", "bad_line_end")]


def test_a_lone_line_feed_in_a_value_adds_no_header_to_a_message_with_crlf():
    assert refused(with_head("Subject: Hello\nBcc: everybody@example.org")) == [("message", "bad_line_end")]


def test_a_lone_carriage_return_is_refused_among_line_feeds_too():
    assert refused(WHOLE.replace(b"\r\n", b"\n") + b"a\rb\n") == [("message", "bad_line_end")]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\0"]), max_size=12).map(b"".join))
def test_whatever_is_in_it_the_content_has_crlf_and_nothing_else(body):
    try:
        letter = handed_in(HEAD.encode().replace(b"\r\n", b"\n") + b"\n" + body)
    except BadInput:
        assert b"\r" in body or b"\0" in body
        return
    assert b"\r" not in body
    rest = letter.content.replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest
    assert letter.content.endswith(b"\r\n")


@pytest.mark.parametrize(("octets", "right"), [(998, True), (999, False), (5000, False)])
def test_a_line_has_at_most_998_octets_wherever_it_stands(octets, right):
    for before in range(0, 2000, 37):
        body = "a\r\n" * (before // 3) + "x" * octets
        for text in (with_head(body=body), with_head(body=body + "\r\nmore\r\n")):
            if right:
                assert handed_in(text)
            else:
                assert refused(text) == [("message", "long_line")]


def test_the_line_that_is_too_long_is_named_by_its_number():
    with pytest.raises(BadInput, match=r"line 8 has more than 998 bytes.*line 10 has") as caught:
        handed_in(with_head(body="a\r\n" + "x" * 999 + "\r\nb\r\n" + ("x" * 999 + "\r\n") * 20))
    assert len(caught.value.violations) == 5


# --- A corpus of heads that are not well ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"", [("message", "missing")]),
        (WHOLE + b"\0\r\n", [("message", "control_character")]),
        (b"Hello\n", [("head", "bad_header"), ("recipients", "missing")]),
        (b"\xef\xbb\xbf" + WHOLE, [("head", "bad_header")]),
        (with_head(" folded nothing", body=""), None),
        (b" first line is folded\r\n" + WHOLE, [("head", "bad_header")]),
        (with_head("Subject : spaces before the colon"), [("head", "bad_header")]),
        (with_head("No colon here"), [("head", "bad_header")]),
        (with_head("X-A: a\r\n \t\r\nBcc: b@example.org"), [("head", "bad_header")]),
        (with_head(": no name"), [("head", "bad_header")]),
        (with_head("X-Ü: a"), [("head", "bad_header")]),
        (with_head("X-A: a\x0bb"), [("head", "control_character")]),
        (with_head("X-A: a\x7fb"), [("head", "control_character")]),
        (with_head("X-A: a\x1b[1m"), [("head", "control_character")]),
        (with_head("X-A: a\x85b"), [("head", "control_character")]),
        (with_head("X-A: a\u2028Bcc: b"), [("head", "control_character")]),
        (with_head("Subject: Grüße").encode("latin-1"), [("head", "bad_charset")]),
        *(
            (with_head(f"{name}: {value}\r\n{name.lower()}: {value}"), [(name.lower().replace("-", "_"), "duplicate")])
            for name, value in [
                ("From", "pki@example.org"),
                ("To", "ops@example.org"),
                ("Cc", "ops@example.org"),
                ("Bcc", "ops@example.org"),
                ("Sender", "pki@example.org"),
                ("Reply-To", "ops@example.org"),
                ("Subject", "a"),
                ("Date", "Sun, 01 Mar 2026 12:30:05 +0000"),
                ("Message-ID", "<1@example.org>"),
                ("MIME-Version", "1.0"),
                ("Content-Type", "text/plain"),
                ("Content-Transfer-Encoding", "7bit"),
            ]
        ),
        *(
            (with_head(f"Date: {value}"), [("date", "bad_header")])
            for value in ["", "now", "Sun Nov 22 22:23:06 UTC 2026", "2026-03-01T12:30:05Z", "Sun, 01 Mar 2026"]
        ),
        *(
            (with_head(f"Message-ID: {value}"), [("message_id", "bad_header")])
            for value in ["", "1@example.org", "<1@example.org", "<a b@c>", "<1@a> <2@a>", "<ü@a>", "<<a@b>>"]
        ),
        (with_head(*["Received: by a; Sun, 01 Mar 2026 12:30:05 +0000"] * 51), [("message", "loop")]),
        (with_head(*(f"X-{number}: a" for number in range(500))), [("head", "too_many")]),
        (with_head(*("X-A: " + "a" * 900 for _ in range(80))), None),
    ],
)
def test_a_message_that_is_not_well_is_refused_with_what_is_wrong(octets, found):
    if found is None:
        assert refused(octets)
    else:
        assert refused(octets) == found


@pytest.mark.parametrize(
    "value",
    [
        *("Sun, 01 Mar 2026 12:30:05 +0000", "1 Mar 2026 12:30 GMT", "Sun, 1 Mar 2026 12:30:05 +0100 (CET)"),
        "Sun,\r\n 01 Mar 2026 12:30:05 -0000",
    ],
)
def test_a_date_that_is_there_stays(value):
    octets = with_head(f"Date: {value}")
    assert handed_in(octets).content == octets.encode()


@pytest.mark.parametrize("value", ["<1@example.org>", "\r\n <1@[192.0.2.1]>", "<no-at-sign>", "<a.b$c%d@host.local>"])
def test_a_message_id_that_is_there_stays(value):
    octets = with_head(f"Message-ID: {value}")
    letter = handed_in(octets)
    assert letter.content == octets.encode()
    assert letter.message_id == value.strip()


def test_everything_that_is_wrong_is_said_at_once():
    octets = with_head("From: x", "To: x", "Date: x", "Message-ID: x", "bad", "Content-Type: x", body="x" * 999)
    assert {field for field, _ in refused(octets, sender="x")} == {
        *("from", "to", "date", "message_id", "head", "message", "sender"),
    }


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        (Bounds(size=len(WHOLE) - 1), ("message", "too_large")),
        (Bounds(head=len(HEAD) - 1), ("head", "too_large")),
        (Bounds(headers=4), ("head", "too_many")),
        (Bounds(recipients=0), ("recipients", "too_many")),
    ],
)
def test_every_bound_holds(bounds, found):
    allowance = Allowance(sender_account="pki@example.org", sender_name="PKI", bounds=bounds)
    assert found in refused(WHOLE, allowance)
    script = WHOLE.replace(b"\r\n", b"\n")
    assert found in refused(script, allowance)


# --- Beyond ASCII --------------------------------------------------------------------------------------------


def test_text_beyond_ascii_in_a_head_is_encoded_so_that_any_relay_takes_it():
    head = ("Subject: Größe und\r\n Gewicht", "To: Jürgen <ops@bücher.example>, b@example.org", "X-Note: 漢字")
    letter = handed_in(with_head(*head))
    assert letter.content.isascii()
    assert not letter.needs_smtputf8
    found = parsed(letter.content)
    assert found["Subject"] == "Größe und Gewicht"
    assert [str(one) for one in found["To"].addresses] == [
        "Jürgen <ops@xn--bcher-kva.example>",
        "b@example.org",
    ]
    assert found["X-Note"] == "漢字"
    assert handed_in(letter.content).content == letter.content


@pytest.mark.parametrize(
    "lines",
    [
        ("To: jürgen@example.org",),
        ("Subject: Grüße", "DKIM-Signature: v=1; b=x"),
        ("Subject: =?utf-8?q?a?= Grüße",),
        ("In-Reply-To: <ü@example.org>",),
        ("To: Leute: ops@example.org, jö@example.org;",),
    ],
)
def test_a_head_that_cannot_be_encoded_stays_and_needs_smtputf8(lines):
    octets = with_head(*lines)
    letter = handed_in(octets)
    assert letter.content.decode() == octets
    assert letter.needs_smtputf8


def test_a_recipient_that_only_the_envelope_names_can_need_smtputf8():
    assert handed_in(WHOLE, recipients=["jürgen@example.org"]).needs_smtputf8
    letter = handed_in(with_head("Bcc: jürgen@example.org"))
    assert letter.needs_smtputf8
    assert letter.content == WHOLE


def test_text_that_says_nothing_of_itself_is_said_to_be_utf8_if_it_is():
    letter = handed_in(with_head(body="Grüße\n".replace("\n", "\r\n")))
    assert letter.needs_8bit
    assert not letter.needs_smtputf8
    assert parsed(letter.content).get_content() == "Grüße\r\n"
    assert refused(with_head(body="Grüße\r\n").encode("latin-1")) == [("body", "bad_charset")]
    said = with_head("Content-Type: text/plain; charset=iso-8859-1", body="Grüße\r\n").encode("latin-1")
    assert handed_in(said).content == said


# --- Parts ---------------------------------------------------------------------------------------------------


def mixed(*parts: str, boundary: str = "b", after: str = "--b--\r\n", kind: str = "mixed") -> str:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + after
    return with_head("MIME-Version: 1.0", f'Content-Type: multipart/{kind}; boundary="{boundary}"', body=body)


def nested(levels: int) -> str:
    inner = "Content-Type: text/plain\r\n\r\nHello\r\n"
    for level in range(levels):
        inner = f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n{inner}\r\n--b{level}--\r\n"
    return with_head(body="")[:-2] + inner


GOOD = "Content-Type: text/plain\r\n\r\nHello"


@pytest.mark.parametrize(
    "octets",
    [
        mixed(GOOD),
        mixed(GOOD, "\r\nno head", "Content-Type: text/plain", "", GOOD + "\r\n--bx\r\n-- b\r\n--b-\r\n"),
        mixed(GOOD, after="--b--  \t\r\nepilogue\r\n--b\r\n"),
        mixed(GOOD, boundary='b" ; charset="x'.replace('"', "'")).replace("boundary=\"b' ; charset='x\"", "boundary=b"),
        mixed(f"Content-Type: message/rfc822\r\n\r\n{HEAD}\r\nHello"),
        mixed("\r\nSubject: x\r\n\r\nHello", kind="digest"),
        nested(48),
    ],
)
def test_parts_that_are_well_stay_as_they_are(octets):
    assert handed_in(octets).content == octets.encode()
    assert not [part.defects for part in parsed(octets.encode()).walk() if part.defects]


@pytest.mark.parametrize(
    "octets",
    [
        mixed(GOOD, after=""),
        mixed(GOOD, after="--b-- x\r\n"),
        mixed(GOOD, boundary="other"),
        mixed(GOOD, boundary=""),
        mixed(GOOD, boundary="x" * 71),
        mixed("Hello\r\n\r\nno head"),
        mixed("Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nHello"),
        mixed("Content-Type: text\r\n\r\nHello"),
        mixed("Content-Transfer-Encoding: binary\r\n\r\nHello"),
        mixed("Content-Transfer-Encoding: base64\r\n\r\nGrüße"),
        mixed("Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\nHello"),
        with_head("Content-Type: multipart/mixed"),
        with_head("Content-Type: multipart/mixed; boundary=a; boundary=b", body="--a\r\n\r\n--a--\r\n"),
        with_head("Content-Type: multipart/mixed; boundary*0=a", body="--a\r\n\r\n--a--\r\n"),
        with_head("Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64", body="LS1i\r\n"),
        with_head("Content-Type: text"),
        with_head("Content-Type:"),
        with_head("Content-Transfer-Encoding: binary"),
        with_head("Content-Transfer-Encoding: quoted-printable", body="Grüße\r\n"),
        nested(50),
        mixed(*["\r\nx"] * 1001),
        mixed(GOOD + "\r\n--bx" * 3000),
    ],
)
def test_parts_that_cannot_be_told_apart_are_refused(octets):
    assert refused(octets) == [("message", "bad_mime")]


def test_a_file_name_beyond_ascii_in_a_part_needs_smtputf8():
    assert handed_in(mixed('Content-Disposition: attachment; filename="ü"\r\n\r\nHello')).needs_smtputf8


# --- Seven bits ----------------------------------------------------------------------------------------------


def leaves(content: bytes) -> list[tuple[str, bytes | None]]:
    return [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in email.message_from_bytes(content).walk()
        if not part.is_multipart()
    ]


@pytest.mark.parametrize(
    "octets",
    [
        with_head(body="Grüße \r\n.\r\nxxx=\r\n"),
        with_head("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding:\r\n 8bit", body="漢字\r\n"),
        mixed("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße"),
        mixed(GOOD, "\r\n" + "x" * 74 + "--b\r\nü", "Content-Type: application/octet-stream\r\n\r\nü--b\r\n\r\n"),
        mixed(f"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{HEAD}\r\nGrüße"),
        mixed(GOOD, "\r\nü", after="--b--\r\nepilögue\r\n"),
    ],
)
def test_every_part_of_a_message_in_seven_bits_says_the_same(octets):
    letter = handed_in(octets)
    assert letter.needs_8bit
    narrowed = seven_bit(letter.content)
    assert narrowed is not None
    assert narrowed.isascii()
    assert all(len(line) <= 998 for line in narrowed.split(b"\r\n"))
    assert leaves(narrowed) == leaves(letter.content)
    again = handed_in(narrowed)
    assert again.content == narrowed
    assert not again.needs_8bit


@pytest.mark.parametrize(
    "octets",
    [
        with_head("DKIM-Signature: v=1; b=x", "Content-Type: text/plain; charset=utf-8", body="Grüße\r\n"),
        mixed("\r\nGrüße", kind="signed"),
        with_head("Content-Type: message/partial", body="Grüße\r\n"),
        with_head("Content-Transfer-Encoding: x-uuencode", body="Grüße\r\n"),
        with_head("To: jürgen@example.org"),
    ],
)
def test_what_is_signed_or_may_not_be_encoded_has_no_seven_bits(octets):
    assert seven_bit(handed_in(octets).content) is None


@pytest.mark.parametrize("place", range(70, 80))
def test_no_line_of_a_part_in_seven_bits_becomes_a_boundary(place):
    letter = handed_in(mixed("\r\n" + "x" * place + "--b\r\nü"))
    narrowed = seven_bit(letter.content)
    assert narrowed is not None
    assert leaves(narrowed) == leaves(letter.content)


PIECES = ["a", "ü", "漢", " ", "=", "--b", "--b--", "--", "\r\n", ".", "x" * 75, "From ", "\t"]
bodies = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["text/plain", "application/x"]), bodies), min_size=1, max_size=3))
def test_parts_are_told_apart_as_others_do_and_seven_bits_change_none(parts):
    octets = mixed(*(f"Content-Type: {kind}\r\n\r\n{body}" for kind, body in parts)).encode()
    before = leaves(octets)
    letter, violations = letter_or_violations(octets)
    assert {violation.code for violation in violations} <= {"bad_mime", "long_line"}
    if letter is None:
        return
    narrowed = seven_bit(letter.content)
    if narrowed is not None:
        assert narrowed.isascii()
        assert leaves(narrowed) == before


# --- What EmailMessage writes is well ------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60)


@settings(max_examples=200)
@given(
    words,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=300),
    st.binary(),
    st.booleans(),
)
def test_what_emailmessage_writes_is_taken_as_it_is(subject, text, octets, eight_bit):
    written = EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit" if eight_bit else "7bit"))
    written["From"], written["To"] = "PKI <pki@example.org>", "ops@example.org, Ops <b@example.org>"
    written["Subject"], written["Date"], written["Message-ID"] = subject, NOW, "<1@example.org>"
    written.set_content(text)
    written.add_attachment(octets, maintype="application", subtype="x", filename="a.bin")
    content = written.as_bytes()
    assume(content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r"))
    letter = handed_in(content)
    assert letter.content == content
    assert letter.envelope.recipients == ("ops@example.org", "b@example.org")


@settings(max_examples=500)
@given(
    st.lists(st.sampled_from([*HEAD.splitlines(keepends=True), *PIECES, "\n", "\r", ":", "Bcc: x@y\r\n", "\0"])).map(
        "".join
    )
)
def test_whatever_is_handed_in_there_is_a_letter_or_an_answer(octets):
    letter, violations = letter_or_violations(octets)
    if letter is None:
        assert violations
        assert all("{field}" in violation.message for violation in violations)
        return
    found = parsed(letter.content)
    assert found["Bcc"] is None
    assert found["Message-ID"] == letter.message_id
    assert found["Date"] is not None
    assert [one.addr_spec for one in found["From"].addresses] == ["pki@example.org"]


@pytest.mark.parametrize(
    "octets",
    [
        with_head(body="--b\n" * 200_000),
        mixed("\r\n" + "\r\n--bx" * 100_000),
        with_head("To: " + ", ".join(["(" * 15 + ")" * 15 + "a@example.org"] * 20)),
        with_head("X-A: a" + "\r\n a" * 15_000),
        with_head("Content-Type: multipart/mixed" + '; a="b' * 120),
        with_head("Content-Type: multipart/mixed" + ";  " * 300),
    ],
)
def test_no_message_takes_long_to_be_read(octets):
    def once() -> None:
        with suppress(BadInput):
            handed_in(octets)

    assert min(timeit.repeat(once, number=1, repeat=3)) < 1


def test_names_are_read_without_their_quotes():
    assert read_mailboxes('"Doe, \\"J.\\"" x <j@example.org>') == [Mailbox("j@example.org", 'Doe, "J." x')]


@pytest.mark.parametrize(
    "head",
    [
        b"a" * 60_000,
        b"a:" * 30_000 + b"\x01",
        b"From: pki@example.org\r\nTo: a@example.org\r\nContent-Type: multipart/mixed; boundary=x"
        + (b'\r\n x="' + b'\\"' * 450) * 60,
    ],
    ids=["a name without end", "many colons", "quotes without end"],
)
def test_a_head_made_to_be_searched_for_ever_is_refused_at_once(head):
    """Half a minute each, when what is no header was looked at from every octet of it."""
    began = time.thread_time()
    with pytest.raises(BadInput):
        handed_in(head + b"\r\n\r\n--x\r\n\r\nhi\r\n--x--\r\n")
    assert time.thread_time() - began < 2


def test_a_quote_that_does_not_end_can_be_read_in_two_ways():
    head = b'From: pki@example.org\r\nTo: a@example.org\r\nContent-Type: multipart/mixed; boundary=x; y="z'
    with pytest.raises(BadInput, match="quote"):
        handed_in(head + b"\r\n\r\n--x\r\n\r\nhi\r\n--x--\r\n")
