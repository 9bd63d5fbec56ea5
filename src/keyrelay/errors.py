"""What can go wrong, in words for the person who has to act.

Every error has a stable ``code`` (documented in ``docs/reference/errors.md``, held there by a test), a message
that says what happened and a remedy that says what to do. Nothing here knows HTTP; ``api/problems.py`` decides
statuses. No message may ever hold a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

_MOST_VIOLATIONS = 50


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with one field.

    ``field`` is our own snake_case name (a dot leads into a part of it, as in ``relay_password.provider``) and
    ``{field}`` stands for it in the message, because each caller knows it by another name.
    """

    field: str
    code: str
    message: str


class KeyrelayError(Exception):
    """The root of everything keyrelay can explain."""

    code: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.remedy if remedy is None else remedy


# --- What a caller asked for ---------------------------------------------------------------------------------


class BadInput(KeyrelayError):
    """The request has fields that cannot be used; every one of them is listed, and nothing was changed."""

    code = "bad_input"
    remedy = "Correct the fields named and send the request again."

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        self.violations = violations[:_MOST_VIOLATIONS]  # an answer to nonsense has a bound too
        super().__init__(" ".join(self.sentences()))

    def sentences(self, name: Callable[[str], str] = lambda field: field) -> list[str]:
        """One sentence for each violation, with the fields called what ``name`` says."""
        return [
            violation.message.replace("{field}", name(violation.field.partition(".")[0]))
            for violation in self.violations
        ]


class UnknownReference(BadInput):
    """The request names something that does not exist, such as a PAM provider."""

    code = "unknown_reference"
    remedy = "Name something that exists; GET /PamProviders lists the providers."


class SecretRequired(BadInput):
    """The destination of a stored secret would change, and the secret was not given again.

    A stored secret is only ever sent to the destination it was given for.
    """

    code = "secret_required"
    remedy = "Give the secret again together with the new destination."


class MalformedBody(KeyrelayError):
    """The body could not be read as what its type says."""

    code = "malformed_body"
    remedy = "Send one JSON object, encoded in UTF-8."


class BodyTooLarge(KeyrelayError):
    """The body is longer than this operation accepts."""

    code = "body_too_large"
    remedy = "Send a shorter body; a profile needs a few kilobytes."


class HeadTooLarge(KeyrelayError):
    """The request line and headers are longer than any client needs."""

    code = "head_too_large"
    remedy = "Send fewer or shorter headers."


class NotHttp(KeyrelayError):
    """What arrived cannot be read as a request; often it is TLS sent to a port that speaks plain HTTP."""

    code = "not_http"
    remedy = "Send HTTP/1.1; look whether the address begins with http:// or https://."


class BodyTooSlow(KeyrelayError):
    """The body did not arrive in time."""

    code = "body_too_slow"
    remedy = "Send the whole body at once; look whether its Content-Length is right."


class UnsupportedMediaType(KeyrelayError):
    """The body's media type is not one this operation reads."""

    code = "unsupported_media_type"
    remedy = "Send the body as application/json."


class UnknownVersion(KeyrelayError):
    """The header x-keyfactor-api-version names a version that this operation does not have."""

    code = "unknown_version"
    remedy = "Use one of the versions named, or leave the header out for version 1."


class HeaderRequired(KeyrelayError):
    """A header that guards changes against foreign web pages is missing."""

    code = "header_required"
    remedy = "Send the header x-keyfactor-requested-with: APIClient."


class NotFound(KeyrelayError):
    """The path or the thing it names does not exist."""

    code = "not_found"
    remedy = "Check the path; /docs lists every operation."


class MethodNotAllowed(KeyrelayError):
    """The path exists and does not offer this method."""

    code = "method_not_allowed"
    remedy = "Use one of the methods in the Allow header."

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class ProfileChanged(KeyrelayError):
    """The profile is no longer the one the caller's If-Match named; nothing was changed."""

    code = "profile_changed"
    remedy = "Read the profile again, apply your change to what it is now, and send it with the new ETag."


# --- Who is asking -------------------------------------------------------------------------------------------


class SignInRequired(KeyrelayError):
    """No credentials, or credentials that are not right."""

    code = "sign_in_required"
    remedy = "Sign in with a user name and password (HTTP Basic)."


class NoRole(KeyrelayError):
    """The identity is known and holds no role at all."""

    code = "no_role"
    remedy = "Ask an administrator for a role: keyrelay role grant ROLE USER."


class PermissionMissing(KeyrelayError):
    """The identity holds roles, and none of them has the permission needed."""

    code = "permission_missing"
    remedy = "Ask an administrator for a role with the permission named."


class TooManyAttempts(KeyrelayError):
    """Sign-in failed too often from this address or for this user; attempts are slowed down for a while."""

    code = "too_many_attempts"
    remedy = "Wait for the seconds in the Retry-After header."

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyTests(KeyrelayError):
    """As many tests as are allowed are under way already, or this user has started too many in the last minute."""

    code = "too_many_tests"
    remedy = "Wait for the seconds in the Retry-After header."

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# --- The relay -----------------------------------------------------------------------------------------------


class TestFailed(KeyrelayError):
    """The test message did not get through; the message names the stage, what the relay said, and the cause."""

    code = "test_failed"
    remedy = "See the remedy in the message; POST /api/v1/diagnoses shows the whole dialogue."


class NoProfile(KeyrelayError):
    """There is no profile yet to work with."""

    code = "no_profile"
    remedy = "Set one: PUT /SMTP, or keyrelay smtp set FILE."


# --- Managing what is kept -----------------------------------------------------------------------------------


class UnknownName(KeyrelayError):
    """No user, role or revision of that name is kept here."""

    code = "unknown_name"
    remedy = "List what there is: keyrelay user list, keyrelay role list, keyrelay smtp history."


class NameTaken(KeyrelayError):
    """A user or role of that name is already kept here."""

    code = "name_taken"
    remedy = "Choose another name, or change the one that is there."


class Unsuitable(KeyrelayError):
    """A name, password or permission string that keyrelay does not accept."""

    code = "unsuitable"
    remedy = "Choose one that fits what the message asks for."


class LastAdministrator(KeyrelayError):
    """The change would leave nobody who may do everything."""

    code = "last_administrator"
    remedy = "Give another user the Administrator role first."


class SecretGone(KeyrelayError):
    """A stored secret of an old profile has been erased since, so that profile cannot be restored whole."""

    code = "secret_gone"
    remedy = "Set the profile anew and give the secrets again."


# --- What keyrelay itself needs ------------------------------------------------------------------------------


class StoreUnavailable(KeyrelayError):
    """The database does not answer."""

    code = "store_unavailable"
    remedy = "Check that the database runs and can be reached; keyrelay goes on by itself when it is back."


class KeyUnknown(KeyrelayError):
    """A secret was encrypted with a data key that the database does not hold any more."""

    code = "key_unknown"
    remedy = "Restore the table data_key from the backup that belongs to this database, or give the secret again."


class Unexpected(KeyrelayError):
    """Our fault: the log has the details under the correlation id, and the caller gets nothing of them."""

    code = "unexpected"
    remedy = "Try again; if it stays, look for the correlation id in keyrelay's log and report what you find."


class CannotStart(KeyrelayError):
    """A reason not to start; the command ends with one line and exit code 1."""

    code = "cannot_start"
    remedy = "See the message."


class SettingsInvalid(CannotStart):
    """One or more KEYRELAY_ settings cannot be used."""

    code = "settings_invalid"
    remedy = "Correct the settings named; docs/reference/settings.md lists them all."


class PortInUse(CannotStart):
    """Another program listens on the address and port."""

    code = "port_in_use"
    remedy = "Stop it, or choose another port with --port or KEYRELAY_PORT."


class CannotListen(CannotStart):
    """The address cannot be listened on."""

    code = "cannot_listen"
    remedy = "Choose an address of this machine with --host, and a port you may use (below 1024 needs rights)."


class PlainHttpRefused(CannotStart):
    """Passwords would cross a network unencrypted."""

    code = "plain_http_refused"
    remedy = (
        "Give --tls-cert and --tls-key, or --self-signed. Behind a proxy that does TLS on the same trusted network, "
        "set KEYRELAY_ALLOW_PLAIN_HTTP=yes."
    )


class TlsUnusable(CannotStart):
    """The certificate or its key cannot be used."""

    code = "tls_unusable"
    remedy = "Give a certificate chain and the private key that belongs to it, both as PEM files without a pass phrase."


class TrustUnusable(CannotStart):
    """The file of own authorities, or the client certificate for the relay, cannot be used."""

    code = "trust_unusable"
    remedy = "Correct KEYRELAY_CA_BUNDLE, or KEYRELAY_RELAY_CLIENT_CERT and KEYRELAY_RELAY_CLIENT_KEY: PEM files."


class DataDirUnusable(CannotStart):
    """The data directory cannot be written."""

    code = "data_dir_unusable"
    remedy = "Make the directory writable for this user, or name another with KEYRELAY_DATA_DIR."


class DatabaseUnreachable(CannotStart):
    """The database cannot be opened."""

    code = "database_unreachable"
    remedy = "Check KEYRELAY_DATABASE_URL, that the database runs, and that user and password are right."


class DatabaseNewer(CannotStart):
    """The database was last used by a newer keyrelay."""

    code = "database_newer"
    remedy = "Install that version or a later one; going back needs a backup from before the upgrade."


class MasterKeyMissing(CannotStart):
    """The database holds encrypted secrets and there is no master key to open them."""

    code = "master_key_missing"
    remedy = (
        "Put the key file back, or give the key with KEYRELAY_MASTER_KEY or KEYRELAY_MASTER_KEY_FILE. "
        "keyrelay never makes a new key for old data."
    )


class MasterKeyWrong(CannotStart):
    """The master key is not the one that protects this database."""

    code = "master_key_wrong"
    remedy = (
        "Give the key that belongs to this database with KEYRELAY_MASTER_KEY or KEYRELAY_MASTER_KEY_FILE; "
        "while changing it, the old one as KEYRELAY_PREVIOUS_MASTER_KEY."
    )


def catalogue() -> list[type[KeyrelayError]]:
    """Every kind of error, in the order of this file; the reference page and its test are made from it."""
    found: list[type[KeyrelayError]] = []

    def walk(kind: type[KeyrelayError]) -> None:
        for sub in kind.__subclasses__():
            if sub not in found:
                found.append(sub)
            walk(sub)

    walk(KeyrelayError)
    return found
