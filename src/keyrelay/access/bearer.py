"""Tokens in place of a password (RFC 6750): our own for machines, and those of identity providers."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from keyrelay.access import api_tokens
from keyrelay.access.admission import Admission
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.access.key_sets import KeySets
from keyrelay.store.model import Store

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.access.oidc import OidcTokens


class Bearers:
    """Whom a token lets in. ``trust``: the TLS context to ask identity providers with; ``key_sets``: their keys."""

    def __init__(self, store: Store, providers: IdentityProviderKeeper, trust: Callable[[], ssl.SSLContext]) -> None:
        self._store = store
        self._providers = providers
        self.key_sets = KeySets(trust)

    async def admit(self, token: str) -> Admission:
        """Look at a token, whether it was seen before or not. Raises TokenRefused."""
        if token.startswith(api_tokens.PREFIX):
            return await api_tokens.admit(self._store, token)
        return await self._oidc.admit(token)

    @cached_property
    def _oidc(self) -> OidcTokens:
        from keyrelay.access.oidc import OidcTokens

        return OidcTokens(self._store, self._providers, self.key_sets)

    async def close(self) -> None:
        await self.key_sets.close()
