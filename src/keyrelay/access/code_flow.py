"""Signing people in through an identity provider: authorization code with PKCE (RFC 6749 section 4.1, RFC 7636).

Its answer comes by way of a browser, where anybody may have put it: nothing of it is believed before it was found to
belong to the round trip that this browser began (RFC 9700 section 2.1).
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from keyrelay.access import code_exchange, id_token, provider_clients, token_claims
from keyrelay.access.admission import TokenRefused
from keyrelay.access.code_exchange import CodeRefused, NoIdToken, Redemption
from keyrelay.access.discovery import NotDiscovered
from keyrelay.access.endpoints import EndpointBook, Endpoints
from keyrelay.access.identity_provider import Client, IdentityProvider
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.access.key_sets import KeySets
from keyrelay.access.round_trip import RoundTrip
from keyrelay.access.sessions import Sessions
from keyrelay.access.throttle import Throttle
from keyrelay.errors import (
    IdentityProviderFailed,
    KeyUnknown,
    NotFound,
    SecretGone,
    SignInDenied,
    SignInNotBegun,
    SignInRefused,
    TooManyAttempts,
    TrustUnusable,
)
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Store

_SCOPE = "openid profile email"
_MOST_AT_ONCE = 64  # codes being redeemed in this process
_LONGEST_CODE = 8192
# RFC 6749 section 4.1.2.1 and OpenID Connect Core 1.0 section 3.1.2.6. Other words are not repeated.
_DENIALS = {
    "access_denied": "It says that the sign-in was cancelled, or that you may not use keyrelay.",
    "login_required": "It says that you have to sign in there first.",
    "consent_required": "It says that somebody has to agree first that keyrelay learns who you are.",
    "interaction_required": "It says that you have to do something there first.",
    "unauthorized_client": "It says that keyrelay's client may not sign people in.",
    "invalid_scope": "It does not know the scopes that keyrelay asks for.",
    "server_error": "It says that something went wrong there.",
    "temporarily_unavailable": "It says that it is not available at the moment.",
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Welcome:
    """Somebody who has signed in: the name, and the token of the new session."""

    name: str
    token: SecretText


@dataclass(slots=True)
class CodeFlow:
    """Sends people to identity providers, and takes them in when they come back."""

    store: Store
    keyring: Keyring
    providers: IdentityProviderKeeper
    sessions: Sessions
    key_sets: KeySets
    throttle: Throttle
    trust: Callable[[], ssl.SSLContext]
    _endpoints: EndpointBook = field(init=False)
    _redeeming: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._endpoints = EndpointBook(self.trust)

    async def offered(self) -> list[IdentityProvider]:
        """The providers that people can sign in through now."""
        return [provider for provider in await self.providers.all() if provider.signs_people_in]

    async def begin(self, scheme: str, after: str, redirect_uri: str) -> tuple[str, RoundTrip]:
        """The address to send somebody to, and what their browser has to remember meanwhile.

        Raises NotFound or IdentityProviderFailed.
        """
        for provider in await self.offered():
            if provider.scheme.lower() == scheme.lower():
                break
        else:
            raise NotFound(
                "Nobody signs in through an identity provider of this name.", remedy="Go to the page to sign in."
            )
        endpoints = await self._of(provider)
        trip = RoundTrip.begin(provider.id, after, time.time())
        query = urlencode(
            {
                "response_type": "code",
                "client_id": _client(provider).id,
                "redirect_uri": redirect_uri,
                "scope": _SCOPE,
                "state": trip.state,
                "nonce": trip.nonce,
                "code_challenge": trip.challenge,
                "code_challenge_method": "S256",
            }
        )
        joint = "&" if "?" in endpoints.authorization else "?"
        return f"{endpoints.authorization}{joint}{query}", trip

    async def complete(
        self, trip: RoundTrip | None, answer: Mapping[str, str], redirect_uri: str, address: str
    ) -> Welcome:
        """Take somebody in who has come back from ``address`` with this answer.

        Raises SignInNotBegun, SignInDenied, SignInRefused, IdentityProviderFailed or TooManyAttempts.
        """
        # Not counted: another site's page can make a browser ask for this, and must not use up its owner's attempts.
        if trip is None or not trip.fits(answer.get("state", "")):
            raise SignInNotBegun("This sign-in was not begun in this browser, or more than ten minutes ago.")
        provider = await self._provider_of(trip)
        endpoints = await self._of(provider)
        _require_same_provider(answer, provider, endpoints)
        if "error" in answer:
            said = _DENIALS.get(answer["error"], "It does not say why in words that keyrelay knows.")
            _log(provider, address, "denied" if answer["error"] in _DENIALS else "denied for another reason")
            raise SignInDenied(f"{provider.display_name} did not sign you in. {said}")
        code = answer.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            raise SignInNotBegun(f"The answer of {provider.display_name} holds no code.")
        attempt = await self.throttle.attempt(address)
        try:
            return await self._take_in(provider, endpoints, trip, code, redirect_uri)
        except NoIdToken as problem:
            if problem.may_be_a_guess:
                await self.throttle.failed(attempt)
            raise _failed(provider, problem.why) from None
        except (CodeRefused, TokenRefused) as refused:
            reason = refused.reason if isinstance(refused, TokenRefused) else "code"
            _log(provider, address, reason)
            if reason == "keys unavailable":
                raise _failed(provider, "its keys cannot be had") from None
            await self.throttle.failed(attempt)
            raise SignInRefused(f"What {provider.display_name} says of you is not accepted.") from None

    async def _take_in(
        self, provider: IdentityProvider, endpoints: Endpoints, trip: RoundTrip, code: str, redirect_uri: str
    ) -> Welcome:
        client = _client(provider)
        secret = await self._secret(provider)
        asked = Redemption(client.id, secret, code, trip.verifier, redirect_uri)
        text = await self._redeem(asked, endpoints)
        said = await id_token.verified(text, provider, client.id, trip.nonce, self.key_sets)
        name = token_claims.name_of(said, provider)
        held = token_claims.stated(said, provider, name)
        # No local user has a colon in the name, and no provider is called as other names with one begin.
        full = f"{provider.scheme}:{name}"
        return Welcome(full, await self.sessions.begin_of_provider(full, provider.id, held))

    async def _redeem(self, asked: Redemption, endpoints: Endpoints) -> str:
        if self._redeeming >= _MOST_AT_ONCE:
            raise TooManyAttempts("Too many sign-ins are waiting to be checked.", retry_after=2)
        self._redeeming += 1
        try:
            return await code_exchange.redeem(asked, endpoints, self.trust())
        finally:
            self._redeeming -= 1

    async def _secret(self, provider: IdentityProvider) -> SecretText | None:
        try:
            return await provider_clients.reveal(self.store, self.keyring, provider)
        except SecretGone:  # another node has replaced it, and this one has not heard of that yet
            raise _failed(provider, "keyrelay's client secret there was changed at this moment") from None
        except KeyUnknown:
            raise _failed(provider, "keyrelay's client secret there cannot be decrypted: give it again") from None

    async def _provider_of(self, trip: RoundTrip) -> IdentityProvider:
        for provider in await self.offered():
            if provider.id == trip.provider:
                return provider
        raise SignInRefused("Nobody signs in through this identity provider any more.")

    async def _of(self, provider: IdentityProvider) -> Endpoints:
        try:
            return await self._endpoints.of(provider.authority)
        except (NotDiscovered, TrustUnusable) as problem:
            why = problem.why if isinstance(problem, NotDiscovered) else problem.message
            _logger.warning("an identity provider cannot be asked", extra={"facts": {"why": why}})
            raise _failed(provider, "its discovery document cannot be had or used") from None


def _require_same_provider(answer: Mapping[str, str], provider: IdentityProvider, endpoints: Endpoints) -> None:
    """Raise SignInNotBegun when another provider has answered than was asked (RFC 9207 section 2.4)."""
    given = answer.get("iss")
    if given == provider.authority or (given is None and not endpoints.names_itself):
        return
    raise SignInNotBegun(f"The answer is not one of {provider.display_name}, where this sign-in was begun.")


def _client(provider: IdentityProvider) -> Client:
    assert provider.client is not None  # noqa: S101 - one without is not offered
    return provider.client


def _failed(provider: IdentityProvider, why: str) -> IdentityProviderFailed:
    _logger.warning("a sign-in could not be finished", extra={"facts": {"provider": provider.scheme, "why": why}})
    return IdentityProviderFailed(f"{provider.display_name} cannot sign anybody in now: {why}.")


def _log(provider: IdentityProvider, address: str, reason: str) -> None:
    facts = {"provider": provider.scheme, "reason": reason, "address": address}
    _logger.warning("sign-in refused", extra={"facts": facts})
