"""Building the bytes of a message (RFC 5322, and MIME: RFC 2045 to 2047).

The same message always gives the same bytes, so a second attempt hands over what the first one did. The boundary of a
multipart can be a constant, because no encoded part can hold it: see ``_encoded``.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from itertools import chain

from keyrelay.errors import BadInput, Violation
from keyrelay.profile.addresses import control_character, envelope_address
from keyrelay.relay import headers
from keyrelay.relay.headers import Mailbox, mostly_plain
from keyrelay.relay.model import Content
from keyrelay.secrets.model import has_control

_BODY_LINE = 78  # RFC 5322 section 2.1.1
_DIGITS_LINE = 76  # RFC 2045 section 6.8
_DIGITS_PIECE = _DIGITS_LINE * 4096
_FILE_NAME_OCTETS = 255
_LONGEST_WORD = 900  # of a header that is never encoded: with its name it fits on a line

_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,128}@[!-;=?A-~]{1,255}>")
_HEADER_NAME = re.compile(rf"[!-9;-~]{{1,{headers.LONGEST_NAME}}}")
_OUR_HEADERS = re.compile(
    r"from|sender|reply-to|to|cc|bcc|subject|date|message-id|mime-version|return-path|received"
    r"|(content|resent|dkim|arc)-.*",
    re.IGNORECASE,
)
_STRUCTURED = re.compile(r"in-reply-to|references|list-.*", re.IGNORECASE)  # a word of theirs is never encoded
_MEDIA_TYPE = re.compile(
    r"(?!multipart/|message/)[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(; ?charset=[\w.:+-]{1,40})?",
    re.ASCII | re.IGNORECASE,
)

_NAMED = {"to": "To", "cc": "Cc", "reply_to": "Reply-To"}
_FILE_NAME = re.compile(r"(?!\.{1,2}$|\s)[^/\\]+(?<!\s)")
_PLAIN = bytes([*range(0x20, 0x7F), 0x09, 0x0A])
_BOUNDARY = "=_keyrelay_alternative"
_OUTER_BOUNDARY = "=_keyrelay_mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that goes with a message: ``base64`` are the digits of its octets (RFC 4648 section 4), without spaces."""

    name: str
    media_type: str = "application/octet-stream"
    base64: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be said and to whom.

    A recipient is an address, or a Mailbox where it has a name; those of ``bcc`` get the message and are not named in
    it. ``date`` is aware. Without ``text`` there is only the HTML. ``headers`` are further headers of free text, such
    as Auto-Submitted (RFC 3834); none of those that are built from the other fields.
    """

    sender_name: str
    sender_account: str
    to: tuple[Mailbox | str, ...] = ()
    cc: tuple[Mailbox | str, ...] = ()
    bcc: tuple[Mailbox | str, ...] = ()
    reply_to: tuple[Mailbox | str, ...] = ()
    subject: str
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    message_id: str
    date: datetime
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """The bytes of a message, who gets it, and what the relay must offer to take it.

    ``sender`` and ``recipients`` are what the relay is told, each once. Lines of ``content`` have at most 998 octets.
    ``needs_smtputf8``: an address has characters outside ASCII (RFC 6531); only then the content may have.
    """

    content: Content
    needs_smtputf8: bool
    sender: str
    recipients: tuple[str, ...]


def new_message_id(domain_of: str) -> str:
    """A new Message-ID at the domain of the address ``domain_of``. Raises BadInput if that is no address."""
    return f"<{secrets.token_hex(16)}@{_domain(domain_of)}>"


@lru_cache(maxsize=256)
def _domain(address: str) -> str:
    return envelope_address(address)[0].rpartition("@")[2]


def build(message: Message) -> Built:
    """Build the bytes of a message.

    Raises BadInput with every violation; the fields are those of Message.
    """
    told = _checked(message)
    (sender,) = told["sender_account"]
    recipients = distinct(box.address for of in ("to", "cc", "bcc") for box in told[of])
    named = [headers.mailboxes(name, told[of]) for of, name in _NAMED.items() if told[of]]
    if not (told["to"] or told["cc"]):
        named.insert(0, "To: undisclosed-recipients:;")
    head = [
        headers.author("From", sender),
        *named,
        headers.free_text("Subject", message.subject),
        f"Date: {format_datetime(message.date)}",
        f"Message-ID: {message.message_id}",
        *(_further(name, value) for name, value in message.headers),
        "MIME-Version: 1.0",
    ]
    content = Content(b"".join(["\r\n".join(head).encode(), b"\r\n", *_body(message)]))
    foreign = not (content.isascii() and sender.address.isascii() and all(map(str.isascii, recipients)))
    return Built(content, foreign, sender.address, recipients)


def distinct(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses, each once; in a domain, case means nothing (RFC 5321 section 2.4)."""
    seen: dict[tuple[str, str], str] = {}
    for address in addresses:
        local, _, domain = address.rpartition("@")
        seen.setdefault((local, domain.lower()), address)
    return tuple(seen.values())


# --- What may be said ----------------------------------------------------------------------------------------


def _checked(message: Message) -> dict[str, list[Mailbox]]:
    """The mailboxes of each field, their addresses as the relay is told them."""
    if message.date.tzinfo is None:
        raise ValueError("the date of a message is aware")
    found = list(_violations(message))
    told: dict[str, list[Mailbox]] = {}
    for of, boxes in _mailboxes(message).items():
        told[of] = []
        for box in boxes:
            try:
                told[of].append(Mailbox(envelope_address(box.address, field=of)[0], box.name))
            except BadInput as bad:
                found.extend(bad.violations)
    if found:
        raise BadInput(tuple(found))
    return told


def _mailboxes(message: Message) -> dict[str, list[Mailbox]]:
    given = {"to": message.to, "cc": message.cc, "bcc": message.bcc, "reply_to": message.reply_to}
    return {
        "sender_account": [Mailbox(message.sender_account, message.sender_name)],
        **{of: [Mailbox(one) if isinstance(one, str) else one for one in boxes] for of, boxes in given.items()},
    }


def _violations(message: Message) -> Iterator[Violation]:
    for of, text in (("sender_name", message.sender_name), ("subject", message.subject)):
        if _has_control(text):
            yield control_character(of)
    yield from _recipient_violations(message)
    for of, body in (("text", message.text or ""), ("html", message.html or "")):
        if "\0" in body or not _is_unicode(body):
            yield Violation(of, "control_character", "{field} holds a NUL or half a character.")
    if not _MESSAGE_ID.fullmatch(message.message_id):
        yield Violation("message_id", "bad_header", "{field} is not a Message-ID such as <1@example.org>.")
    for name, value in message.headers:
        yield from _header_violations(name, value)
    for attachment in message.attachments:
        yield from _attachment_violations(attachment)


def _recipient_violations(message: Message) -> Iterator[Violation]:
    for of, boxes in _mailboxes(message).items():
        if of != "sender_account" and any(_has_control(box.name) for box in boxes):
            yield control_character(of)
    if not (message.to or message.cc or message.bcc):
        yield Violation("to", "missing", "{field} is required.")


def _header_violations(name: str, value: str) -> Iterator[Violation]:
    if not _HEADER_NAME.fullmatch(name) or _OUR_HEADERS.fullmatch(name):
        yield Violation(
            "headers",
            "bad_header",
            "{field} has a name that is no header's, one that is too long, or one that is set by another field.",
        )
    if _has_control(value):
        yield control_character("headers")
    elif _STRUCTURED.fullmatch(name) and not (
        value.isascii() and all(0 < len(word) <= _LONGEST_WORD for word in value.split(" "))
    ):
        yield Violation("headers", "bad_header", "{field} has a " + name + " that is not plain words with one space.")


def _attachment_violations(attachment: Attachment) -> Iterator[Violation]:
    name = attachment.name
    if _has_control(name):
        yield control_character("attachments")
    elif not 0 < len(name.encode()) <= _FILE_NAME_OCTETS or not _FILE_NAME.fullmatch(name):
        said = f"{{field}} needs for each file a plain name of at most {_FILE_NAME_OCTETS} bytes, without folders."
        yield Violation("attachments", "bad_name", said)
    if not _MEDIA_TYPE.fullmatch(attachment.media_type):
        yield Violation(
            "attachments", "bad_media_type", "{field} has a type that is none of a file, such as application/pdf."
        )
    if not _is_base64(attachment.base64):
        yield Violation("attachments", "bad_base64", "{field} has content that is not base64 (RFC 4648 section 4).")


def _is_base64(digits: str) -> bool:
    padding = digits.find("=")
    if 0 <= padding < len(digits) - 2:
        return False
    try:
        for at in range(0, len(digits), _DIGITS_PIECE):
            binascii.a2b_base64(digits[at : at + _DIGITS_PIECE], strict_mode=True)
    except ValueError:
        return False
    return True


def _has_control(text: str) -> bool:
    return not text.isprintable() and has_control(text)  # the first is quick and sees more than is wrong


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- Body ----------------------------------------------------------------------------------------------------


def _further(name: str, value: str) -> str:
    return headers.folded(name, value.split(" ")) if _STRUCTURED.fullmatch(name) else headers.free_text(name, value)


def _body(message: Message) -> Iterator[bytes]:
    """The body with the headers that describe it, in pieces."""
    texts = [("plain", message.text)] if message.text is not None or message.html is None else []
    if message.html is not None:
        texts.append(("html", message.html))
    parts = [_text_part(subtype, text or "") for subtype, text in texts]
    said = parts if len(parts) == 1 else list(_multipart("alternative", _BOUNDARY, parts))
    if not message.attachments:
        return iter(said)
    return _multipart("mixed", _OUTER_BOUNDARY, [b"".join(said)], map(_file_part, message.attachments))


def _multipart(
    subtype: str, boundary: str, parts: Iterable[bytes], files: Iterable[Iterable[bytes]] = ()
) -> Iterator[bytes]:
    start = f"--{boundary}\r\n".encode()
    yield f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n\r\n'.encode()
    for pieces in chain(([part] for part in parts), files):
        yield start
        yield from pieces
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _file_part(attachment: Attachment) -> Iterator[bytes]:
    """The digits as they were given, on lines, piece by piece: a large file is not decoded and encoded again."""
    yield (
        f"Content-Type: {attachment.media_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"{headers.attachment(attachment.name)}\r\n\r\n"
    ).encode()
    for at in range(0, len(attachment.base64), _DIGITS_PIECE):
        yield on_lines(attachment.base64[at : at + _DIGITS_PIECE].encode("ascii"))


def _text_part(subtype: str, text: str) -> bytes:
    encoding, octets = _encoded(text)
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + octets


def _encoded(text: str) -> tuple[str, bytes]:
    """How a text travels, and its octets: as it is if it survives that, else encoded (RFC 2045 section 6).

    Spaces at the end of a line do not survive every relay. ``=_`` begins the boundary; neither encoding writes it.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n"):
        text += "\n"
    octets = text.encode()
    foreign = len(octets.translate(None, _PLAIN))
    if (
        not foreign
        and not any(trap in text for trap in (" \n", "\t\n", "=_"))
        and max(map(len, text.split("\n"))) <= _BODY_LINE
    ):
        return "7bit", octets.replace(b"\n", b"\r\n")
    if mostly_plain(foreign, len(octets)):
        return "quoted-printable", binascii.b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    digits = binascii.b2a_base64(octets.replace(b"\n", b"\r\n"), newline=False)
    return "base64", on_lines(digits)


def on_lines(digits: bytes) -> bytes:
    """Base64 as a body has it: lines of 76 digits (RFC 2045 section 6.8)."""
    return b"".join(digits[at : at + _DIGITS_LINE] + b"\r\n" for at in range(0, len(digits), _DIGITS_LINE))
