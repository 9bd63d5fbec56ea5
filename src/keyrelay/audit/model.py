"""What an audit entry says (contract 7.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import msgspec


class Category(IntEnum):
    """What area an entry is about. Upstream's numbers where it has published one, and our own from 2100 (D16)."""

    SETTING = 2007
    ADMINISTRATION = 2010
    SECURITY_ROLE = 2011
    AUTHORIZATION_FAILURE = 2012
    SMTP = 2100
    PAM = 2101
    IDENTITY_PROVIDER = 2102
    API_TOKEN = 2103
    OUTBOX = 2104
    AUDIT = 2105

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES: Mapping[int, str] = {
    Category.SETTING: "ApplicationSetting",
    Category.ADMINISTRATION: "ADIdentityModel",
    Category.SECURITY_ROLE: "SecurityRole",
    Category.AUTHORIZATION_FAILURE: "AuthorizationFailure",
    Category.SMTP: "SMTP",
    Category.PAM: "PAM",
    Category.IDENTITY_PROVIDER: "IdentityProvider",
    Category.API_TOKEN: "APIToken",
    Category.OUTBOX: "Outbox",
    Category.AUDIT: "Audit",
}


class Operation(IntEnum):
    """What was done, by upstream's numbers."""

    CREATED = 1
    UPDATED = 2
    DELETED = 3
    DENIED = 5
    REVOKED = 6
    DOWNLOADED = 7
    ENCOUNTERED = 10
    RECOVERED = 12
    REMOVED_FROM_HOLD = 14
    RESET = 19
    RESTARTED = 21
    SENT = 22
    FAILED = 23
    COMPLETED = 24

    @property
    def title(self) -> str:
        return "Removed from Hold" if self is Operation.REMOVED_FROM_HOLD else self.name.capitalize()


class Level(IntEnum):
    INFORMATION = 0
    WARNING = 1
    FAILURE = 2


class Kind(StrEnum):
    """What kind of thing an entry is about (``EntityType``)."""

    PROFILE = "SmtpProfile"
    TEST = "SmtpTest"
    PROVIDER = "PamProvider"
    PROVIDER_TYPE = "PamProviderType"
    ENTRY = "PamLocalEntry"
    USER = "User"
    ROLE = "Role"
    CLAIM = "Claim"
    IDENTITY_PROVIDER = "IdentityProvider"
    TOKEN = "ApiToken"  # noqa: S105 - what it is, and none
    KEY = "DataKey"
    OUTBOX = "Outbox"
    MESSAGE = "Message"
    ROUTE = "Route"
    AUDIT = "AuditTrail"


class Actor(msgspec.Struct, frozen=True):
    """Who did it, and the network address that it came from; none for the command line, and for keyrelay itself."""

    name: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to what.

    ``name`` is what people call the thing, and ``object`` the id by which it stays the same when it is renamed.
    ``details``: facts, such as the roles of who was refused. ``changes``: the fields that changed, with what they were
    and are; a secret's value is always ``"changed"``, and never there. ``by``: who did it, where that is not whoever
    acts (``acting``).
    """

    category: Category
    operation: Operation
    kind: Kind
    name: str | None = None
    object: str | None = None
    level: Level = Level.INFORMATION
    details: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    by: Actor | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A deed as it is kept: as it stands in the database, whoever has written that.

    ``category``, ``operation`` and ``kind`` may be of a later keyrelay. ``hash`` covers all of it and the hash of the
    entry before; ``signature`` signs that.
    """

    id: int
    at: str
    category: int
    operation: int
    level: int
    actor: Actor
    kind: str
    name: str | None
    object: str | None
    details: Mapping[str, Any]
    changes: Mapping[str, Any]
    hash: str
    signature: str

    @property
    def category_title(self) -> str:
        return _TITLES.get(self.category, str(self.category))

    @property
    def operation_title(self) -> str:
        return Operation(self.operation).title if self.operation in _OPERATIONS else str(self.operation)

    @property
    def level_title(self) -> str:
        return _LEVELS.get(self.level, str(self.level))

    @property
    def timestamp(self) -> str:
        """In UTC, with Z (contract D22)."""
        return self.at.removesuffix("+00:00") + "Z"


_OPERATIONS = frozenset(Operation)
_LEVELS = {int(level): level.name.capitalize() for level in Level}


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """The fields that differ, with what they were and are; of ``hidden`` ones only that they changed."""
    return {
        field: "changed" if field in hidden else {"before": before.get(field), "after": after.get(field)}
        for field in (*before, *(field for field in after if field not in before))
        if before.get(field) != after.get(field)
    }
