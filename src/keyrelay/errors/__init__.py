"""What can go wrong, in words for the person who has to act.

Every error has a stable ``code`` (documented in ``docs/reference/errors.md``, held there by a test), a message
that says what happened and a remedy that says what to do. Nothing here knows HTTP; ``api/problems.py`` decides
statuses. No message may ever hold a secret.
"""

from __future__ import annotations

from keyrelay.errors.requests import (
    BadInput,
    BadSortField,
    BodyTooLarge,
    BodyTooSlow,
    FormNotOurs,
    HeaderRequired,
    HeadTooLarge,
    IdentityProviderFailed,
    KeyReused,
    MalformedBody,
    MethodNotAllowed,
    NoRole,
    NotFound,
    NotHttp,
    PermissionMissing,
    ProfileChanged,
    SecretRequired,
    SessionOver,
    SignInDenied,
    SignInNotBegun,
    SignInRefused,
    SignInRequired,
    TooManyAttempts,
    TooManyConnections,
    TooManyListeners,
    TooManyMessages,
    TooManyTests,
    UnknownReference,
    UnknownVersion,
    UnsupportedMediaType,
)
from keyrelay.errors.root import KeyrelayError, Violation
from keyrelay.errors.starting import (
    CannotListen,
    CannotStart,
    DatabaseNewer,
    DatabaseUnreachable,
    DataDirUnusable,
    MasterKeyMissing,
    MasterKeyWrong,
    PlainHttpRefused,
    PortInUse,
    SettingsInvalid,
    TlsUnusable,
    TracesUnusable,
    TrustUnusable,
)
from keyrelay.errors.working import (
    IdentityProviderUnusable,
    Immutable,
    InUse,
    KeyUnknown,
    LastAdministrator,
    NameTaken,
    NoProfile,
    NotNow,
    OutboxFull,
    SecretGone,
    StoreUnavailable,
    TestFailed,
    TrailBroken,
    Unexpected,
    UnknownName,
    Unsuitable,
)

__all__ = [
    "BadInput",
    "BadSortField",
    "BodyTooLarge",
    "BodyTooSlow",
    "CannotListen",
    "CannotStart",
    "DataDirUnusable",
    "DatabaseNewer",
    "DatabaseUnreachable",
    "FormNotOurs",
    "HeadTooLarge",
    "HeaderRequired",
    "IdentityProviderFailed",
    "IdentityProviderUnusable",
    "Immutable",
    "InUse",
    "KeyReused",
    "KeyUnknown",
    "KeyrelayError",
    "LastAdministrator",
    "MalformedBody",
    "MasterKeyMissing",
    "MasterKeyWrong",
    "MethodNotAllowed",
    "NameTaken",
    "NoProfile",
    "NoRole",
    "NotFound",
    "NotHttp",
    "NotNow",
    "OutboxFull",
    "PermissionMissing",
    "PlainHttpRefused",
    "PortInUse",
    "ProfileChanged",
    "SecretGone",
    "SecretRequired",
    "SessionOver",
    "SettingsInvalid",
    "SignInDenied",
    "SignInNotBegun",
    "SignInRefused",
    "SignInRequired",
    "StoreUnavailable",
    "TestFailed",
    "TlsUnusable",
    "TooManyAttempts",
    "TooManyConnections",
    "TooManyListeners",
    "TooManyMessages",
    "TooManyTests",
    "TracesUnusable",
    "TrailBroken",
    "TrustUnusable",
    "Unexpected",
    "UnknownName",
    "UnknownReference",
    "UnknownVersion",
    "Unsuitable",
    "UnsupportedMediaType",
    "Violation",
    "catalogue",
]


def catalogue() -> list[type[KeyrelayError]]:
    """Every kind of error, in the order they are written; the reference page and its test are made from it."""
    found: list[type[KeyrelayError]] = []

    def walk(kind: type[KeyrelayError]) -> None:
        for sub in kind.__subclasses__():
            if sub not in found:
                found.append(sub)
            walk(sub)

    walk(KeyrelayError)
    return found
