"""ID tokens: whether one is the provider's word for this sign-in (OpenID Connect Core 1.0 section 3.1.3.7)."""

from __future__ import annotations

import hmac
import time
from typing import Any

from keyrelay.access import token_claims
from keyrelay.access.admission import TokenRefused
from keyrelay.access.identity_provider import IdentityProvider
from keyrelay.access.key_sets import KeySets
from keyrelay.access.oidc import check_signature
from keyrelay.access.token_claims import Claims
from keyrelay.access.token_text import take_apart


async def verified(text: str, provider: IdentityProvider, client_id: str, nonce: str, key_sets: KeySets) -> Claims:
    """What it says. Raises TokenRefused."""
    presented = take_apart(text)
    said = presented.claims
    if said.get("iss") != provider.authority:
        raise TokenRefused("unknown issuer")
    check_signature(presented, await key_sets.candidates(provider.authority, presented.key_id))
    token_claims.end_of(said, time.time())
    if not _is_for(said, client_id):
        raise TokenRefused("audience")
    if not _same(said.get("nonce"), nonce):
        raise TokenRefused("nonce")
    return said


def _is_for(said: Claims, client_id: str) -> bool:
    """Whether it is for this client, and was asked for by it."""
    asked_by = said.get("azp")
    if asked_by is None:
        given = said.get("aud")
        # One that is for others too has to say who has asked for it.
        return given in (client_id, [client_id])
    return asked_by == client_id and token_claims.is_for(said, client_id)


def _same(given: Any, nonce: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), nonce.encode())
