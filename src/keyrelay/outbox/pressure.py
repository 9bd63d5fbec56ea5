"""When the trouble is not a message's but everybody's: the outbox slows down, or pauses, and how it comes back.

One Pressure for all nodes, a row in the store: each function here gives the row that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from keyrelay.outbox.model import Said
from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.causes import CAUSES, Surroundings
from keyrelay.relay.model import Evidence, Kind, Reply, Stage

Mode = Literal["open", "slowed", "paused"]
Why = Literal[
    "throttled",  # the relay says: not so much, not so fast, not now
    "quota",  # the account's sending limit is used up, or its own mailbox is full
    "unreachable",  # no way to the relay, the token endpoint or the vault
    "sign_in",  # the relay or the token endpoint refuses the credentials
    "credential",  # the vault or the token endpoint answers, and there is nothing to sign in with
    "certificate",  # TLS failed, or was not what was asked for
    "operator",  # a person paused it
]

# The same for people; each follows a colon.
REASONS: Mapping[Why, str] = {
    "throttled": "the relay takes less at a time, or less often",
    "quota": "the sending limit of the account is used up",
    "unreachable": "the relay, the token endpoint or a vault cannot be reached",
    "sign_in": "the credentials are refused",
    "credential": "there is nothing to sign in with",
    "certificate": "TLS fails, or is not what was asked for",
    "operator": "somebody has paused it",
}

# How long to wait before a few messages are let through as a trial (slowed), or a session opened as a probe (paused);
# the last stands for all that follow. Wrong credentials are tried seldom: accounts are locked for less.
_WAITS: dict[Why, tuple[timedelta, ...]] = {
    "throttled": tuple(timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 240, 480, 900)),
    "quota": (timedelta(minutes=30), timedelta(hours=1)),
    "unreachable": tuple(timedelta(seconds=seconds) for seconds in (5, 10, 20, 40, 60, 120, 300)),
    "sign_in": tuple(timedelta(minutes=minutes) for minutes in (15, 30, 60)),
    "credential": tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15)),
    "certificate": tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15)),
    "operator": (),
}
PAUSING: frozenset[Why] = frozenset({"sign_in", "credential", "certificate", "operator"})

# So many doubtful answers in a row, with nobody accepted in between, are no accident of one message.
STORM = 3
# From so many messages at once on, an outbox that comes back counts as open.
_WIDE = 32

_ABOUT_A_MESSAGE: frozenset[Stage] = frozenset({"sender", "recipient", "data"})
_LOST: frozenset[Kind] = frozenset({"timeout", "closed", "not_smtp", "outcome_unknown"})
# Enhanced status codes about an address or a mailbox (RFC 3463): full, grey-listed, busy.
_OF_ONE_MAILBOX = frozenset({".1.", ".2."})
_CERTIFICATE: frozenset[Kind] = frozenset(
    {
        *("expired", "not_yet_valid", "name_mismatch", "unknown_issuer", "self_signed", "weak", "client_certificate"),
        *("certificate", "handshake", "not_tls", "injected", "not_offered", "insecure"),
    }
)
_PASSING: frozenset[Kind] = frozenset(
    {
        *("dns_unavailable", "dns_busy", "refused", "unreachable", "forbidden", "timeout", "closed", "sealed"),
        *("name_unknown", "no_address"),
    }
)
_SIGN_IN_CODES = frozenset({530, 534, 535, 538})
_STORM_CODES = frozenset({421, 450, 451, 452})
_CONNECTIONS_EXCEEDED = 432  # Exchange Online, whatever the stage
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_REFUSALS = 500

# What the catalogue of causes knows by the relay's words, for answers to a message.
_KNOWN_BY_WORDS: dict[str, Why] = {
    "microsoft-daily-recipients": "quota",
    "microsoft-own-mailbox-full": "quota",
    "sending-limit-reached": "quota",
    "microsoft-concurrent-connections": "throttled",
    "too-many-connections": "throttled",
    "microsoft-server-busy": "throttled",
    "throttled": "throttled",
    "microsoft-not-signed-in": "sign_in",
    "senders-must-sign-in": "sign_in",
}
# Those causes ask for nothing but the words; the last one, for a profile that does not sign in.
_SOMEWHERE = Surroundings("", 0, TransportSecurity.STARTTLS_REQUIRED, "anonymous", "")
_BY_WORDS = tuple((cause, _KNOWN_BY_WORDS[cause.id]) for cause in CAUSES if cause.id in _KNOWN_BY_WORDS)


@dataclass(frozen=True, slots=True)
class Blame:
    """What an answer says of the outbox. Unless ``certain``, only several in a row say it."""

    why: Why
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Pressure:
    """How the outbox stands. ``trial_at``: when the next trial or probe is due, in outbox time; None if never.

    ``level`` counts trials that failed in a row; ``streak`` doubtful answers in a row; ``width`` is how many messages
    may be under way at once when slowed, on all nodes together.
    """

    mode: Mode = "open"
    why: Why | None = None
    said: Said | None = None
    since: datetime | None = None
    trial_at: datetime | None = None
    level: int = 0
    streak: int = 0
    width: int = 1

    def at_once(self, now: datetime) -> int | None:
        """How many messages may be under way at once, on all nodes; None for any number. 0: nothing may be claimed."""
        if self.mode == "open":
            return None
        if self.mode == "paused" or (self.trial_at is not None and now < self.trial_at):
            return 0
        return self.width

    def probe_due(self, now: datetime) -> bool:
        """Whether somebody should open a session, with no message, to see whether the reason still stands."""
        return self.mode == "paused" and self.trial_at is not None and now >= self.trial_at


@dataclass(frozen=True, slots=True)
class Reading:
    """The pressure after an attempt that brought the message to nobody."""

    pressure: Pressure
    spared: bool

    def spares(self, said: Said) -> bool:
        """Whether what was said to a recipient was said to all, so that its try is not counted."""
        return self.spared and blame(said) is not None


def blame(said: Said) -> Blame | None:
    """What of it is the outbox's trouble; None when it is this message's own."""
    if said.stage in _ABOUT_A_MESSAGE:
        return _blame_at_a_message(said)
    if said.kind == "reply":
        return Blame(_why_of_a_refused_session(said))
    if said.stage in {"vault", "token"}:
        return Blame(_why_of_no_credential(said))
    if said.kind in _CERTIFICATE:
        return Blame("certificate")
    return Blame("sign_in" if said.kind == "no_mechanism" else "unreachable")


def _blame_at_a_message(said: Said) -> Blame | None:
    if said.kind == "reply":
        if said.code in _SIGN_IN_CODES:
            return Blame("sign_in")
        if said.code == _CONNECTIONS_EXCEEDED:
            return Blame("throttled")
        if said.stage == "recipient" and (said.enhanced or "")[1:4] in _OF_ONE_MAILBOX:
            return None
        if (why := _by_words(said)) is not None:
            return Blame(why, certain=said.stage != "recipient" or said.enhanced is not None)
        return Blame("throttled", certain=False) if said.code in _STORM_CODES else None
    # A message that kills every session would stop all others, if one were enough.
    return Blame("unreachable", certain=False) if said.kind in _LOST else None


def _by_words(said: Said) -> Why | None:
    reply = Reply(said.code or 0, (said.text,))
    evidence = Evidence(said.stage, said.kind, reply)
    why = next((why for cause, why in _BY_WORDS if cause.fits(evidence, _SOMEWHERE)), None)
    # Who says 4xx to it (a rate a second, a peak) means minutes.
    return "throttled" if why == "quota" and reply.transient else why


def _why_of_a_refused_session(said: Said) -> Why:
    code = said.code or 0
    if code in _SIGN_IN_CODES or (said.stage == "auth" and code >= _REFUSALS):
        return "sign_in"
    if said.stage == "tls" and code >= _REFUSALS:
        return "certificate"
    return _by_words(said) or "throttled"


def _why_of_no_credential(said: Said) -> Why:
    if said.kind in _CERTIFICATE and said.kind not in {"insecure", "not_offered"}:
        return "certificate"
    if said.kind in _PASSING:
        return "unreachable"
    if said.kind == "status":
        passing = said.code is None or said.code == _TOO_MANY_REQUESTS or said.code >= _SERVER_ERROR
        return "unreachable" if passing else "sign_in"
    return "credential"


# --- What follows --------------------------------------------------------------------------------------------


def felt(pressure: Pressure, said: Said, now: datetime, *, busy: int = 1) -> Reading:
    """After an attempt, a trial or a probe that failed. ``busy``: how many messages were under way, this one too."""
    found = blame(said)
    if found is None:
        return Reading(pressure, spared=False)
    if found.why in PAUSING:
        return Reading(_paused(pressure, found.why, said, now), spared=True)
    if pressure.mode == "paused":
        return Reading(_paused_still(pressure, now), spared=True)
    late = pressure.trial_at is not None and now < pressure.trial_at  # it was under way before we slowed down
    if late:
        return Reading(pressure, spared=True)
    streak = pressure.streak + 1
    steady = pressure.mode == "open" or pressure.trial_at is None  # open, or coming back
    if steady and not found.certain and streak < STORM:
        return Reading(replace(pressure, streak=streak), spared=False)
    slowed = _slowed(replace(pressure, streak=streak), found.why, said, now, busy)
    # The message of a trial takes its turn at the end of the queue, or one message could be every trial.
    return Reading(slowed, spared=found.certain or steady)


def relieved(pressure: Pressure, now: datetime) -> Pressure:
    """After a message was accepted. What a person paused stays paused, and so does what a credential paused."""
    if pressure.mode == "open":
        return pressure if pressure.streak == 0 else replace(pressure, streak=0)
    if pressure.mode == "paused" or (pressure.trial_at is not None and now < pressure.trial_at):
        return pressure  # it was under way before
    width = pressure.width + 1
    return Pressure() if width >= _WIDE else replace(pressure, width=width, streak=0, trial_at=None)


def probed(pressure: Pressure, now: datetime) -> Pressure:
    """After a session could be opened: what paused us is over. What a person paused stays so."""
    if pressure.mode != "paused" or pressure.why == "operator":
        return pressure
    return Pressure("slowed", pressure.why, pressure.said, now, trial_at=None)


def profile_changed(pressure: Pressure) -> Pressure:
    """After the profile was changed: nothing we knew of the old one counts. What a person paused stays so.

    What attempts under the old profile show after that is nobody's business here.
    """
    return pressure if pressure.why == "operator" else Pressure()


def paused_by_operator(pressure: Pressure, now: datetime) -> Pressure:
    return Pressure("paused", "operator", pressure.said, now)


def resumed_by_operator() -> Pressure:
    """A person knows better, whatever the reason was."""
    return Pressure()


def _paused(pressure: Pressure, why: Why, said: Said, now: datetime) -> Pressure:
    if pressure.why == "operator":
        return pressure
    if pressure.mode == "paused":
        return _paused_still(replace(pressure, why=why, said=said), now)
    return Pressure("paused", why, said, now, now + _wait(why, 0))


def _paused_still(pressure: Pressure, now: datetime) -> Pressure:
    """After a probe failed, or after the last word on what was under way when we paused."""
    if pressure.why is None or not pressure.probe_due(now):
        return pressure
    level = pressure.level + 1
    return replace(pressure, level=level, trial_at=now + _wait(pressure.why, level))


def _slowed(pressure: Pressure, why: Why, said: Said, now: datetime, busy: int) -> Pressure:
    if pressure.mode == "slowed":
        level = pressure.level + 1 if why == pressure.why else 0
        since = pressure.since
    else:
        level, since = 0, now
    width = max(1, busy // 2)
    return Pressure("slowed", why, said, since, now + _wait(why, level), level, pressure.streak, width)


def _wait(why: Why, level: int) -> timedelta:
    waits = _WAITS[why]
    return waits[min(level, len(waits) - 1)]
