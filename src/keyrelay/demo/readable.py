"""What is shown of a caught message, whoever wrote it: text, and nothing that could be taken for more."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser

_MOST_CHARACTERS = 200_000
_MOST_HEADERS = 200
_MOST_PARTS = 50
_LONGEST_HEADER = 2000


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message: its text, or what it is where it has none (``text`` is None)."""

    kind: str
    name: str
    size: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Readable:
    headers: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


def subject(content: bytes) -> str:
    try:
        found = BytesHeaderParser().parsebytes(content[: 64 * 1024]).get("Subject")
    except Exception:  # noqa: BLE001 - a message that no library understands is listed too
        return ""
    return "" if found is None else _decoded(found)


def readable(content: bytes) -> Readable:
    try:
        parsed = email.message_from_bytes(content)
        headers = tuple((shown(name), _decoded(value)) for name, value in list(parsed.items())[:_MOST_HEADERS])
        return Readable(headers, tuple(_parts(parsed)))
    except Exception:  # noqa: BLE001 - it can still be seen as it came
        return Readable((), ())


def shown(text: str) -> str:
    """The text with a mark in place of each character that has no look of its own, or turns others around."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _decoded(value: object) -> str:
    text = str(value)[:_LONGEST_HEADER]
    with suppress(Exception):  # else as it stands
        text = str(make_header(decode_header(text)))
    return shown(" ".join(text.split()))


def _parts(message: Message) -> Iterator[Part]:
    leaves = (part for part in message.walk() if not part.is_multipart())
    for part, _ in zip(leaves, range(_MOST_PARTS), strict=False):
        payload = part.get_payload(decode=True)
        octets = payload if isinstance(payload, bytes) else b""
        kind = shown(part.get_content_type())
        text = _text(part, octets) if part.get_content_maintype() == "text" else None
        yield Part(kind, shown(str(part.get_filename() or "")), len(octets), text)


def _text(part: Message, octets: bytes) -> str:
    try:
        text = octets.decode(str(part.get_content_charset() or "utf-8"), "replace")
    except (LookupError, ValueError):
        text = octets.decode("latin-1")
    return shown(text.replace("\r\n", "\n")[:_MOST_CHARACTERS])
