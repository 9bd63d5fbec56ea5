"""The parts of a MIME message (RFC 2045 and 2046): whether they can be told apart, and all of them in seven bits.

Only what holds other parts is walked through, and no part is copied to be looked at.
"""

from __future__ import annotations

import binascii
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from keyrelay.outbox.letter import Bounds
from keyrelay.relay.headers import mostly_plain
from keyrelay.relay.message import on_lines
from keyrelay.relay.model import Content

# A header with its folds. A line of spaces is no fold: some readers take it for the end of the head.
FIELD = re.compile(rb"([!-9;-~]+):([\t -~\x80-\xff]*\r\n(?:[ \t]+[!-~\x80-\xff][\t -~\x80-\xff]*\r\n)*)")

_TYPE = re.compile(r"\s*([\w!#$&^.+-]+/[\w!#$&^.+-]+)\s*(?:;|$)", re.ASCII)
_BOUNDARY_PARAMETER = re.compile(
    r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()<>]+))|"(?:[^"\\]|\\.)*(?:"|(\\?\Z))', re.ASCII | re.IGNORECASE
)
_CONTINUED_BOUNDARY = re.compile(r";\s*boundary\*", re.ASCII | re.IGNORECASE)
_LONGEST_BOUNDARY = 70  # RFC 2046 section 5.1.1
_IN_FULL = frozenset({"", "7bit", "8bit"})
_ENCODED = frozenset({"quoted-printable", "base64"})
_MESSAGES = frozenset({"message/rfc822", "message/global"})
_SEALED = frozenset({"multipart/signed", "message/partial", "message/external-body"})
_ENCODING_HEADER = re.compile(rb"Content-Transfer-Encoding:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE)
_SIGNED = re.compile(rb"^DKIM-Signature:", re.IGNORECASE | re.MULTILINE)
_SEVEN = bytes(range(0x80))
_SEVEN_OR_ASKED = _SEVEN + b"?" * 0x80
_LONGEST_TYPE = 4096


class BadParts(ValueError):
    """The parts cannot be told apart, or there are too many; the text says why, after the words "the message"."""


class Kind(NamedTuple):
    """What a Content-Type says: the type in lower case, and the boundary of a multipart."""

    name: str = "text/plain"
    boundary: bytes = b""


@dataclass(frozen=True, slots=True)
class Part:
    """A part between two places of the content: its head, its body, and what it says of itself."""

    start: int
    body: int
    end: int
    kind: Kind
    encoding: str

    @property
    def holds_parts(self) -> bool:
        return self.kind.boundary != b"" or self.holds_message

    @property
    def holds_message(self) -> bool:
        return self.kind.name in _MESSAGES and self.encoding in _IN_FULL


@lru_cache(maxsize=256)
def kind_of(value: bytes) -> Kind:
    """Read the value of a Content-Type. Raises BadParts."""
    text = value.replace(b"\r\n", b"").decode("utf-8", "replace")
    found = _TYPE.match(text) if len(text) <= _LONGEST_TYPE else None
    if found is None:
        raise BadParts("has a Content-Type that cannot be read")
    name = found[1].lower()
    if not name.startswith("multipart/"):
        return Kind(name)
    found_all = list(_BOUNDARY_PARAMETER.finditer(text))
    if any(one[3] is not None for one in found_all):
        raise BadParts("has a Content-Type with a quote that does not end")
    boundaries = [one[1] or one[2] or "" for one in found_all if one[0].startswith(";")]
    if len(boundaries) != 1 or _CONTINUED_BOUNDARY.search(text):
        raise BadParts("has a multipart without exactly one boundary")
    (boundary,) = (re.sub(r"\\(.)", r"\1", one) for one in boundaries)
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii() or boundary != boundary.strip():
        raise BadParts("has a multipart with a boundary that cannot be one")
    return Kind(name, boundary.encode("ascii"))


def encoding_of(value: bytes, kind: Kind) -> str:
    """Read the value of a Content-Transfer-Encoding. Raises BadParts."""
    encoding = value.strip().lower().decode("utf-8", "replace")
    if encoding not in _IN_FULL and encoding not in _ENCODED and not encoding.startswith("x-"):
        raise BadParts("has a Content-Transfer-Encoding that mail does not have, such as binary")
    if kind.boundary and encoding not in _IN_FULL:
        raise BadParts("has a multipart that is encoded as a whole")
    return encoding


def look_through(content: bytes, whole: Part, bounds: Bounds) -> bool:
    """Look at every part within the whole message. Raises BadParts; says whether a part's head is beyond ASCII."""
    walk = _Walk(content, bounds)
    for part in walk.all(whole, 1):
        if part.encoding in _ENCODED and not content[part.body : part.end].isascii():
            raise BadParts("says that a part is encoded, and it is not")
    return walk.foreign_head


@dataclass(slots=True)
class _Walk:
    content: bytes
    bounds: Bounds
    parts: int = 0
    foreign_head: bool = False

    def all(self, part: Part, depth: int) -> Iterator[Part]:
        """The part, and those within it, in their order."""
        if depth > self.bounds.depth:
            raise BadParts(f"has more than {self.bounds.depth} parts within each other")
        yield part
        for inner in self.within(part):
            yield from self.all(inner, depth + 1)

    def within(self, part: Part) -> Iterator[Part]:
        """The parts that one holds."""
        if part.kind.boundary:
            default = Kind("message/rfc822") if part.kind.name == "multipart/digest" else Kind()
            for start, end in self._pieces(part):
                yield self.part(start, end, default)
        elif part.holds_message:
            yield self.part(part.body, part.end, Kind())

    def _pieces(self, part: Part) -> Iterator[tuple[int, int]]:
        """Where the parts of a multipart begin and end: between the lines of its boundary."""
        content, needle = self.content, b"\n--" + part.kind.boundary
        start: int | None = None
        at = part.body - 1  # the line end before the body may belong to the first delimiter
        while (at := content.find(needle, at, part.end)) >= 0:
            self._count()
            after, last = self._line_end(at + len(needle), part.end)
            if after is not None:
                if start is not None:
                    yield start, max(start, at - 1)
                if last:
                    return
                start = after
            at += 1
        raise BadParts("has a multipart without its last boundary: it looks cut off")

    def _line_end(self, at: int, end: int) -> tuple[int | None, bool]:
        """Where the line after a delimiter begins, None when it is no delimiter; and whether it is the last one."""
        line = self.content.find(b"\r\n", at, end)
        rest = self.content[at : end if line < 0 else line]
        last = rest.startswith(b"--")
        if rest[2 * last :].strip(b" \t"):
            return None, False
        return (end if line < 0 else line + 2), last

    def part(self, start: int, end: int, kind: Kind) -> Part:
        self._count()
        content = self.content
        body = start
        encoding = b""
        seen: set[bytes] = set()
        while body < end and not content.startswith(b"\r\n", body):
            # A head without a body may end where the part does, before the line end that belongs to the boundary.
            found = FIELD.match(content, body)
            if found is None or found.end() > end + 2:
                raise BadParts("has a part with a head that cannot be read")
            name, value = found[1].lower(), found[2]
            if name.startswith(b"content-") and name in seen:
                raise BadParts("has a part with one header more than once")
            seen.add(name)
            if name == b"content-type":
                kind = kind_of(value)
            elif name == b"content-transfer-encoding":
                encoding = value
            body = found.end()
        self.foreign_head = self.foreign_head or not content[start:body].isascii()
        body = min(body + 2, end)
        return Part(start, body, max(body, end), kind, encoding_of(encoding, kind))

    def _count(self) -> None:
        self.parts += 1
        if self.parts > self.bounds.parts * 2:  # a part and its boundary
            raise BadParts(f"has more than {self.bounds.parts} parts")


# --- Seven bits ----------------------------------------------------------------------------------------------


def seven_bit(content: Content) -> Content | None:
    """The message for a relay without 8BITMIME (RFC 6152 section 3): every part with octets above 127 encoded.

    None when that may not be: heads beyond ASCII, and what is signed or must be sent as it is. The message has been
    looked through before.
    """
    walk = _Walk(content, Bounds(parts=sys.maxsize, depth=sys.maxsize))
    whole = walk.part(0, len(content), Kind())
    if _SIGNED.search(content, 0, whole.body):
        return None
    try:
        return Content(b"".join(_Narrowed(content, walk).pieces(whole, within=False)))
    except _Sealed:
        return None


class _Sealed(Exception):
    """A part that must not be changed."""


@dataclass(slots=True)
class _Narrowed:
    content: bytes
    walk: _Walk

    def pieces(self, part: Part, *, within: bool) -> Iterator[bytes]:
        """The part anew. ``within``: it is one of several, whose boundary follows."""
        content = self.content
        if content[part.start : part.end].isascii():
            yield content[part.start : part.end]
            return
        head, body = content[part.start : part.body], content[part.body : part.end]
        if not head.isascii() or part.kind.name in _SEALED or part.encoding not in _IN_FULL:
            raise _Sealed
        if part.holds_parts:
            yield _labelled(head, b"7bit")
            at = part.body
            for inner in self.walk.within(part):
                yield self._seven(at, inner.start)
                yield from self.pieces(inner, within=within or part.kind.boundary != b"")
                at = inner.end
            yield self._seven(at, part.end)
            return
        encoding, octets = _encoded(body, text=part.kind.name.startswith("text/"), within=within)
        yield _labelled(head, encoding)
        yield octets

    def _seven(self, start: int, end: int) -> bytes:
        """The lines of the boundaries, and what stands around the parts, which nobody reads."""
        return self.content[start:end].translate(_SEVEN_OR_ASKED)


def _labelled(head: bytes, encoding: bytes) -> bytes:
    """The head with this encoding. An empty line ends it, or nothing when it is only that line."""
    line = b"Content-Transfer-Encoding: %s\r\n" % encoding
    at = 0
    while not head.startswith(b"\r\n", at):
        found = _ENCODING_HEADER.match(head, at)
        if found is not None:
            return head[:at] + line + head[found.end() :]
        following = FIELD.match(head, at)
        if following is None:
            raise _Sealed
        at = following.end()
    return head[:at] + line + head[at:]


def _encoded(body: bytes, *, text: bool, within: bool) -> tuple[bytes, bytes]:
    foreign = len(body.translate(None, _SEVEN))
    if text and mostly_plain(foreign, len(body)) and not (within and b"--" in body):
        lines = binascii.b2a_qp(body.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")
        return b"quoted-printable", lines
    return b"base64", on_lines(binascii.b2a_base64(body, newline=False))
