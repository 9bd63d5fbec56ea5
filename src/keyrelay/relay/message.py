"""Building the bytes of a message (RFC 5322, and MIME: RFC 2045 to 2047).

The same message always gives the same bytes, so a second attempt hands over what the first one did. The boundary of a
multipart can be a constant, because no encoded part can hold it: see ``_encoded``.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from keyrelay.errors import BadInput, Violation
from keyrelay.profile.addresses import control_character, envelope_address
from keyrelay.relay.model import Content
from keyrelay.secrets.model import has_control

_LINE = 76  # characters of a header line that holds an encoded word (RFC 2047 section 2); the others may have 78
_WORD = 75  # characters of an encoded word, and of any other that is not encoded
_FIRST_WORD = 50  # the same for the first one, which has the header's name before it
_AROUND = len("=?utf-8?q??=")
_BODY_LINE = 78  # RFC 5322 section 2.1.1

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"  # RFC 5322 section 3.2.3
_ATOMS = re.compile(rf"{_ATEXT}+( {_ATEXT}+)*")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]{1,128}@[!-;=?A-~]{1,255}>")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,24}")  # beside it there is room for the first word
_OUR_HEADERS = {"from", "to", "subject", "date", "message-id", "mime-version"}

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 section 5 (3)
_PLAIN = bytes([*range(0x20, 0x7F), 0x09, 0x0A])
_BOUNDARY = "=_keyrelay_alternative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be said and to whom.

    ``to`` are plain addresses without names. ``date`` is aware. ``headers`` are further headers of free text, such as
    Auto-Submitted (RFC 3834); none of those that are built from the other fields.
    """

    sender_name: str
    sender_account: str
    to: tuple[str, ...]
    subject: str
    text: str
    html: str | None = None
    message_id: str
    date: datetime
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """The bytes of a message, and what the relay must offer to take them.

    Lines of ``content`` have at most 998 octets. ``needs_smtputf8``: an address has characters outside ASCII (RFC
    6531); only then the content has.
    """

    content: Content
    needs_smtputf8: bool


def new_message_id(domain_of: str) -> str:
    """A new Message-ID at the domain of the address ``domain_of``. Raises BadInput if that is no address."""
    address, _ = envelope_address(domain_of)
    return f"<{secrets.token_hex(16)}@{address.rpartition('@')[2]}>"


def build(message: Message) -> Built:
    """Build the bytes of a message.

    Raises BadInput with every violation; the fields are those of Message.
    """
    sender, *recipients = _checked(message)
    head = [
        _header("From", [*_phrase(message.sender_name), f"<{sender}>"]),
        _header("To", [f"{address}," for address in recipients[:-1]] + recipients[-1:]),
        _header("Subject", _free_text(message.subject)),
        f"Date: {format_datetime(message.date)}",
        f"Message-ID: {message.message_id}",
        *(_header(name, _free_text(value)) for name, value in message.headers),
        "MIME-Version: 1.0",
    ]
    content = "\r\n".join(head).encode() + b"\r\n" + _body(message)
    return Built(Content(content), needs_smtputf8=not all(address.isascii() for address in (sender, *recipients)))


# --- What may be said ----------------------------------------------------------------------------------------


def _checked(message: Message) -> list[str]:
    """The sender's address and the recipients', as the relay is told them."""
    if message.date.tzinfo is None:
        raise ValueError("the date of a message is aware")
    found = list(_violations(message))
    addresses = []
    for field, address in [("sender_account", message.sender_account), *(("to", address) for address in message.to)]:
        try:
            addresses.append(envelope_address(address, field=field)[0])
        except BadInput as bad:
            found.extend(bad.violations)
    if found:
        raise BadInput(tuple(found))
    return addresses


def _violations(message: Message) -> Iterator[Violation]:
    for field, text in (("sender_name", message.sender_name), ("subject", message.subject)):
        if _has_control(text):
            yield control_character(field)
    if not message.to:
        yield Violation("to", "missing", "{field} is required.")
    for field, body in (("text", message.text), ("html", message.html or "")):
        if "\0" in body or not _is_unicode(body):
            yield Violation(field, "control_character", "{field} holds a NUL or half a character.")
    if not _MESSAGE_ID.fullmatch(message.message_id):
        yield Violation("message_id", "bad_header", "{field} is not a Message-ID such as <1@example.org>.")
    for name, value in message.headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OUR_HEADERS or name.lower().startswith("content-"):
            yield Violation("headers", "bad_header", "{field} has a name that is no header's, or one of our own.")
        if _has_control(value):
            yield control_character("headers")


def _has_control(text: str) -> bool:
    return not text.isprintable() and has_control(text)  # the first is quick and sees more than is wrong


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- Headers -------------------------------------------------------------------------------------------------


def _header(name: str, words: list[str]) -> str:
    """A header, folded before the words that do not fit on the line (RFC 5322 section 2.2.3)."""
    first, *others = words or [""]
    lines = [f"{name}: {first}".rstrip()]  # some readers take the space of an early fold for one of the text
    for word in others:
        if len(lines[-1]) + 1 + len(word) > _LINE:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


def _free_text(text: str) -> list[str]:
    """The words of a header that is free text."""
    words = text.split(" ")
    fitting = len(words[0]) <= _FIRST_WORD and all(0 < len(word) <= _WORD for word in words)
    if text == "" or (text.isascii() and "=?" not in text and fitting):
        return words
    return list(_encoded_words(text))


def _phrase(name: str) -> list[str]:
    """The words of a name before an address (RFC 5322 section 3.2.5)."""
    if name == "":
        return []
    if name.isascii() and "=?" not in name and len(name) <= _FIRST_WORD and " ".join(name.split()) == name:
        if _ATOMS.fullmatch(name):
            return [name]
        return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return list(_encoded_words(name))


def _encoded_words(text: str) -> Iterator[str]:
    """The text as encoded words (RFC 2047), none of them split within a character."""
    quoted = [_quoted(character) for character in text]
    foreign = sum(len(piece) // 3 for piece in quoted)
    if _mostly_plain(foreign, len(text.encode())):
        for word in _grouped(quoted, _FIRST_WORD - _AROUND, _WORD - _AROUND):
            yield f"=?utf-8?q?{word}?="
        return
    # Base64 makes four characters of three octets.
    for word in _grouped(text, (_FIRST_WORD - _AROUND) // 4 * 3, (_WORD - _AROUND) // 4 * 3):
        yield f"=?utf-8?b?{binascii.b2a_base64(word.encode(), newline=False).decode('ascii')}?="


def _quoted(character: str) -> str:
    if character in _SAFE:
        return character
    return "_" if character == " " else "".join(f"={octet:02X}" for octet in character.encode())


def _mostly_plain(foreign: int, octets: int) -> bool:
    """Whether so many octets that need three characters each leave the text readable; base64 makes 4 of 3."""
    return foreign * 3 <= octets


def _grouped(pieces: Iterable[str], first: int, most: int) -> Iterator[str]:
    """Join pieces to groups of at most so many octets: as many as ``first`` in the first, then ``most``."""
    room = first
    group = ""
    for piece in pieces:
        octets = len(piece.encode())
        if octets > room:
            yield group
            group, room = "", most
        group += piece
        room -= octets
    yield group


# --- Body ----------------------------------------------------------------------------------------------------


def _body(message: Message) -> bytes:
    """The body with the headers that describe it."""
    plain = _text_part("plain", message.text)
    if message.html is None:
        return plain
    return _multipart("alternative", _BOUNDARY, plain, _text_part("html", message.html))


def _multipart(subtype: str, boundary: str, *parts: bytes) -> bytes:
    start = f"--{boundary}\r\n".encode()
    head = f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n\r\n'.encode()
    return head + b"".join(start + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


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
    if _mostly_plain(foreign, len(octets)):
        return "quoted-printable", binascii.b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    digits = binascii.b2a_base64(octets.replace(b"\n", b"\r\n"), newline=False)
    return "base64", b"".join(digits[at : at + 76] + b"\r\n" for at in range(0, len(digits), 76))
