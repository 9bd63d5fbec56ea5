"""What a relay can do, read from its answer to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.relay.model import Reply


@dataclass(frozen=True, slots=True)
class Extensions:
    """``size``: the largest message in bytes, 0 when the relay names none, None when it does not speak of sizes."""

    names: frozenset[str] = frozenset()
    auth: frozenset[str] = frozenset()
    size: int | None = None
    pipelining: bool = False
    chunking: bool = False
    smtputf8: bool = False
    eight_bit: bool = False
    starttls: bool = False


def read(reply: Reply) -> Extensions:
    """The extensions in an EHLO reply, whose first line is the relay's name."""
    words = [line.upper().replace("AUTH=", "AUTH ", 1).split() for line in reply.lines[1:]]
    given = {line[0]: line[1:] for line in words if line}
    size = given.get("SIZE")
    return Extensions(
        names=frozenset(given),
        auth=frozenset(mechanism for line in words if line and line[0] == "AUTH" for mechanism in line[1:]),
        size=None if size is None else int(size[0]) if size and size[0].isdecimal() and size[0].isascii() else 0,
        pipelining="PIPELINING" in given,
        chunking="CHUNKING" in given,
        smtputf8="SMTPUTF8" in given,
        eight_bit="8BITMIME" in given,
        starttls="STARTTLS" in given,
    )
