"""Version 2 of the SMTP component: one struct for each published answer, one function for each request.

Contract 2.2 to 2.4 and 3. Secrets are objects, and OAuth client credentials have their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from keyrelay.api.conventions import Fields, Pairs
from keyrelay.errors import Violation
from keyrelay.profile.draft import ProfileDraft, SignIn
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import DEFAULT_PORT, Anonymous, Basic, OAuthClientCredentials, SmtpProfile
from keyrelay.secrets.model import FromPam, GivenSecret

NAMES = {
    "host": "Host",
    "id": "Id",
    "port": "Port",
    "authentication": "RelayAuthenticationType",
    "relay_password": "RelayPassword",
    "relay_username": "RelayUsername",
    "sender_account": "SenderAccount",
    "sender_name": "SenderName",
    "use_ssl": "UseSSL",
    "client_id": "ClientId",
    "client_secret": "ClientSecret",
    "token_endpoint": "TokenEndpoint",
    "scope": "Scope",
    "audience": "Audience",
    "request_headers": "RequestHeaders",
    "test_recipient": "TestRecipient",
}
SECRET_NAMES = {"secret_value": "SecretValue", "parameters": "Parameters", "provider": "Provider"}
HEADER_NAMES = {"name": "Name", "value": "Value"}

_SIGN_INS: dict[int, SignIn] = {
    0: "anonymous",
    2: "basic",
    3: "oauth_client_credentials",
    4: "oauth_client_credentials",
}


class Secret(msgspec.Struct, rename="pascal", frozen=True):
    """A secret as it is shown (contract 3)."""

    secret_value: str | None
    parameters: Mapping[str, str | None] | None
    provider: int | None


class TokenRequestHeader(msgspec.Struct, rename="pascal", frozen=True):
    """One of RequestHeaders."""

    name: str
    value: str


class SMTPResponse(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """GET and PUT (contract 2.2)."""

    host: str | None = None
    id: int = 1
    port: int = DEFAULT_PORT
    relay_authentication_type: int = 0
    relay_username: Secret | None = None
    relay_password: Secret | None = None
    sender_account: str | None = None
    sender_name: str | None = None
    use_ssl: bool = msgspec.field(name="UseSSL", default=False)
    client_id: Secret | None = None
    client_secret: Secret | None = None
    token_endpoint: str | None = None
    scope: str | None = None
    audience: str | None = None
    request_headers: list[TokenRequestHeader] | None = None


@dataclass(frozen=True, slots=True)
class TestRequest:
    """The settings to test, who gets the message, the type as it was sent, and what reading found wrong."""

    draft: ProfileDraft
    recipient: str | None
    type_number: int | None
    violations: tuple[Violation, ...]


def response(snapshot: Snapshot) -> SMTPResponse:
    profile = snapshot.profile
    if profile is None:
        return SMTPResponse()  # D17
    secrets = dict(profile.secrets())
    oauth = profile.authentication if isinstance(profile.authentication, OAuthClientCredentials) else None
    headers = [TokenRequestHeader(header.name, header.value) for header in oauth.request_headers] if oauth else []
    return SMTPResponse(
        host=profile.host,
        port=profile.port,
        relay_authentication_type=authentication_number(profile),
        relay_username=_shown(secrets.get("relay_username"), snapshot.visible.get("relay_username")),
        relay_password=_shown(secrets.get("relay_password"), None),
        sender_account=profile.sender_account,
        sender_name=profile.sender_name,
        use_ssl=profile.use_ssl,
        client_id=_shown(secrets.get("client_id"), snapshot.visible.get("client_id")),
        client_secret=_shown(secrets.get("client_secret"), None),
        token_endpoint=oauth.token_endpoint if oauth else None,
        scope=oauth.scope if oauth else None,
        audience=oauth.audience if oauth else None,
        request_headers=headers or None,
    )


def put_request(pairs: Pairs) -> tuple[ProfileDraft, tuple[Violation, ...]]:
    """The draft a PUT asks for, and what reading it found wrong."""
    fields = Fields(pairs, NAMES)
    check_id(fields)
    draft = _draft(fields, fields.integer("authentication") or 0)
    return draft, tuple(fields.violations)


def test_request(pairs: Pairs) -> TestRequest:
    """What a Test asks for."""
    fields = Fields(pairs, NAMES)
    number = fields.integer("authentication")
    draft = _draft(fields, number or 0)
    return TestRequest(draft, fields.text("test_recipient"), number, tuple(fields.violations))


def check_id(fields: Fields) -> None:
    """There is one profile, and its Id is 1 (D5)."""
    if fields.integer("id") not in {None, 0, 1}:
        fields.violations.append(Violation("id", "unknown_id", "{field} must be 1 or left out: there is one profile."))


def authentication_number(profile: SmtpProfile) -> int:
    """RelayAuthenticationType (D1)."""
    match profile.authentication:
        case Anonymous():
            return 0
        case Basic():
            return 2
        case OAuthClientCredentials() as oauth:
            return oauth.type_number


def sign_in_of(fields: Fields, number: int) -> SignIn:
    """What a RelayAuthenticationType means (D1); an unknown one is noted as a violation."""
    if number not in _SIGN_INS:
        fields.violations.append(
            Violation("authentication", "unknown_type", "{field} must be 0 (anonymous), 2 (basic), 3 or 4 (OAuth).")
        )
    return _SIGN_INS.get(number, "anonymous")


def relay_user(profile: SmtpProfile) -> GivenSecret | None:
    return dict(profile.secrets()).get("relay_username")


def _draft(fields: Fields, number: int) -> ProfileDraft:
    return ProfileDraft(
        host=fields.text("host"),
        port=fields.integer("port"),
        use_ssl=fields.flag("use_ssl"),
        sender_account=fields.text("sender_account"),
        sender_name=fields.text("sender_name"),
        authentication=sign_in_of(fields, number),
        type_number=4 if number == 4 else 3,  # noqa: PLR2004 - the number that is echoed
        relay_username=fields.secret("relay_username", SECRET_NAMES),
        relay_password=fields.secret("relay_password", SECRET_NAMES),
        client_id=fields.secret("client_id", SECRET_NAMES),
        client_secret=fields.secret("client_secret", SECRET_NAMES),
        token_endpoint=fields.text("token_endpoint"),
        scope=fields.text("scope"),
        audience=fields.text("audience"),
        request_headers=fields.request_headers("request_headers", HEADER_NAMES),
    )


def _shown(source: GivenSecret | None, visible: str | None) -> Secret | None:
    """A reference is shown; of a stored secret only what the contract shows in clear, and else nothing at all (D2)."""
    if isinstance(source, FromPam):
        return Secret(None, source.parameters, source.provider)
    return None if visible is None else Secret(visible, None, None)
