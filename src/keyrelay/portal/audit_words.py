"""Entries of the audit trail in words, whoever has written into the database what stands there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keyrelay.audit.model import Category, Entry, Kind, Level, Operation

CATEGORIES: Mapping[Category, str] = {
    Category.SMTP: "SMTP profile and tests",
    Category.PAM: "PAM providers and entries",
    Category.ADMINISTRATION: "Users",
    Category.SECURITY_ROLE: "Roles",
    Category.IDENTITY_PROVIDER: "Identity providers",
    Category.API_TOKEN: "API tokens",
    Category.AUTHORIZATION_FAILURE: "Refused accesses",
    Category.OUTBOX: "Outbox",
    Category.SETTING: "Data keys",
    Category.AUDIT: "The audit trail itself",
}
OPERATIONS: Mapping[Operation, str] = {
    Operation.CREATED: "created",
    Operation.UPDATED: "changed",
    Operation.DELETED: "deleted",
    Operation.DENIED: "refused",
    Operation.REVOKED: "cancelled",
    Operation.DOWNLOADED: "downloaded",
    Operation.ENCOUNTERED: "encountered",
    Operation.RECOVERED: "restored",
    Operation.REMOVED_FROM_HOLD: "released",
    Operation.RESET: "set right",
    Operation.RESTARTED: "sent again",
    Operation.SENT: "sent",
    Operation.FAILED: "failed",
    Operation.COMPLETED: "completed",
}
LEVELS: Mapping[Level, str] = {
    Level.INFORMATION: "information",
    Level.WARNING: "warning",
    Level.FAILURE: "failure",
}
_KINDS: Mapping[str, str] = {
    Kind.PROFILE: "SMTP profile",
    Kind.TEST: "Test",
    Kind.PROVIDER: "PAM provider",
    Kind.PROVIDER_TYPE: "Provider type",
    Kind.ENTRY: "Local entry",
    Kind.USER: "User",
    Kind.ROLE: "Role",
    Kind.CLAIM: "Role claim",
    Kind.IDENTITY_PROVIDER: "Identity provider",
    Kind.TOKEN: "API token",
    Kind.KEY: "Data key",
    Kind.OUTBOX: "Outbox",
    Kind.MESSAGE: "Message",
    Kind.ROUTE: "Access",
    Kind.AUDIT: "Audit trail",
}
_OURS = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_SHORT = {"api", "smtp", "ssl", "tls", "url"}
_VALUE = "values."
_BRIEF_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Change:
    """A field that changed. ``was`` None: it is not told what from what, as for secrets; ``now`` says so then."""

    field: str
    was: str | None
    now: str


@dataclass(frozen=True, slots=True)
class Told:
    """An entry as a page tells it. ``at`` None: what stands there is no time; ``at_text`` is what stands there."""

    id: int
    at: datetime | None
    at_text: str
    who: str
    address: str
    what: str
    category: str
    level: str
    name: str
    object: str
    details: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]
    hash: str
    signature: str

    @property
    def brief(self) -> str:
        """Which fields changed, or else the facts, on one short line."""
        parts = [change.field for change in self.changes] or [f"{field} {value}" for field, value in self.details]
        text = ", ".join(parts)
        return text if len(text) <= _BRIEF_CHARACTERS else text[:_BRIEF_CHARACTERS] + "…"


def told(entry: Entry) -> Told:
    return Told(
        *(entry.id, _moment(entry.at), _text(entry.at), _text(entry.actor.name), _text(entry.actor.address)),
        *(_what(entry), _category(entry), LEVELS.get(entry.level, _text(entry.level))),  # type: ignore[call-overload]
        *(_text(entry.name), _text(entry.object)),
        tuple((_label(field), in_words(value)) for field, value in entry.details.items()),
        tuple(_change(field, value) for field, value in entry.changes.items()),
        *(_text(entry.hash), _text(entry.signature)),
    )


def _what(entry: Entry) -> str:
    kind = _KINDS.get(entry.kind, _text(entry.kind))
    return f"{kind} {OPERATIONS.get(entry.operation, entry.operation_title)}"  # type: ignore[call-overload]


def _category(entry: Entry) -> str:
    return CATEGORIES.get(entry.category, entry.category_title)  # type: ignore[call-overload,no-any-return]


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _change(field: str, value: Any) -> Change:
    if isinstance(value, dict) and value.keys() == {"before", "after"}:
        return Change(_label(field), in_words(value["before"]), in_words(value["after"]))
    return Change(_label(field), None, in_words(value))


def _label(field: str) -> str:
    """What people call a field: ours in words, those of others as they are."""
    if field.startswith(_VALUE):
        return f"Parameter {field.removeprefix(_VALUE)}"
    if not _OURS.fullmatch(field):
        return field
    words = [word.upper() if word in _SHORT else word for word in field.split("_")]
    return words[0][:1].upper() + " ".join(words)[1:]


def in_words(value: Any) -> str:
    """A value as people write it."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list() if value and all(isinstance(each, str) for each in value):
            return ", ".join(value)
        case list() | dict():
            return json.dumps(value, ensure_ascii=False) if value else "none"
    return str(value)


def _text(value: object) -> str:
    return "" if value is None else str(value)
