"""The credentials of a profile, opened at the moment they are needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from keyrelay.profile.model import Anonymous, Basic, OAuthClientCredentials, SecretField, SmtpProfile
from keyrelay.relay.sign_in import Credentials, NoSignIn, PasswordSignIn, TokenSignIn
from keyrelay.relay.token import TokenRequest
from keyrelay.secrets.model import GivenSecret, SecretText

Resolve = Callable[[GivenSecret, SecretField, str], Awaitable[SecretText]]
"""Gives a secret for one field and one destination (``secrets.resolve``)."""


async def credentials_of(
    profile: SmtpProfile,
    resolve: Resolve,
    client_authentication: Literal["client_secret_post", "client_secret_basic"] = "client_secret_post",
) -> Credentials:
    """How to sign in for this profile. Raises what ``resolve`` raises."""
    destination = profile.destination.text()
    match profile.authentication:
        case Anonymous():
            return NoSignIn()
        case Basic() as basic:
            return PasswordSignIn(
                await resolve(basic.relay_username, "relay_username", destination),
                await resolve(basic.relay_password, "relay_password", destination),
            )
        case OAuthClientCredentials() as oauth:
            request = TokenRequest(
                oauth.token_endpoint,
                await resolve(oauth.client_id, "client_id", destination),
                await resolve(oauth.client_secret, "client_secret", destination),
                oauth.scope,
                oauth.audience,
                oauth.request_headers,
                client_authentication,
            )
            return TokenSignIn(profile.sender_account, request)
