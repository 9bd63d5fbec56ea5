"""What a cause is, when it fits the evidence of a failed stage, and how its words are filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import urlsplit

from keyrelay.profile import exchange_online
from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.model import Evidence, Kind, Stage

SignIn = Literal["anonymous", "basic", "oauth_client_credentials"]
Look = Literal["implicit-tls", "starttls", "plain", "silent", "refused"]

# Shapes of host names, for Cause.host.
MICROSOFT = exchange_online.HOSTS
SENDGRID = r"(^|\.)sendgrid\.net$"
ADDRESS = r"^[\d.]+$|:"
SHORT_NAME = r"^[^.:]+$"

_LONGEST_WORD = 500
_LONGEST_TEXT = 4000  # of what a pattern looks at: a reply has a bound on the wire too
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the evidence. ``look`` and ``better_port`` come from the TLS mode detective.

    ``look`` is what was found on this port without credentials; ``better_port`` is a usual port on which TLS as
    keyrelay speaks it there works.
    """

    host: str
    port: int
    security: TransportSecurity
    sign_in: SignIn
    sender: str
    recipient: str | None = None
    token_endpoint: str | None = None
    look: Look | None = None
    better_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a stage failed. Every condition that is given must hold; ``sentence`` and ``remedy`` are for a person.

    ``codes`` are reply codes, or HTTP statuses at the stage token; one digit stands for its whole class.
    ``enhanced`` are status codes of RFC 3463, whole or, with a dot at the end, their beginning. ``pattern`` is
    looked for in all that the other side said, ``host`` in the relay's name, both in any case. ``facts`` are
    facts of the evidence and their values. ``missing_role`` is one that the token's claims do not name, which nobody
    knows of a token that is no JWT. ``retry`` says whether trying later, with nothing changed, can help.

    In the two texts, ``{word}`` is filled in, and what stands in [brackets] is left out unless all its words are
    known; WORDS lists them.
    """

    id: str
    stages: tuple[Stage, ...]
    kinds: tuple[Kind, ...]
    codes: tuple[int, ...] = ()
    enhanced: tuple[str, ...] = ()
    pattern: str | None = None
    facts: tuple[tuple[str, Any], ...] = ()
    missing_role: str | None = None
    host: str | None = None
    ports: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()
    sign_ins: tuple[SignIn, ...] = ()
    securities: tuple[TransportSecurity, ...] = ()
    sentence: str
    remedy: str
    retry: bool = False
    more: str | None = None

    def fits(self, evidence: Evidence, around: Surroundings) -> bool:
        return (
            evidence.stage in self.stages
            and evidence.kind in self.kinds
            and self._fits_surroundings(around)
            and self._fits_reply(evidence)
        )

    def _fits_surroundings(self, around: Surroundings) -> bool:
        return (
            (not self.ports or around.port in self.ports)
            and (not self.looks or around.look in self.looks)
            and (not self.sign_ins or around.sign_in in self.sign_ins)
            and (not self.securities or around.security in self.securities)
            and (self.host is None or _compiled(self.host).search(around.host) is not None)
        )

    def _fits_reply(self, evidence: Evidence) -> bool:
        return (
            (not self.codes or _is_one_of(code_of(evidence), self.codes))
            and (not self.enhanced or _begins_with_one_of(_enhanced_of(evidence), self.enhanced))
            and all(evidence.facts.get(name) == value for name, value in self.facts)
            and (self.missing_role is None or _lacks(evidence.facts, self.missing_role))
            and (self.pattern is None or _compiled(self.pattern).search(_text_of(evidence)) is not None)
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """A cause in the words for one case."""

    cause: Cause
    sentence: str
    remedy: str


def code_of(evidence: Evidence) -> int | None:
    """The reply's code, or the token endpoint's HTTP status."""
    if evidence.reply is not None:
        return evidence.reply.code
    status = evidence.facts.get("status")
    return status if isinstance(status, int) else None


def _enhanced_of(evidence: Evidence) -> str | None:
    return evidence.reply.enhanced if evidence.reply is not None else None


def _text_of(evidence: Evidence) -> str:
    """All that the other side said."""
    reply = evidence.reply.text if evidence.reply else ""
    offered, description = (evidence.facts.get(name, "") for name in ("offered", "error_description"))
    return f"{reply}\n{evidence.detail}\n{_names(offered)}\n{_text(description)}"[:_LONGEST_TEXT]


def _is_one_of(code: int | None, codes: tuple[int, ...]) -> bool:
    return code is not None and (code in codes or code // 100 in codes)


def _begins_with_one_of(enhanced: str | None, wanted: tuple[str, ...]) -> bool:
    return enhanced is not None and any(
        enhanced.startswith(beginning) if beginning.endswith(".") else enhanced == beginning for beginning in wanted
    )


def _lacks(facts: Mapping[str, Any], role: str) -> bool:
    """Whether the token can be read, and does not name the role."""
    return facts.get("format") == "jwt" and role not in facts.get("roles", ())


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# --- Filling in ----------------------------------------------------------------------------------------------

DOING: Mapping[Stage, str] = {
    "vault": "fetching a credential from a vault",
    "resolve": "looking up the name of the relay",
    "connect": "connecting",
    "greeting": "waiting for the greeting",
    "hello": "introducing itself with EHLO",
    "tls": "starting TLS",
    "token": "getting an access token",
    "auth": "signing in",
    "sender": "naming the sender",
    "recipient": "naming the recipient",
    "data": "handing over the message",
}


def _text(value: object) -> str:
    """One line without control characters, and not a long one."""
    if not isinstance(value, str):
        return ""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in value[:_LONGEST_TEXT]).split())
    return line if len(line) <= _LONGEST_WORD else line[: _LONGEST_WORD - 1] + "…"


def _names(value: object) -> str:
    if not isinstance(value, (list, tuple, set, frozenset)):
        return _text(value)
    names = [_text(name) for name in list(value)[:_MOST_NAMES]]
    more = f" and {len(value) - _MOST_NAMES} more" if len(value) > _MOST_NAMES else ""
    return _text(", ".join(name for name in names if name) + more)


def _finite(value: object) -> float | None:
    known = isinstance(value, (int, float)) and abs(value) < 1e15  # noqa: PLR2004 - more is nonsense
    return float(value) if known else None  # type: ignore[arg-type]


def _number(value: object) -> str:
    number = _finite(value)
    return "" if number is None else f"{number:g}"


def _days(value: object) -> str:
    number = _finite(value)
    if number is None or number < 0:
        return ""
    days = int(number)
    return {0: "less than a day", 1: "1 day"}.get(days, f"{days} days")


def _seconds(value: object) -> str:
    number = _finite(value)
    return f"{abs(number):g} seconds" if number else ""


def _bytes(value: object) -> str:
    number = _finite(value)
    if number is None:
        return ""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"  # noqa: PLR2004


# The facts of an evidence that a cause may name, and how each is written.
FACTS: Mapping[str, Callable[[object], str]] = {
    "days": _days,  # since the certificate has expired, or until it is valid
    "names": _names,  # that the certificate is for
    "issuer": _text,  # of the certificate
    "offered": _names,  # mechanisms of AUTH, or extensions
    "audience": _names,  # of the token
    "roles": _names,  # of the token
    "limit": _bytes,  # the relay's SIZE
    "size": _bytes,  # of the message
    "seconds": _number,  # that were waited
    "whole_test": _number,  # seconds, when there was no time left for it
    "status": _number,  # HTTP status of the token endpoint
    "clock_skew": _seconds,  # between our clock and the token endpoint's
}

# What stands for a word that is not known. A word that is neither here nor always known may only be used in [brackets].
UNKNOWN: Mapping[str, str] = {
    "host": "the relay",
    "endpoint": "the token endpoint",
    "sender": "the sender",
    "sender_domain": "the sender's domain",
    "recipient": "the recipient",
}
ALWAYS_KNOWN = frozenset({"port", "doing"})
WORDS = frozenset({*UNKNOWN, *ALWAYS_KNOWN, *FACTS, "better_port", "reply", "detail"})

_WORD = re.compile(r"\{(\w+)\}")
_PART = re.compile(r"\[(?P<perhaps>[^\]]*)\]|\{(?P<word>\w+)\}")


def words(evidence: Evidence, around: Surroundings) -> dict[str, str]:
    """What is known, by word; empty where it is not."""
    known = {
        "host": _text(around.host),
        "port": str(around.port),
        "better_port": str(around.better_port or ""),
        "endpoint": _text(_host_of(around.token_endpoint)),
        "sender": _text(around.sender),
        "sender_domain": _text(around.sender.rpartition("@")[2]),
        "recipient": _text(evidence.facts.get("recipient")) or _text(around.recipient),
        "doing": DOING[evidence.stage],
        "reply": _text(str(evidence.reply)) if evidence.reply else "",
        "detail": _text(evidence.detail),
    }
    return known | {name: write(evidence.facts.get(name)) for name, write in FACTS.items()}


def fill(template: str, known: Mapping[str, str]) -> str:
    """The text with its words filled in, each once: what a value looks like is never read as a template."""

    def part(found: re.Match[str]) -> str:
        if (word := found["word"]) is not None:
            return known.get(word) or UNKNOWN.get(word, "")
        perhaps = found["perhaps"]
        return fill(perhaps, known) if all(known.get(word) for word in _WORD.findall(perhaps)) else ""

    return _PART.sub(part, template)


def _host_of(address: str | None) -> str:
    try:
        return urlsplit(address or "").hostname or ""
    except ValueError:
        return ""
