"""What a caller asked for, and who is asking."""

from __future__ import annotations

from collections.abc import Callable

from keyrelay.errors.root import KeyrelayError, Violation

_MOST_VIOLATIONS = 50


class BadInput(KeyrelayError):
    """The request has fields that cannot be used; every one of them is listed, and nothing was changed."""

    code = "bad_input"
    remedy = "Correct the fields named and send the request again."

    def __init__(self, violations: tuple[Violation, ...], *, remedy: str | None = None) -> None:
        self.violations = violations[:_MOST_VIOLATIONS]  # an answer to nonsense has a bound too
        super().__init__(" ".join(self.sentences()), remedy=remedy)

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


class BadSortField(BadInput):
    """The list cannot be sorted by the field that the request names."""

    code = "bad_sort_field"
    remedy = "Sort by one of the fields named, or leave the parameter out."


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


class TooManyConnections(KeyrelayError):
    """As many connections are open to this server process as may be; nothing was read of the request."""

    code = "too_many_connections"
    remedy = "Try again in a moment, and keep few connections open; KEYRELAY_CONNECTIONS says how many there may be."


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


class FormNotOurs(KeyrelayError):
    """A form of the portal does not come from a page of this session."""

    code = "form_not_ours"
    remedy = "Open the page again, and send the form from there."


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


class KeyReused(KeyrelayError):
    """The Idempotency-Key belongs to another submission, whose content differs; nothing was taken in."""

    code = "key_reused"
    remedy = "Use a new Idempotency-Key for each message, and the same one only to send the same message again."


# --- Who is asking -------------------------------------------------------------------------------------------


class SignInRequired(KeyrelayError):
    """No credentials, or credentials that are not right.

    What is wrong with a token is told in the log alone.
    """

    code = "sign_in_required"
    remedy = "Sign in with a user name and password (HTTP Basic), or with a token (Bearer)."

    def __init__(self, message: str, *, remedy: str | None = None, token_sent: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.token_sent = token_sent


class SessionOver(SignInRequired):
    """The session that a browser came with has ended, or never was one."""

    code = "session_over"
    remedy = "Sign in to the portal again."


class SignInNotBegun(KeyrelayError):
    """An identity provider's answer that belongs to no sign-in that this browser has begun."""

    code = "sign_in_not_begun"
    remedy = "Begin again on the page to sign in, in one tab, with cookies allowed and over https."


class SignInDenied(KeyrelayError):
    """The identity provider has not signed somebody in."""

    code = "sign_in_denied"
    remedy = "Try again; if it stays, ask those who run the identity provider whether you may use keyrelay."


class SignInRefused(KeyrelayError):
    """What an identity provider has answered is not accepted; the log alone has the reason."""

    code = "sign_in_refused"
    remedy = "Begin again on the page to sign in; if it stays, keyrelay's log says why."


class IdentityProviderFailed(KeyrelayError):
    """An identity provider cannot be asked, or its answer is not usable."""

    code = "identity_provider_failed"
    remedy = "Try again in a moment; if it stays, keyrelay's log and keyrelay doctor say more."


class NoRole(KeyrelayError):
    """The identity is known and holds no role at all."""

    code = "no_role"
    remedy = "Ask an administrator for a role: keyrelay role grant ROLE USER, or a role with a claim of the token."


class PermissionMissing(KeyrelayError):
    """The identity holds roles, and none of them has the permission needed."""

    code = "permission_missing"
    remedy = "Ask an administrator for a role with the permission named."


class TooManyAttempts(KeyrelayError):
    """Sign-in failed too often from this address or for this user; attempts are slowed down for a while."""

    code = "too_many_attempts"
    remedy = "Wait for the seconds in the Retry-After header."

    def __init__(self, message: str, *, retry_after: int, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class TooManyTests(KeyrelayError):
    """As many tests as are allowed are under way already, or too many were started in the last minute."""

    code = "too_many_tests"
    remedy = "Wait for the seconds in the Retry-After header."

    def __init__(self, message: str, *, retry_after: int, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class TooManyMessages(KeyrelayError):
    """This user, or this address, has handed in as many messages in the last minute as it may."""

    code = "too_many_messages"
    remedy = "Wait for the seconds in the Retry-After header; look whether a program repeats itself."

    def __init__(self, message: str, *, retry_after: int, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class TooManyListeners(KeyrelayError):
    """As many listen to the events of the outbox as may, on this server process."""

    code = "too_many_listeners"
    remedy = "Wait for the seconds in the Retry-After header, or read the list of messages instead."

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
