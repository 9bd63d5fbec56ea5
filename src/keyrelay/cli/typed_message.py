"""What was typed after ``keyrelay send``, and what came on standard input, become a message: mail(1) or sendmail(8)."""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keyrelay.errors import BadInput, Unsuitable, Violation
from keyrelay.outbox import reading
from keyrelay.outbox.composing import compose
from keyrelay.outbox.letter import Allowance, Bounds, Letter, told, too_large
from keyrelay.outbox.mailboxes import read_mailboxes
from keyrelay.profile.addresses import no_address
from keyrelay.profile.model import SmtpProfile
from keyrelay.relay.headers import Mailbox

_HEADER_LINE = re.compile(rb"[!-9;-~]+[ \t]*:|From ")
# What Debian's mail -a takes: a header, where others' takes a file.
_HEADER = re.compile(r"((?i:from|reply-to|content-type)|[A-Za-z][A-Za-z0-9-]*(?=: )): *([^\r\n]*)")
_OWN_FIELDS = {"to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to"}
_SAID_ANYHOW = frozenset({"mime-version", "content-transfer-encoding"})
_NO_FILE = re.compile(r"message/|multipart/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The options. ``whole``: standard input is a message with its headers, and not a text."""

    addresses: tuple[str, ...]
    whole: bool
    recipients_inside: bool = False
    subject: str | None = None
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    sender: str | None = None
    name: str | None = None
    attach: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def sorted_out(typed: Typed, *, whole: bool) -> Typed:
    """With the headers apart that were typed where others name files."""
    headers: list[tuple[str, str]] = []
    files, sender = [], typed.sender
    for text in typed.attach:
        match = _HEADER.fullmatch(text)
        if match is None or Path(text).is_file():
            files.append(text)
        elif match[1].lower() == "from":
            sender = sender or match[2]
        else:
            headers.append((match[1], match[2]))
    return replace(typed, whole=whole, attach=tuple(files), headers=tuple(headers), sender=sender)


@dataclass(frozen=True, slots=True)
class File:
    """A file to go with a text."""

    name: str
    octets: bytes


def read_files(names: Iterable[str], bounds: Bounds) -> tuple[File, ...]:
    """The files, as long as they fit together. Raises Unsuitable, or BadInput."""
    files = []
    left = bounds.size
    for name in names:
        try:
            with Path(name).open("rb") as opened:
                octets = opened.read(left + 1)
        except OSError as problem:
            raise Unsuitable(
                f"{name} cannot be read: {problem.strerror}.", remedy="Name a file that can be read."
            ) from None
        left -= len(octets)
        if left < 0:
            raise BadInput((too_large("attachments", bounds.size),))
        files.append(File(Path(name).name, octets))
    return tuple(files)


def digest(typed: Typed, octets: bytes, files: Iterable[File], *more: str | None) -> str:
    """What is the same only when everything that was handed in is."""
    parts = [json.dumps([asdict(typed), more]).encode(), octets, *(file.octets for file in files)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def is_text(octets: bytes) -> bool:
    """Whether it can be mailed as text without losing anything."""
    try:
        return "\0" not in octets.decode()
    except UnicodeDecodeError:
        return False


def letter(  # noqa: PLR0917 - what it is made of
    typed: Typed, octets: bytes, files: tuple[File, ...], profile: SmtpProfile, bounds: Bounds, now: datetime
) -> Letter:
    """The message. Raises BadInput with every violation."""
    author = _author(typed, profile)
    allowance = _allowance(author, profile, bounds)
    try:
        if typed.whole:
            return _read(typed, _as_sendmail_reads(octets), allowance, now)
        return compose(_fields(typed, octets, files), allowance, now=now)
    except BadInput as bad:
        raise BadInput(tuple(map(_in_terms_of_options, bad.violations))) from None


# --- Who it is from ------------------------------------------------------------------------------------------


def _author(typed: Typed, profile: SmtpProfile) -> Mailbox:
    if typed.sender is None:
        return Mailbox(profile.sender_account, typed.name or profile.sender_name)
    boxes = list(_boxes(typed.sender))
    if len(boxes) != 1 or told(boxes[0].address) is None:
        raise BadInput((no_address("from"),))
    (box,) = boxes
    own = Allowance(sender_account=profile.sender_account, sender_name="").is_profiles(box.address)
    return Mailbox(box.address, typed.name or box.name or (profile.sender_name if own else ""))


def _allowance(author: Mailbox, profile: SmtpProfile, bounds: Bounds) -> Allowance:
    """Whoever uses this machine and its keys may write in anybody's name, and has to say so."""
    profiles = Allowance(sender_account=profile.sender_account, sender_name=profile.sender_name)
    return Allowance(
        sender_account=author.address, sender_name=author.name, may_send_as=profiles.is_profiles, bounds=bounds
    )


def _in_terms_of_options(violation: Violation) -> Violation:
    if violation.code != "not_permitted":
        return violation
    said = "{field} is not the profile's sender; to write in another's name, say it with -f ADDRESS."
    return replace(violation, message=said)


# --- A message with its headers ------------------------------------------------------------------------------


def _read(typed: Typed, octets: bytes, allowance: Allowance, now: datetime) -> Letter:
    sender = None if typed.sender is None else allowance.sender_account
    recipients: list[str] | None = [box.address for text in typed.addresses for box in _boxes(text)]
    if typed.recipients_inside:
        inside = reading.read(octets, allowance, now=now, sender=sender)
        if not recipients:
            return inside
        recipients = [*inside.envelope.recipients, *recipients]
    return reading.read(octets, allowance, now=now, sender=sender, recipients=recipients)


def _as_sendmail_reads(octets: bytes) -> bytes:
    """With one kind of line ends, which scripts mix, and an empty line before a text that has no headers."""
    octets = octets.replace(b"\r\n", b"\n")
    if not octets or octets.startswith(b"\n") or _HEADER_LINE.match(octets):
        return octets
    return b"\n" + octets


# --- A text --------------------------------------------------------------------------------------------------


def _fields(typed: Typed, octets: bytes, files: Iterable[File]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "to": _written(typed.addresses),
        "cc": _written(typed.cc),
        "bcc": _written(typed.bcc),
        "reply_to": [],
        "subject": typed.subject or "",
        "attachments": [_attachment(file) for file in files],
        "headers": {},
    }
    body = "text"
    for name, text in typed.headers:
        plain = name.lower()
        if plain in _OWN_FIELDS:
            fields[_OWN_FIELDS[plain]] += _written([text])
        elif plain == "subject":
            fields["subject"] = typed.subject or text
        elif plain == "content-type" and text.lower().startswith(("text/html", "text/plain")):
            body = "html" if text.lower().startswith("text/html") else "text"
        elif plain not in _SAID_ANYHOW:
            fields["headers"][name] = text
    return fields | {body: octets.decode(errors="replace").replace("\0", "\ufffd")}


def _written(texts: Iterable[str]) -> list[str]:
    """Each mailbox as a text of its own; what is none is left for others to refuse."""
    return [_quoted(box) for text in texts for box in _boxes(text)]


def _boxes(text: str) -> Iterator[Mailbox]:
    try:
        found = read_mailboxes(text)
    except ValueError:
        found = []
    yield from found or [Mailbox(text)]


def _quoted(box: Mailbox) -> str:
    if not box.name:
        return box.address
    name = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{box.address}>'


def _attachment(file: File) -> dict[str, str]:
    kind, encoding = mimetypes.guess_type(file.name)
    if kind is None or encoding is not None or _NO_FILE.match(kind):
        kind = "application/octet-stream"
    return {"name": file.name, "content": base64.b64encode(file.octets).decode(), "type": kind}
