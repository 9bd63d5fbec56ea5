"""The lines of a message that was handed in as bytes, before anything in it is understood."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from keyrelay.errors import BadInput, Violation
from keyrelay.outbox.letter import too_large
from keyrelay.relay.model import Content

LONGEST_LINE = 998
"""Octets of a line, without its end (RFC 5322 section 2.1.1)."""

_MOST_TOLD = 5
_MAILBOX_FILE = b"From "  # begins a message in a mailbox file, and is none of its headers


def with_line_ends(octets: bytes, most: int) -> Content:
    """The message, of ``most`` bytes, with CRLF at the end of each line. Raises BadInput.

    A file may have LF throughout, as scripts write it. One that mixes the two is refused and not mended: there, a
    lone LF is one that somebody was not to write, and would begin a header or end the message (SMTP smuggling).
    """
    if not octets:
        raise BadInput((Violation("message", "missing", "{field} is empty."),))
    if len(octets) > most:
        raise BadInput((too_large("message", most),))
    if octets.startswith(_MAILBOX_FILE):
        octets = octets[octets.find(b"\n") + 1 :]
    lone = b"\r" not in octets
    if not octets.endswith(b"\n"):
        octets += b"\n" if lone else b"\r\n"
    if lone:
        octets = octets.replace(b"\n", b"\r\n")
    found = [too_large("message", most)] if len(octets) > most else []
    if b"\0" in octets:
        found.append(Violation("message", "control_character", "{field} holds a NUL."))
    try:
        content = Content(octets)
    except ValueError:
        said = "{field} has lines that end with CR alone, or some with LF and others with CRLF."
        found.append(Violation("message", "bad_line_end", said))
    if found:
        raise BadInput(tuple(found))
    return content


def too_long(content: bytes) -> list[Violation]:
    """The first lines that are too long for a relay."""
    return [
        Violation("message", "long_line", f"{{field}}: line {number} has more than {LONGEST_LINE} bytes.")
        for number in islice(_long_lines(content), _MOST_TOLD)
    ]


def _long_lines(content: bytes) -> Iterator[int]:
    at = 0
    while at < len(content):
        # Wherever a line begins, the last line end that is near enough is looked for, and lines between are skipped.
        end = content.rfind(b"\n", at, at + LONGEST_LINE + 2)
        if end < 0:
            yield content.count(b"\n", 0, at) + 1
            end = content.index(b"\n", at)
        at = end + 1
