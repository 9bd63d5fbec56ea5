from __future__ import annotations

import dataclasses
import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keyrelay.errors import BadInput, Violation
from keyrelay.profile.addresses import envelope_address
from keyrelay.relay.message import Built, Message, build, new_message_id
from keyrelay.secrets.model import has_control

MESSAGE = Message(
    sender_name="PKI",
    sender_account="pki@example.org",
    to=("ops@example.org",),
    subject="Test",
    text="Hello\n",
    message_id="<1@example.org>",
    date=datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC),
)

FAMILY = "👨‍👩‍👧‍👦"
ARABIC = "\u202b\u062a\u0646\u062a\u0647\u064a \u0627\u0644\u0634\u0647\u0627\u062f\u0629\u202c"


def built(**changes: Any) -> Built:
    return build(dataclasses.replace(MESSAGE, **changes))


def parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def lines(content: bytes) -> list[bytes]:
    assert content.endswith(b"\r\n")
    return content[:-2].split(b"\r\n")


def head(content: bytes) -> list[str]:
    return content.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def refused(**changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        built(**changes)
    return [(violation.field, violation.code) for violation in caught.value.violations]


# --- What EmailMessage reads is what was meant ---------------------------------------------------------------

# Plain words, and everything that has ever upset a mail program.
PIECES = [
    *"aZ09 .,;:@<>()[]\\\"'=?_-+/%&\t\n\r\x0b\x0c\x1b\x7f\x85\u2028\u200b\u200fäß€漢",
    *("  ", "\r\n", "\n.\n", ".", "\r\n.\r\n", "=?utf-8?q?a?=", "=?", "?=", "=_", "=_keyrelay_alternative"),
    *("--=_keyrelay_alternative--\r\n", "\nFrom ", "Bcc: a@example.org", FAMILY, ARABIC, "x" * 80, "é" * 80, "y " * 50),
]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
header_texts = texts.map(lambda text: "".join(character for character in text if not has_control(character)))

LOCALS = [
    "a",
    "pki",
    "first.last+tag",
    "o'brien",
    "{x}~!#$%&*/=?^`|".replace("=?", "="),
    "x" * 64,
    "jürgen",
    "用户",
    "ё" * 32,
]
DOMAINS = ["example.org", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost", "a_b.example"]
addresses = st.builds("{}@{}".format, st.sampled_from(LOCALS), st.sampled_from([*DOMAINS, ".".join(["x" * 60] * 4)]))
dates = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
messages = st.builds(
    Message,
    sender_name=header_texts,
    sender_account=addresses,
    to=st.lists(addresses, min_size=1, max_size=5).map(tuple),
    subject=header_texts,
    text=texts,
    html=st.none() | texts,
    message_id=addresses.map(new_message_id),
    date=dates,
    headers=st.lists(st.tuples(st.sampled_from(["Auto-Submitted", "X-A"]), header_texts), max_size=1).map(tuple),
)


@settings(max_examples=500)
@given(messages)
@example(dataclasses.replace(MESSAGE, sender_name="A  B", subject=" a  b ", text="-- \n.\n\n", html=""))
@example(dataclasses.replace(MESSAGE, sender_name=FAMILY * 20, subject=ARABIC * 20, text="x" * 5000, html="é" * 5000))
def test_what_emailmessage_reads_is_what_was_meant(message):
    result = build(message)
    read = parsed(result.content)

    (sender,) = read["From"].addresses
    assert spec(sender) == envelope_address(message.sender_account)[0]
    assert name_read(result.content) == message.sender_name
    # EmailMessage itself joins encoded words of a name with a space and shortens rows of spaces (Python 3.11).
    assert sender.display_name.replace(" ", "") == message.sender_name.replace(" ", "")
    assert [spec(one) for one in read["To"].addresses] == [envelope_address(one)[0] for one in message.to]
    assert str(read["Subject"]) == message.subject
    assert read["Date"].datetime == message.date.replace(microsecond=0)
    assert read["Message-ID"] == message.message_id
    assert [str(read[name]) for name, _ in message.headers] == [value for _, value in message.headers]
    assert read["MIME-Version"] == "1.0"

    assert said(read.get_body(("plain",))) == normalised(message.text)
    html = read.get_body(("html",))
    assert (None if html is None else said(html)) == (None if message.html is None else normalised(message.html))
    assert len(list(read.walk())) == (1 if message.html is None else 3)
    assert len(read.keys()) == len(set(read.keys())) == 7 + len(message.headers) + (message.html is None)


@settings(max_examples=300)
@given(messages)
def test_lines_end_with_crlf_and_are_short_and_ascii_unless_an_address_is_not(message):
    result = build(message)
    for line in lines(result.content):
        assert b"\r" not in line
        assert b"\n" not in line
        assert b"\0" not in line
        assert len(line) <= 998
    raw_head = result.content.partition(b"\r\n\r\n")[0]
    assert all(len(line.decode()) <= 78 or "@" in line.decode() for line in lines(raw_head + b"\r\n"))
    body = result.content.partition(b"\r\n\r\n")[2]
    assert all(len(line) <= 78 for line in lines(body))
    assert body.isascii()
    needed = any(envelope_address(address)[1] for address in (message.sender_account, *message.to))
    assert result.needs_smtputf8 == needed == (not result.content.isascii())


@given(header_texts, header_texts)
def test_encoded_words_have_at_most_75_characters_and_are_whole_in_themselves(name, subject):
    for line in head(built(sender_name=name, subject=subject).content):
        for word in re.findall(r"=\?utf-8\?[bq]\?[^?]*\?=", line):
            assert len(word) <= 75
            assert len(line) <= 76
            ((octets, charset),) = decode_header(word)
            assert isinstance(octets, bytes)
            octets.decode(charset, "strict")


def name_read(content: bytes) -> str:
    """The sender's name as the older interface reads it, which keeps to RFC 2047 section 6.2."""
    raw = email.message_from_bytes(content, policy=email.policy.compat32)["From"]
    name, _ = parseaddr(str(raw).replace("\r\n", ""))
    return str(make_header(decode_header(name)))


def spec(address) -> str:
    """The address, with UTF-8 in it read as such (the parser keeps its octets)."""
    return address.addr_spec.encode("utf-8", "surrogateescape").decode()


def said(part) -> str:
    return part.get_content().replace("\r\n", "\n")


def normalised(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else text + "\n"


# --- How it looks --------------------------------------------------------------------------------------------


def test_a_plain_message_looks_as_a_person_would_write_it():
    assert built(headers=(("Auto-Submitted", "auto-generated"),)).content.decode() == (
        "From: PKI <pki@example.org>\r\n"
        "To: ops@example.org\r\n"
        "Subject: Test\r\n"
        "Date: Sun, 01 Mar 2026 12:30:05 +0000\r\n"
        "Message-ID: <1@example.org>\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Hello\r\n"
    )


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("PKI", "From: PKI <pki@example.org>"),
        ("PKI mailer", "From: PKI mailer <pki@example.org>"),
        ("Doe, J.", 'From: "Doe, J." <pki@example.org>'),
        ('The "A" \\ team', 'From: "The \\"A\\" \\\\ team" <pki@example.org>'),
        ("Jürgen", "From: =?utf-8?q?J=C3=BCrgen?= <pki@example.org>"),
        ("漢字", "From: =?utf-8?b?5ryi5a2X?= <pki@example.org>"),
        ("a  b", "From: =?utf-8?q?a__b?= <pki@example.org>"),
        ("=?utf-8?q?boss?=", "From: =?utf-8?b?PT91dGYtOD9xP2Jvc3M/PQ==?= <pki@example.org>"),
        ("", "From: <pki@example.org>"),
    ],
)
def test_a_name_is_quoted_or_encoded_only_when_it_has_to_be(name, header):
    assert head(built(sender_name=name).content)[0] == header


def test_a_long_subject_is_folded_at_its_spaces_and_stays_readable():
    subject = "The certificate of www.example.org ends in fourteen days, on the fifteenth of March, at noon"
    start = head(built(subject=subject).content)
    assert start[2:4] == [
        "Subject: The certificate of www.example.org ends in fourteen days, on the",
        " fifteenth of March, at noon",
    ]


def test_many_recipients_are_folded_between_the_addresses():
    to = tuple(f"someone.{number}@example.org" for number in range(20))
    content = built(to=to).content
    assert all(len(line) <= 76 for line in head(content))
    assert [spec(one) for one in parsed(content)["To"].addresses] == list(to)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Hello", "7bit"),
        ("Column\tcolumn\r\n.\r\n", "7bit"),
        ("x" * 78, "7bit"),
        ("x" * 79, "quoted-printable"),
        ("-- \n", "quoted-printable"),
        ("tab at the end\t", "quoted-printable"),
        ("Größe und Gewicht", "quoted-printable"),
        ("\x1b[1mbold text on a terminal", "quoted-printable"),
        ("證書將於十四天後到期", "base64"),
        (FAMILY, "base64"),
    ],
)
def test_the_body_travels_in_the_plainest_way_it_survives(text, encoding):
    read = parsed(built(text=text).content)
    assert read["Content-Transfer-Encoding"] == encoding
    assert said(read) == normalised(text)


def test_no_text_can_end_the_part_it_is_in():
    content = built(text="--=_keyrelay_alternative--\n", html="<p>--=_keyrelay_alternative</p>").content
    assert [part.get_content_type() for part in parsed(content).walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert said(parsed(content).get_body(("plain",))) == "--=_keyrelay_alternative--\n"


def test_the_same_message_has_the_same_bytes():
    assert built(html="<p>Hello</p>") == built(html="<p>Hello</p>")


# --- Addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("pki@example.org", ("pki@example.org", False)),
        ("PKI@Example.ORG", ("PKI@Example.ORG", False)),
        ("pki@Bücher.example", ("pki@xn--bcher-kva.example", False)),
        ("jürgen@bücher.example", ("jürgen@xn--bcher-kva.example", True)),
        ("pki@[192.0.2.1]", ("pki@[192.0.2.1]", False)),
        ("root@localhost", ("root@localhost", False)),
    ],
)
def test_the_relay_is_told_the_domain_in_ascii_and_that_smtputf8_is_needed_for_the_rest(address, told):
    assert envelope_address(address) == told


@pytest.mark.parametrize(
    "address",
    [
        *("", "pki", "@example.org", "pki@", "a b@example.org", "a@b@example.org", "a@example.org, b@example.org"),
        *("<a@example.org>", "a..b@example.org", ".a@example.org", "a@.example.org", "a@example..org", "a@-a.example"),
        *('"a b"@example.org', "a\\b@example.org", "a(b)@example.org", "x" * 65 + "@example.org", "a@" + "x" * 64),
        *("a@" + "x." * 127 + "org", "ü" * 33 + "@example.org", "a\u00a0b@example.org", "a\u202eb@example.org"),
        *(
            "=?utf-8?q?a?=@example.org",
            "a@ex ample.org",
            "a@[192.0.2.1",
            "a@[evil> SIZE=1]",
            "a@exa\u2024\u2024mple.org",
        ),
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(address):
    with pytest.raises(BadInput) as caught:
        envelope_address(address, field="to")
    assert caught.value.violations == (
        Violation("to", "bad_address", "{field} is not an e-mail address such as pki@example.org."),
    )


CONTROLS = ["\r", "\n", "\r\n", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("field", ["sender_name", "sender_account", "to", "subject", "headers", "message_id"])
def test_a_control_character_anywhere_in_a_header_is_refused(field, control):
    values = {
        "sender_name": f"PKI{control}Bcc: everybody@example.org",
        "sender_account": f"pki{control}@example.org",
        "to": (f"ops@example.org{control}",),
        "subject": f"Test{control}Bcc: everybody@example.org",
        "headers": (("X-A", f"a{control}Bcc: everybody@example.org"),),
        "message_id": f"<1{control}@example.org>",
    }
    codes = {"message_id": "bad_header"}
    assert refused(**{field: values[field]}) == [(field, codes.get(field, "control_character"))]


@pytest.mark.parametrize("field", ["text", "html"])
@pytest.mark.parametrize("wrong", ["\0", "\ud800"])
def test_a_body_with_a_nul_or_half_a_character_is_refused(field, wrong):
    assert refused(**{field: f"a{wrong}b"}) == [(field, "control_character")]


@pytest.mark.parametrize("name", ["", "From", "bCC: x\r\nX", "Content-Type", "subject", "X A", "X:A", "Ümlaut"])
def test_a_further_header_is_none_of_ours_and_has_a_name_that_can_be_one(name):
    assert refused(headers=((name, "a"),)) == [("headers", "bad_header")]


def test_everything_that_is_wrong_is_said_at_once():
    found = refused(sender_name="\n", sender_account="x", to=(), subject="\r", text="\0", message_id="")
    assert {field for field, _ in found} == {"sender_name", "sender_account", "to", "subject", "text", "message_id"}


def test_a_date_without_a_zone_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="aware"):
        built(date=datetime(2026, 3, 1))  # noqa: DTZ001


# --- Message-IDs ---------------------------------------------------------------------------------------------


def test_a_message_id_is_new_each_time_at_the_domain_of_the_sender_and_ascii():
    ids = {new_message_id("jürgen@bücher.example") for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"<[0-9a-f]{32}@xn--bcher-kva\.example>", one) for one in ids)


def test_a_message_id_needs_an_address():
    with pytest.raises(BadInput):
        new_message_id("nobody")
