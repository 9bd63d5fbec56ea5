"""What is handed in to ``POST /api/v1/messages``: a body and a query become a message and when to send it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from keyrelay.access.identity import Identity
from keyrelay.access.permissions import SUBMIT, sending_as
from keyrelay.api.conventions import parse_object, printable
from keyrelay.api.moments import point_in_time
from keyrelay.errors import BadInput, MalformedBody, Violation
from keyrelay.outbox.composing import compose
from keyrelay.outbox.letter import Allowance, Bounds, Letter, not_permitted, too_many
from keyrelay.outbox.queue import PRIORITIES
from keyrelay.outbox.reading import read
from keyrelay.profile.model import SmtpProfile

_LATEST = timedelta(days=366)  # a year, from whichever day
_ENVELOPE = frozenset({"sender", "recipient", "send_after", "priority"})
_ONCE = ("sender", "send_after", "priority")
# Nothing in it stands for anything else, and no pair is empty: it need not be decoded.
_PLAIN_QUERY = re.compile(r"[\w@.:-]+=[\w@.:-]*(?:&[\w@.:-]+=[\w@.:-]*)*", re.ASCII)

_object = msgspec.json.Decoder(dict[str, Any]).decode

Read = Callable[[bytes, str, Allowance, datetime], "Handed"]


class Handed(msgspec.Struct, frozen=True):
    """What was handed in, and nothing is wrong with it. ``send_after`` is None for now."""

    letter: Letter
    priority: int
    send_after: datetime | None


# --- In whose name -------------------------------------------------------------------------------------------


class Names(msgspec.Struct, frozen=True):
    """In whose names somebody may send; ``lacking`` collects the permissions for those it was asked about in vain."""

    identity: Identity
    lacking: dict[str, None] = msgspec.field(default_factory=dict)

    def allow(self, address: str) -> bool:
        needed = sending_as(address)
        if self.identity.may(needed):
            return True
        self.lacking[needed] = None
        return False

    def allowance(self, profile: SmtpProfile, most: Bounds) -> Allowance:
        kind = Allowance if self.identity.may(SUBMIT) else _NotTheProfiles
        return kind(
            sender_account=profile.sender_account,
            sender_name=profile.sender_name,
            may_send_as=self.allow,
            bounds=most,
        )


class _NotTheProfiles(Allowance, frozen=True):
    """For somebody who may send in some names, and for whom the profile's is one like any other."""

    def permits(self, address: str) -> bool:
        local, _, domain = address.rpartition("@")
        return self.may_send_as(f"{local}@{domain.lower()}")


# --- Bodies --------------------------------------------------------------------------------------------------


def from_json(body: bytes, query: str, allowance: Allowance, now: datetime) -> Handed:
    """Read a JSON object. Raises MalformedBody or BadInput."""
    given = _members(body)
    when = _When(now, [_not_a_parameter(name) for name in _parameters(query, 1)])
    priority, send_after = when.priority(given.pop("priority", None)), when.send_after(given.pop("send_after", None))
    try:
        letter = compose(given, allowance, now=now)
    except BadInput as bad:
        raise BadInput((*when.found, *bad.violations)) from None
    when.found += _not_permitted(letter, allowance, "from")
    if when.found:
        raise BadInput(tuple(when.found))
    return Handed(letter, priority, send_after)


def from_rfc822(body: bytes, query: str, allowance: Allowance, now: datetime) -> Handed:
    """Read a message; its envelope stands in the query, or in its head. Raises BadInput."""
    if not query:
        letter = read(body, allowance, now=now)
        if found := _not_permitted(letter, allowance, "sender"):
            raise BadInput(tuple(found))
        return Handed(letter, 0, None)
    given = _parameters(query, allowance.bounds.recipients)
    when = _When(now, [_not_a_parameter(name) for name in given if name not in _ENVELOPE])
    when.found += [_more_than_once(name) for name in _ONCE if name in given and len(given[name]) > 1]
    priority, send_after = (when.priority(_first(given, "priority")), when.send_after(_first(given, "send_after")))
    try:
        letter = read(body, allowance, now=now, sender=_first(given, "sender"), recipients=given.get("recipient"))
    except BadInput as bad:
        raise BadInput((*when.found, *map(_as_parameter, bad.violations))) from None
    when.found += _not_permitted(letter, allowance, "sender")
    if when.found:
        raise BadInput(tuple(when.found))
    return Handed(letter, priority, send_after)


def _members(body: bytes) -> dict[str, Any]:
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return _object(body)
    except (ValueError, RecursionError):  # msgspec's own errors among them
        parse_object(body)  # says what is wrong, and where
    raise MalformedBody("The body holds half a character, or a number that is far too large.")


def _not_permitted(letter: Letter, allowance: Allowance, name: str) -> list[Violation]:
    """Who writes in the profile's name by saying nothing of the sender needs the right to it too."""
    if type(allowance) is Allowance or allowance.permits(letter.envelope.sender):
        return []
    return [not_permitted(name)]


# --- Parameters ----------------------------------------------------------------------------------------------


def _parameters(query: str, recipients: int) -> dict[str, list[str]]:
    """The values of each parameter. Raises BadInput."""
    most = recipients + len(_ENVELOPE)
    if query.count("&") >= most:
        raise BadInput((too_many("recipient", recipients, "addresses"),))
    given: dict[str, list[str]] = {}
    if _PLAIN_QUERY.fullmatch(query):
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            given.setdefault(name, []).append(value)
        return given
    try:
        for name, value in parse_qsl(query.encode("latin-1").decode("ascii"), keep_blank_values=True, errors="strict"):
            given.setdefault(name, []).append(value)
    except UnicodeDecodeError:
        raise BadInput((Violation("query", "bad_charset", "The query is not UTF-8."),)) from None
    return given


def _first(given: Mapping[str, list[str]], name: str) -> str | None:
    return given[name][0] if name in given else None


def _not_a_parameter(name: str) -> Violation:
    return Violation(printable(name), "unknown", "{field} is not a parameter of this.")


def _more_than_once(name: str) -> Violation:
    return Violation(name, "duplicate", "{field} is given more than once.")


def _as_parameter(violation: Violation) -> Violation:
    """What is wrong with the recipients, said of the parameter that gives them."""
    if violation.field == "recipients":
        violation = Violation("recipient", violation.code, violation.message)
    if violation.code == "bad_address" and violation.field in _ENVELOPE:
        return Violation(violation.field, violation.code, violation.message + " In a query, + is written %2B.")
    return violation


class _When(msgspec.Struct):
    """Reads when to send, and how urgently; ``found`` collects what is wrong."""

    now: datetime
    found: list[Violation]

    def priority(self, given: object) -> int:
        if given is None:
            return 0
        if isinstance(given, str) and given in PRIORITIES:
            return PRIORITIES[given]
        self.found.append(Violation("priority", "bad_value", "{field} must be high, normal or low."))
        return 0

    def send_after(self, given: object) -> datetime | None:
        """The time, or None when it has come already."""
        if given is None:
            return None
        moment = point_in_time(given) if isinstance(given, str) else None
        if moment is None:
            said = "{field} must be a time with its zone, such as 2026-03-01T08:00:00Z."
            self.found.append(Violation("send_after", "bad_time", said))
        elif moment > self.now + _LATEST:
            self.found.append(Violation("send_after", "out_of_range", "{field} is more than a year away."))
        return moment if moment is not None and moment > self.now else None
