"""The SMTP profile as a value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from keyrelay.secrets.model import GivenSecret

SUBMISSIONS_PORT = 465
DEFAULT_PORT = 25

SecretField = Literal["relay_username", "relay_password", "client_id", "client_secret"]
SECRET_FIELDS: tuple[SecretField, ...] = ("relay_username", "relay_password", "client_id", "client_secret")
HIDDEN_FIELDS = frozenset({"relay_password", "client_secret"})  # never shown; the other two are (contract D2)


class TransportSecurity(Enum):
    """What is spoken on the wire (contract 2.5)."""

    IMPLICIT_TLS = "implicit-tls"
    STARTTLS_REQUIRED = "starttls-required"
    STARTTLS_WHEN_OFFERED = "starttls-when-offered"

    @classmethod
    def of(cls, port: int, *, use_ssl: bool) -> TransportSecurity:
        if not use_ssl:
            return cls.STARTTLS_WHEN_OFFERED
        return cls.IMPLICIT_TLS if port == SUBMISSIONS_PORT else cls.STARTTLS_REQUIRED


@dataclass(frozen=True, slots=True)
class Destination:
    """What a secret may be sent to. A stored secret opens for the destination it was given for, and for no other."""

    host: str
    port: int
    security: TransportSecurity
    token_endpoint: str | None

    def text(self) -> str:
        """One text per destination: the name under which secrets are sealed."""
        return json.dumps([self.host.lower(), self.port, self.security.value, self.token_endpoint])


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No sign-in at the relay."""


@dataclass(frozen=True, slots=True)
class Basic:
    """Sign-in with a user name and a password (RFC 4954)."""

    relay_username: GivenSecret
    relay_password: GivenSecret


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """A header added to the token request."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class OAuthClientCredentials:
    """Sign-in with a token that the relay's identity provider issues (RFC 6749 section 4.4).

    ``type_number`` is the RelayAuthenticationType the caller used, 3 or 4: both mean this (contract D1), and the
    caller gets back the one it sent.
    """

    client_id: GivenSecret
    client_secret: GivenSecret
    token_endpoint: str
    scope: str | None = None
    audience: str | None = None
    request_headers: tuple[RequestHeader, ...] = ()
    type_number: Literal[3, 4] = 3


Authentication = Anonymous | Basic | OAuthClientCredentials


@dataclass(frozen=True, slots=True)
class SmtpProfile:
    """The relay we hand mail to, how we sign in there, and who the mail is from."""

    host: str
    port: int
    use_ssl: bool
    sender_account: str
    sender_name: str
    authentication: Authentication = Anonymous()

    @property
    def security(self) -> TransportSecurity:
        return TransportSecurity.of(self.port, use_ssl=self.use_ssl)

    @property
    def destination(self) -> Destination:
        endpoint = (
            self.authentication.token_endpoint if isinstance(self.authentication, OAuthClientCredentials) else None
        )
        return Destination(self.host, self.port, self.security, endpoint)

    def secrets(self) -> Iterator[tuple[SecretField, GivenSecret]]:
        """Every secret of the profile, by field."""
        match self.authentication:
            case Basic() as basic:
                yield "relay_username", basic.relay_username
                yield "relay_password", basic.relay_password
            case OAuthClientCredentials() as oauth:
                yield "client_id", oauth.client_id
                yield "client_secret", oauth.client_secret

    def with_secret(self, field: SecretField, source: GivenSecret) -> SmtpProfile:
        """The same profile with another source for one of its secrets."""
        changed: dict[str, Any] = {field: source}
        return replace(self, authentication=replace(self.authentication, **changed))
