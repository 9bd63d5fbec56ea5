"""The words of this room: stages, replies, and the evidence that a failed stage leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import IncrementalNewlineDecoder
from typing import Any, Literal, Self

import msgspec

from keyrelay.network.failures import FailureKind
from keyrelay.pam.backend import Problem

Stage = Literal[
    "vault", "resolve", "connect", "greeting", "hello", "tls", "token", "auth", "sender", "recipient", "data"
]
STAGES: tuple[Stage, ...] = (
    "vault",
    "resolve",
    "connect",
    "greeting",
    "hello",
    "tls",
    "token",
    "auth",
    "sender",
    "recipient",
    "data",
)

Kind = Literal[
    FailureKind,  # at any stage that uses the network
    # SMTP.
    "reply",  # the relay answered, and not yes
    "not_smtp",  # what arrived is no SMTP reply; ``detail`` says what it looks like
    "not_offered",  # the extension that is needed is not in the relay's EHLO answer (STARTTLS, AUTH, SMTPUTF8)
    "no_mechanism",  # AUTH is offered, with none of the mechanisms that the profile can use
    "insecure",  # a password or token would have crossed an unencrypted or unverified connection
    "too_large",  # the message is larger than the relay's SIZE
    "outcome_unknown",  # the connection was lost after the final dot and before the answer
    # TLS.
    "injected",  # clear text came after the answer to STARTTLS, where TLS must begin (RFC 3207)
    # The token endpoint.
    "status",  # an HTTP status that is none of success; ``detail`` is the provider's error code, ``status`` in facts
    "not_json",  # the answer is no JSON; ``detail`` says what it looks like
    "no_token",  # JSON without a usable access token
    "token_expired",  # what was issued has ended already: the clocks differ
    "redirected",
    Problem,  # fetching a credential from a vault
    "bad_key",  # the client secret looks like a private key and cannot be read as one
]

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


class Reply(msgspec.Struct, frozen=True):
    """An answer of the relay (RFC 5321 section 4.2): its code, and the text of each line."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the beginning of the text (RFC 2034), such as 5.7.139."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        return found[1] if found else None

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300  # noqa: PLR2004 - RFC 5321 section 4.2.1

    @property
    def transient(self) -> bool:
        return 400 <= self.code < 500  # noqa: PLR2004

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a failed stage showed. ``relay/causes`` finds the cause from it.

    ``detail`` and ``facts`` explain the kind in the words of whoever said so, already redacted; see Kind.
    """

    stage: Stage
    kind: Kind
    reply: Reply | None = None
    detail: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class StageFailed(Exception):
    """A stage did not come to its end."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(f"{evidence.stage}: {evidence.kind}")
        self.evidence = evidence


def failed(stage: Stage, kind: Kind, *, reply: Reply | None = None, detail: str = "", **facts: Any) -> StageFailed:
    """The exception for a stage that failed."""
    return StageFailed(Evidence(stage, kind, reply, detail, facts))


def _only_crlf(octets: bytes) -> bool:
    # What files are read with notes the kinds of line ends it has seen. To count them takes four times as long.
    reader = IncrementalNewlineDecoder(None, translate=False)
    reader.decode(octets.decode("latin-1"), final=True)
    return reader.newlines == "\r\n"


class Content(bytes):
    """A message whose lines end with CRLF, the last one too, and that has no other CR or LF. Dots are not doubled.

    Looked at once, however often it is sent: SMTP smuggling begins with any other line end. Raises ValueError.
    """

    __slots__ = ()

    def __new__(cls, octets: bytes) -> Self:
        if not (octets.endswith(b"\r\n") and _only_crlf(octets)):
            raise ValueError("a message needs CRLF line ends, and nothing else")
        return super().__new__(cls, octets)

    @classmethod
    def proven(cls, octets: bytes) -> Self:
        """What was a Content when it was put away, and cannot have been changed since."""
        return super().__new__(cls, octets)


class Envelope(msgspec.Struct, frozen=True):
    """Who a message is from and who gets it, as the relay is told (RFC 5321 section 2.3.1).

    Raises ValueError when nobody gets it.
    """

    sender: str
    recipients: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("an envelope needs a recipient")
