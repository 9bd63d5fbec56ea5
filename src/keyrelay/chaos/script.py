"""What a chaos relay does: the rules of one connection, as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from keyrelay.errors import Unsuitable

# The moments at which the relay speaks. ``body`` is the answer to the whole message, ``bdat`` that to each chunk.
STAGES = (
    "greeting",
    "ehlo",
    "helo",
    "starttls",
    "auth",
    "mail",
    "rcpt",
    "data",
    "body",
    "bdat",
    "rset",
    "quit",
)
HANDSHAKE = "tls"
AFTER_DOT = "after-dot"
MID = "mid:"

# "by_name" has three certificates: one for a.test, one for b.test, and the good one for every other name.
CertificateKind = Literal[
    "good",
    "expired",
    "not_yet_valid",
    "wrong_name",
    "unknown_ca",
    "self_signed",
    "weak",
    "by_name",
]
TlsVersion = Literal["1.0", "1.2", "1.3"]
MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")

EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")

_CODED = re.compile(r"\d{3}[ -]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How a chaos relay behaves; without arguments it is a well-behaved relay. Raises Unsuitable.

    ``replies``: what is said at a stage (see STAGES) instead of the usual answer; several lines by a tuple. A 421
    also closes. At ``auth`` it is the verdict, which any credentials get. ``rcpt_replies`` wins over it: what one
    recipient gets, or all of a domain (``@example.org``, in lower case).
    ``lost``: domains for which a message is taken, and the connection ends without an answer.
    ``stall``: at this stage, or ``tls``, nothing more is said or heard.
    ``close``: at this stage, or ``tls``, the connection ends instead of an answer; ``mid:<stage>`` ends it in the
    middle of the answer; ``after-dot`` takes the message and ends the connection without an answer.
    ``drip``: seconds between the bytes of every reply.
    ``delay``: seconds that everything takes in each direction; a round trip costs twice that.
    ``inject``: clear text right behind the 220 of STARTTLS. ``raw_greeting``: bytes instead of a greeting; nothing
    that follows is answered.
    ``silent``: connections are taken, and nothing is ever said or read.
    ``auth``: mechanisms offered. ``users``: the password, or access token, of each user. ``admits``: who may sign in
    beside them, by user and secret.
    ``echo_credentials``: every sign-in is refused, with what was sent in the answer.
    ``tls_version``: ``1.0`` means 1.0 and 1.1, the others mean exactly that version.
    ``client_ca``: only clients with a certificate of our authority get through.
    ``then``: how the second connection behaves, the third and so on; the last one stays.
    """

    extensions: tuple[str, ...] = EXTENSIONS
    starttls: bool = False
    implicit_tls: bool = False
    auth: tuple[str, ...] = ()
    auth_needs_tls: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    admits: Callable[[str, str], bool] | None = None
    require_auth: bool = False
    replies: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    rcpt_replies: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    stall: str | None = None
    lost: frozenset[str] = frozenset()
    close: str | None = None
    drip: float = 0.0
    delay: float = 0.0
    inject: bytes = b""
    raw_greeting: bytes | None = None
    certificate: CertificateKind = "good"
    client_ca: bool = False
    tls_version: TlsVersion | None = None
    echo_credentials: bool = False
    silent: bool = False
    then: tuple[Script, ...] = ()

    def __post_init__(self) -> None:
        for sentence in self._faults():
            raise Unsuitable(sentence)

    @property
    def uses_tls(self) -> bool:
        return self.starttls or self.implicit_tls

    def _faults(self) -> Iterator[str]:
        heard = (*STAGES, HANDSHAKE)
        closing = (*heard, AFTER_DOT, *(MID + stage for stage in STAGES))
        for stage in self.replies:
            yield from _not_among("a stage to reply at", stage, STAGES)
        yield from _not_among("a stage to stall at", self.stall, heard)
        yield from _not_among("a stage to close at", self.close, closing)
        yield from _not_among("a certificate", self.certificate, get_args(CertificateKind))
        yield from _not_among("a TLS version", self.tls_version, get_args(TlsVersion))
        for mechanism in self.auth:
            yield from _not_among("a mechanism to sign in with", mechanism, MECHANISMS)
        if min(self.drip, self.delay) < 0:
            yield "Drip and delay are seconds, zero or more."
        if self.starttls and self.implicit_tls:
            yield "STARTTLS cannot be offered where TLS is spoken from the first byte; choose one."
        replies = [*self.replies.values(), *self.rcpt_replies.values()]
        if not all(replies):
            yield "A reply needs at least one line."
        if any(re.search(r"[\r\n]", line) for reply in replies for line in _lines(reply)):
            yield "A reply is one line; say it several times, or give a tuple, for several lines."
        for name, parameter in (extension.partition(" ")[::2] for extension in self.extensions):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
                yield f"{name!r} is no name of an extension."
            if name.upper() == "SIZE" and parameter and not parameter.isdecimal():
                yield "SIZE is followed by a number of bytes."


def _not_among(what: str, given: str | None, known: tuple[str, ...]) -> Iterator[str]:
    if given is not None and given not in known:
        yield f"{given!r} is not {what}; there are {', '.join(known)}."


def _lines(reply: str | tuple[str, ...]) -> tuple[str, ...]:
    return (reply,) if isinstance(reply, str) else reply


def reply_bytes(reply: str | tuple[str, ...]) -> bytes:
    """A reply as it is sent. Lines that are not the last get the hyphen that says so (RFC 5321 section 4.2.1)."""
    *first, last = _lines(reply)
    lines = [line[:3] + "-" + line[4:] if _CODED.match(line) else line for line in first]
    return "".join(line + "\r\n" for line in (*lines, last)).encode()


def reply_code(reply: bytes) -> int:
    """The code of a reply as it is sent; 0 where there is none."""
    return int(reply[:3]) if reply[:3].isdigit() else 0
