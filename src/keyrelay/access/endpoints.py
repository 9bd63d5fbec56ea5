"""Where identity providers sign people in and redeem codes: asked once for all who need it, and kept for an hour."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keyrelay.access import discovery
from keyrelay.access.discovery import NotDiscovered
from keyrelay.access.identity_provider import IdentityProvider
from keyrelay.aside import aside
from keyrelay.errors import IdentityProviderUnusable, TrustUnusable
from keyrelay.network.trust import Trust

_FRESH_SECONDS = 3600.0
_RETRY_SECONDS = 10.0  # after a failure: everybody may begin to sign in, and need not make us ask each time
_MOST = 1000

ClientAuthentication = Literal["client_secret_post", "client_secret_basic"]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Those of one provider. ``names_itself``: every answer that a browser brings says whose it is (RFC 9207)."""

    authorization: str
    token: str
    client_authentication: ClientAuthentication
    names_itself: bool


def read(found: Mapping[str, Any], authority: str) -> Endpoints:
    """From the discovery document. Raises NotDiscovered."""
    challenges = found.get("code_challenge_methods_supported")
    if isinstance(challenges, list) and "S256" not in challenges:
        raise NotDiscovered("The discovery document says that the provider does not know PKCE with S256.")
    return Endpoints(
        discovery.endpoint(found, "authorization_endpoint", authority),
        discovery.endpoint(found, "token_endpoint", authority),
        _client_authentication(found.get("token_endpoint_auth_methods_supported")),
        found.get("authorization_response_iss_parameter_supported") is True,
    )


def _client_authentication(known: Any) -> ClientAuthentication:
    # Of the two this is the one that everybody reads alike: not all decode what stands in Basic.
    if isinstance(known, list) and "client_secret_post" in known:
        return "client_secret_post"
    return "client_secret_basic"  # what is meant when nothing is said (OpenID Connect Discovery 1.0 section 3)


@dataclass(slots=True)
class _Kept:
    due_at: float
    outcome: Endpoints | NotDiscovered | TrustUnusable


class EndpointBook:
    """Those of all providers. ``trust``: the TLS context to ask with; ``clock`` never goes back."""

    def __init__(self, trust: Callable[[], ssl.SSLContext], clock: Callable[[], float] = time.monotonic) -> None:
        self._trust = trust
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def of(self, authority: str) -> Endpoints:
        """Raises NotDiscovered or TrustUnusable."""
        async with self._asking.setdefault(authority, asyncio.Lock()):
            kept = self._kept.get(authority)
            if kept is None or self._clock() >= kept.due_at:
                if len(self._kept) >= _MOST:  # of those that are not registered any more
                    self._kept.clear()
                kept = self._kept[authority] = await self._ask(authority)
        if isinstance(kept.outcome, Endpoints):
            return kept.outcome
        raise kept.outcome.with_traceback(None)

    async def _ask(self, authority: str) -> _Kept:
        try:
            found = read(await discovery.configuration(authority, self._trust()), authority)
        except (NotDiscovered, TrustUnusable) as problem:
            return _Kept(self._clock() + _RETRY_SECONDS, problem)
        return _Kept(self._clock() + _FRESH_SECONDS, found)


async def look(provider: IdentityProvider, bundle: Path | None) -> int:
    """How many keys a provider signs with, to see whether it can be used; people, too, if it has a client.

    ``bundle``: authorities to trust besides. Raises IdentityProviderUnusable, or TrustUnusable.
    """
    context = await aside(Trust(authorities=bundle).for_http)
    try:
        keys = await discovery.keys_of(provider.authority, context)
        if provider.client is not None:
            read(await discovery.configuration(provider.authority, context), provider.authority)
    except NotDiscovered as problem:
        raise IdentityProviderUnusable(problem.why, remedy=problem.remedy) from None
    if not keys:
        raise IdentityProviderUnusable("The key set has no key that tokens can be checked with.")
    return len(keys)
