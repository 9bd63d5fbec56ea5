"""A submission as message/rfc822: bytes become a message that may be sent, or everything wrong with them is said.

A message that is well is sent as it is. Only its head is read, once; parts are looked at where it has any. What a
submission server may do is done (RFC 6409 section 8): headers that are missing are added, recipients that nobody is to
see are taken out, and text in headers that is not ASCII is encoded. Nothing that is there is corrected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from itertools import islice

from keyrelay.errors import BadInput, Violation
from keyrelay.outbox.letter import Allowance, Letter, not_permitted, told, too_large, too_many
from keyrelay.outbox.lines import too_long, with_line_ends
from keyrelay.outbox.mailboxes import read_mailboxes
from keyrelay.outbox.parts import FIELD, BadParts, Kind, Part, encoding_of, kind_of, look_through
from keyrelay.profile.addresses import control_character, no_address
from keyrelay.relay import headers
from keyrelay.relay.headers import Mailbox
from keyrelay.relay.message import distinct, new_message_id
from keyrelay.relay.model import Content, Envelope
from keyrelay.secrets.model import has_control

_MOST_LINES_TOLD = 5

# RFC 5322 section 3.6 and RFC 2045: at most one of each.
_ONCE = frozenset(
    b"from sender reply-to to cc bcc message-id in-reply-to references subject date mime-version content-type"
    b" content-transfer-encoding content-id content-description content-disposition".split()
)
_TAKEN_OUT = frozenset({b"bcc", b"resent-bcc", b"return-path", b"content-length"})
_AUTHORS = (b"from", b"sender", b"resent-from", b"resent-sender")
_NAMED = (b"to", b"cc", b"bcc")
_OF_MAILBOXES = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc"})
_OF_PARTS = frozenset({b"content-type", b"content-transfer-encoding"})
_DESCRIBING = _OF_PARTS | {b"mime-version"}
_PLAIN_UTF8 = ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"]
_SPACE, _DELETE = 0x20, 0x7F
_FREE_TEXT = re.compile(rb"subject|comments|x-(?!original-|forwarded-).*|organization|thread-topic")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,900}>")
_ID_EXAMPLE = "{field} is not an id such as <1@example.org>."
_DATE_EXAMPLE = "{field} is not written as mail has it: Sun, 01 Mar 2026 12:30:05 +0000."
_ONE_ADDRESS = "{field} is not one address such as PKI <pki@example.org>."
_DATE = re.compile(
    rb"([A-Z][a-z]{2}, *)?[0-3]?\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4}|\d\d)"
    rb" [0-2]\d:[0-5]\d(:[0-6]\d)? ([+-]\d{4}|[A-Z]{1,5})( *\([^()]*\))?"
)

Fields = dict[bytes, list[re.Match[bytes]]]


def read(
    octets: bytes,
    allowance: Allowance,
    *,
    now: datetime,
    sender: str | None = None,
    recipients: Iterable[str] | None = None,
) -> Letter:
    """Read a message. Who is told of it, unless given, stands in its From and in To, Cc and Bcc.

    ``now`` is aware, and becomes the Date of a message without one. Raises BadInput with every violation; its fields
    are the headers' names (``message_id``), or ``sender``, ``recipients``, ``head``, ``body`` and ``message``.
    """
    reading = _Reading(with_line_ends(octets, allowance.bounds.size), allowance)
    envelope = reading.envelope(sender, recipients)
    reading.check_content()
    if reading.found or envelope is None:
        raise BadInput(tuple(reading.found))
    return reading.letter(envelope, now)


class _Reading:
    """One message, and what is wrong with it."""

    def __init__(self, content: Content, allowance: Allowance) -> None:
        self.found = too_long(content)
        self._allowance = allowance
        self._bounds = allowance.bounds
        empty = -2 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n")
        if empty == -1:  # a head, and nothing else
            empty = len(content) - 2
            content = Content(content + b"\r\n")
        self._content = content
        self._end = empty + 2  # of the head; an empty line follows
        self._seven_bit = content.isascii()
        self._ascii_head = self._seven_bit or content[: self._end].isascii()
        self._foreign_parts = False
        self._fields: Fields = {}
        if self._end > self._bounds.head:
            raise BadInput((*self.found, too_large("head", self._bounds.head)))
        self._read_head()

    # --- The head --------------------------------------------------------------------------------------------

    def _read_head(self) -> None:
        fields = self._fields
        at = count = gaps = 0
        while at < self._end:
            # At the beginnings of lines alone: a search would look at what is no header from every octet of it.
            field = FIELD.match(self._content, at, self._end)
            if field is None:
                gaps += 1
                at = self._content.index(b"\n", at) + 1
                continue
            at = field.end()
            count += 1
            name = field[1].lower()
            if name in fields:
                fields[name].append(field)
            else:
                fields[name] = [field]
        if gaps:
            self.found.extend(_bad_lines(self._content[: self._end]))
        if not self._ascii_head:
            self.found.extend(_foreign_violations(self._content[: self._end]))
        if count > self._bounds.headers:
            self.found.append(too_many("head", self._bounds.headers, "headers"))
        if count != len(fields):
            self._check_repeated()
        if (date := fields.get(b"date")) and not _DATE.fullmatch(_unfolded(date[0])):
            self.found.append(Violation("date", "bad_header", _DATE_EXAMPLE))
        if (message_id := fields.get(b"message-id")) and not _MESSAGE_ID.fullmatch(_unfolded(message_id[0])):
            self.found.append(Violation("message_id", "bad_header", _ID_EXAMPLE))

    def _check_repeated(self) -> None:
        for name, same in self._fields.items():
            if len(same) > 1 and name in _ONCE:
                self.found.append(Violation(_field(name), "duplicate", "{field} stands in the head more than once."))
        if len(self._fields.get(b"received", ())) > self._bounds.hops:
            said = f"{{field}} has passed more than {self._bounds.hops} relays: it goes round in circles."
            self.found.append(Violation("message", "loop", said))

    # --- The envelope ----------------------------------------------------------------------------------------

    def envelope(self, sender: str | None, recipients: Iterable[str] | None) -> Envelope | None:
        """Who is told; None when that is not known."""
        author = self._authors()
        if sender is None:
            address = author or told(self._allowance.sender_account)
        elif (address := told(sender)) is None:
            self.found.append(no_address("sender"))
        elif not self._allowance.permits(address):
            self.found.append(not_permitted("sender"))
        known = len(self.found)
        everybody = list(self._named() if recipients is None else self._given(recipients))
        if len(everybody) > self._bounds.recipients:
            self.found.append(too_many("recipients", self._bounds.recipients, "addresses"))
        elif not everybody and len(self.found) == known:
            self.found.append(Violation("recipients", "missing", "{field} is required: nobody gets this message."))
        return Envelope(address, distinct(everybody)) if address and everybody else None

    def _authors(self) -> str | None:
        """The address in From, once those in whose name it is are known to be permitted."""
        author = None
        for name in _AUTHORS:
            for field in self._fields.get(name, ()):
                address = _only_address(field[2])
                if address is None:
                    self.found.append(Violation(_field(name), "bad_header", _ONE_ADDRESS))
                elif not self._allowance.permits(address):
                    self.found.append(not_permitted(_field(name)))
                elif name == b"from":
                    author = address
        return author

    def _given(self, recipients: Iterable[str]) -> Iterator[str]:
        for one in islice(recipients, self._bounds.recipients + 1):
            address = told(one)
            if address is None:
                self.found.append(no_address("recipients"))
            else:
                yield address

    def _named(self) -> Iterator[str]:
        """Those in To, Cc and Bcc."""
        if any(name.startswith(b"resent-") for name in self._fields):
            said = "{field} has to be given for a message that is sent on: its head names those who got it before."
            self.found.append(Violation("recipients", "missing", said))
            return
        for name in _NAMED:
            for field in self._fields.get(name, ()):
                try:
                    boxes = read_mailboxes(_text(field))
                except ValueError:
                    self.found.append(Violation(_field(name), "bad_header", "{field} is not a list of addresses."))
                    continue
                for box in boxes:
                    address = told(box.address)
                    if address is None:
                        self.found.append(no_address(_field(name)))
                    else:
                        yield address

    # --- The content -----------------------------------------------------------------------------------------

    def check_content(self) -> None:
        """Look at what the head says of the body, and at the parts if there are any."""
        if self._seven_bit and _OF_PARTS.isdisjoint(self._fields):
            return
        try:
            whole = self._whole()
            if whole.holds_parts or not self._seven_bit:
                self._foreign_parts = look_through(self._content, whole, self._bounds)
        except BadParts as bad:
            self.found.append(Violation("message", "bad_mime", f"{{field}} {bad}."))
            return
        if self._is_foreign_text() and not _is_utf8(self._content[self._end :]):
            said = "{field} has octets above 127 that are no UTF-8, and no Content-Type says what they are."
            self.found.append(Violation("body", "bad_charset", said))

    def _whole(self) -> Part:
        of_type, encoded = self._fields.get(b"content-type"), self._fields.get(b"content-transfer-encoding")
        kind = kind_of(of_type[0][2]) if of_type else Kind()
        encoding = encoding_of(encoded[0][2], kind) if encoded else ""
        return Part(0, self._end + 2, len(self._content), kind, encoding)

    def _is_foreign_text(self) -> bool:
        """Whether the body is beyond ASCII, and nothing in the head says what it is."""
        if self._seven_bit or not self._fields.keys().isdisjoint(_DESCRIBING):
            return False
        return not self._content[self._end :].isascii()

    def letter(self, envelope: Envelope, now: datetime) -> Letter:
        """The message as it is sent. Nothing is wrong with it."""
        added, message_id = self._missing(envelope, now)
        edits: list[tuple[re.Match[bytes], bytes]] = []
        if not _TAKEN_OUT.isdisjoint(self._fields):
            edits += [(field, b"") for name in _TAKEN_OUT & self._fields.keys() for field in self._fields[name]]
        if not self._ascii_head:
            edits += self._narrowed()
        content = self._content
        if edits or added:
            content = _edited(content, self._end, edits, added)
        seven_bit = self._seven_bit or content.isascii()
        foreign = self._foreign_parts or not (
            envelope.sender.isascii()
            and all(map(str.isascii, envelope.recipients))
            and (self._ascii_head or seven_bit or content[: content.index(b"\r\n\r\n")].isascii())
        )
        return Letter(envelope, content, foreign, not seven_bit, message_id)

    def _missing(self, envelope: Envelope, now: datetime) -> tuple[bytes, str]:
        """The headers to be added, and the Message-ID that is there or among them."""
        added = []
        if b"from" not in self._fields:
            added.append(headers.author("From", Mailbox(envelope.sender, self._name_of(envelope.sender))))
        if b"date" not in self._fields:
            added.append(f"Date: {_date(now.replace(microsecond=0))}")
        if (given := self._fields.get(b"message-id")) is not None:
            message_id = _text(given[0])
        else:
            message_id = new_message_id(envelope.sender)
            added.append(f"Message-ID: {message_id}")
        if self._is_foreign_text():
            added += _PLAIN_UTF8
        return "\r\n".join([*added, ""]).encode(), message_id

    def _name_of(self, sender: str) -> str:
        return self._allowance.sender_name if self._allowance.is_profiles(sender) else ""

    def _narrowed(self) -> list[tuple[re.Match[bytes], bytes]]:
        """The fields with text beyond ASCII, encoded; none of them when one cannot be, or all of it is signed."""
        if b"dkim-signature" in self._fields:
            return []
        edits = []
        for name, same in self._fields.items():
            for field in same:
                if not field[0].isascii() and name not in _TAKEN_OUT:
                    line = _in_ascii(name, field)
                    if line is None or not line.isascii():
                        return []
                    edits.append((field, line))
        return edits


def _edited(content: Content, end: int, edits: Iterable[tuple[re.Match[bytes], bytes]], added: bytes) -> Content:
    """The message with other lines for some fields, and with lines added to its head, which ends at ``end``."""
    pieces = []
    at = 0
    for field, line in sorted(edits, key=_place):
        pieces += [content[at : field.start()], Content(line) if line else b""]
        at = field.end()
    # Whole lines of a Content, and others that have been looked at: so is this.
    return Content.proven(b"".join([*pieces, content[at:end], Content(added) if added else b"", content[end:]]))


@lru_cache(maxsize=16)
def _date(now: datetime) -> str:
    return format_datetime(now)


def _place(edit: tuple[re.Match[bytes], bytes]) -> int:
    return edit[0].start()


def _bad_lines(head: bytes) -> Iterator[Violation]:
    """What is wrong with a head that cannot be read, line by line."""
    at = bad = 0
    while at < len(head) and bad < _MOST_LINES_TOLD:
        if found := FIELD.match(head, at):
            at = found.end()
            continue
        end = head.index(b"\r\n", at)
        line, number = head[at:end], head.count(b"\n", 0, at) + 1
        if any(octet < _SPACE or octet == _DELETE for octet in line.replace(b"\t", b"")):
            yield Violation("head", "control_character", f"{{field}}: line {number} holds a control character.")
        elif line.strip():
            yield Violation("head", "bad_header", f"{{field}}: line {number} is no header, such as Subject: text.")
        else:
            yield Violation("head", "bad_header", f"{{field}}: line {number} has nothing but spaces.")
        at, bad = end + 2, bad + 1


def _foreign_violations(head: bytes) -> Iterator[Violation]:
    try:
        text = head.decode()
    except UnicodeDecodeError:
        yield Violation("head", "bad_charset", "{field} has octets above 127 that are no UTF-8.")
        return
    if any(has_control(character) for character in set(text) - set("\t\r\n") if character >= "\x80"):
        yield control_character("head")


def _in_ascii(name: bytes, field: re.Match[bytes]) -> bytes | None:
    """The field with its text encoded (RFC 2047); None where that cannot be."""
    text = _text(field)
    shown = field[1].decode("ascii")
    if "=?" in text:
        return None  # partly encoded already
    if name in _OF_MAILBOXES:
        return _mailboxes_in_ascii(shown, text)
    if not _FREE_TEXT.fullmatch(name) or len(shown) > headers.LONGEST_NAME:
        return None
    return headers.free_text(shown, text).encode() + b"\r\n"


def _mailboxes_in_ascii(name: str, text: str) -> bytes | None:
    try:
        boxes = read_mailboxes(text)
    except ValueError:
        return None
    if ":" in text or not boxes:  # a group would lose its name
        return None
    known = [(told(box.address), box.name) for box in boxes]
    if any(address is None for address, _ in known):
        return None
    return headers.mailboxes(name, [Mailbox(address or "", said) for address, said in known]).encode() + b"\r\n"


def _unfolded(field: re.Match[bytes]) -> bytes:
    return field[2].replace(b"\r\n", b"").strip()


def _text(field: re.Match[bytes]) -> str:
    return _unfolded(field).decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _only_address(value: bytes) -> str | None:
    """The address of a header that has one, as a relay is told it; None when it has none, or more than one."""
    try:
        (box,) = read_mailboxes(value.replace(b"\r\n", b"").decode())
    except ValueError:  # UnicodeError among them
        return None
    return told(box.address)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _field(name: bytes) -> str:
    return name.decode("ascii").replace("-", "_")
