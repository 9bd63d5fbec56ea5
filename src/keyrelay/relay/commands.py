"""What is written to hand a message over: the bytes, from the message and from what the relay can do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from keyrelay.relay.extensions import Extensions
from keyrelay.relay.model import failed

RESET = b"RSET\r\n"
_DATA = b"DATA\r\n"
_EARLY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """The content, how it is announced, and what of it is written together with the envelope.

    ``chunk`` says that it goes by BDAT (RFC 3030), and not by DATA.
    """

    command: bytes
    content: bytes
    early: list[bytes]
    chunk: bool


def mail(sender: str, content: bytes, offers: Extensions, *, needs_smtputf8: bool) -> bytes:
    """MAIL with the parameters that are offered and needed. Raises StageFailed when it could not be sent."""
    if needs_smtputf8 and not offers.smtputf8:
        raise failed("sender", "not_offered", detail="SMTPUTF8")
    if offers.size and len(content) > offers.size:
        raise failed("sender", "too_large", size=len(content), limit=offers.size)
    parameters = b" SIZE=%d" % len(content) if offers.size is not None and content else b""
    if offers.eight_bit and not content.isascii():
        parameters += b" BODY=8BITMIME"
    return b"MAIL FROM:%s%s%s\r\n" % (_path(sender), parameters, b" SMTPUTF8" if needs_smtputf8 else b"")


def rcpt(address: str) -> bytes:
    return b"RCPT TO:%s\r\n" % _path(address)


def body(content: bytes, offers: Extensions) -> Body:
    """How this content goes to that relay."""
    if offers.chunking:
        command = b"BDAT %d LAST\r\n" % len(content)
        # A long message waits until somebody is known to want it.
        early = [command, content] if len(content) <= _EARLY_BYTES else []
        return Body(command, content, early, chunk=True)
    return Body(_DATA, content, [_DATA], chunk=False)


@lru_cache(maxsize=1024)
def _path(address: str) -> bytes:
    # Addresses were checked before; this is the last line, where a slip would be somebody else's command.
    if any(character in address for character in "<>\r\n\0 ") or not address:
        raise ValueError("an address holds a character that no envelope may have")
    return b"<%s>" % address.encode()


def dotted(content: bytes) -> bytes:
    """The content as DATA wants it: dots at line starts doubled, and the final dot (RFC 5321 section 4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"%s%s.\r\n" % (b"." if content.startswith(b".") else b"", stuffed)
