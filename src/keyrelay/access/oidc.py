"""Tokens of identity providers: whether one is what it says, and whom it lets in (docs/decisions/0023).

Its signature is checked with a key that the provider publishes, and with nothing that the token brings along or points
to. Everything it says is believed only afterwards, except which issuer's key to check it with.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from keyrelay.access import claims, token_claims
from keyrelay.access.admission import Admission, TokenRefused
from keyrelay.access.identity_provider import IdentityProvider
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.access.key_sets import Candidates, KeySets
from keyrelay.access.token_text import Presented, take_apart
from keyrelay.store.model import Store


class OidcTokens:
    """Checks tokens; whoever asks remembers the outcome."""

    def __init__(self, store: Store, providers: IdentityProviderKeeper, key_sets: KeySets) -> None:
        self._store = store
        self._providers = providers
        self._key_sets = key_sets

    async def admit(self, text: str) -> Admission:
        """Raises TokenRefused."""
        presented = take_apart(text)
        known = _by_issuer(presented, await self._providers.all())
        facts = {"providers": " ".join(sorted(provider.scheme for provider in known))}
        try:
            candidates = await self._key_sets.candidates(known[0].authority, presented.key_id)
            check_signature(presented, candidates)
            now = time.time()
            end = token_claims.end_of(presented.claims, now)
            provider = _by_audience(presented, known)
            name = token_claims.name_of(presented.claims, provider)
        except TokenRefused as refused:
            raise TokenRefused(refused.reason, facts) from None
        held = token_claims.stated(presented.claims, provider, name)
        # No local user has a colon in the name, and no provider is called as other names with one begin.
        identity = await claims.identity(self._store, f"{provider.scheme}:{name}", held)
        return Admission(identity, min(end, now + candidates.seconds), candidates.standing)


def _by_issuer(presented: Presented, providers: Collection[IdentityProvider]) -> list[IdentityProvider]:
    """The providers that have this issuer: one, or several with audiences of their own."""
    issuer = presented.claims.get("iss")
    known = [provider for provider in providers if provider.authority == issuer]
    if not known:
        raise TokenRefused("unknown issuer")
    if not any(provider.enabled for provider in known):
        raise TokenRefused("provider disabled", {"providers": " ".join(sorted(provider.scheme for provider in known))})
    return known


def check_signature(presented: Presented, candidates: Candidates) -> None:
    """Raises TokenRefused when none of the keys has signed the token."""
    fitting = [key for key in candidates.keys if key.fits(presented.algorithm)]
    if not fitting:
        raise TokenRefused("algorithm")
    if not any(key.has_signed(presented.algorithm, presented.signed, presented.signature) for key in fitting):
        raise TokenRefused("signature")


def _by_audience(presented: Presented, known: Collection[IdentityProvider]) -> IdentityProvider:
    """The provider whose audience the token is for; the first by its scheme if it is for several."""
    meant = [provider for provider in known if token_claims.is_for(presented.claims, provider.audience)]
    if not meant:
        raise TokenRefused("audience")
    enabled = [provider for provider in meant if provider.enabled]
    if not enabled:
        raise TokenRefused("provider disabled")
    return enabled[0]
