"""Identity providers: whether those that may let somebody in still give the keys that sign their tokens."""

from __future__ import annotations

import asyncio
import ssl

from keyrelay.access import discovery
from keyrelay.access.discovery import NotDiscovered
from keyrelay.access.identity_provider import IdentityProvider
from keyrelay.aside import aside
from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, skipped
from keyrelay.network.trust import Trust

_MOST_ASKED = 20
_MOST_NAMED = 5


async def providers(case: Case) -> Finding:
    enabled = [provider for provider in await case.wired.identity_providers.all() if provider.enabled]
    if not enabled:
        return ok("Nobody signs in with an identity provider.")
    if case.offline:
        return skipped("No identity provider is asked (--offline).")
    context = await aside(Trust(authorities=case.settings.ca_bundle).for_http)
    asked = enabled[:_MOST_ASKED]
    answers = await asyncio.gather(*(_gives_keys(provider, context) for provider in asked))
    silent = [provider.scheme for provider, gives in zip(asked, answers, strict=True) if not gives]
    if silent:
        return failure(
            f"No keys can be had from the identity providers {', '.join(silent[:_MOST_NAMED])}"
            f" ({len(silent)} of {len(asked)}), so their tokens will be refused.",
            "Look whether it can be reached from here, is trusted (KEYRELAY_CA_BUNDLE), and names itself as its "
            "authority is written here; or disable it: keyrelay idp disable SCHEME",
        )
    return ok(f"Keys can be had from {'the identity provider' if len(asked) == 1 else f'all {len(asked)} of them'}.")


async def _gives_keys(provider: IdentityProvider, context: ssl.SSLContext) -> bool:
    """Whether there is a key; why not may be in a stranger's words, and is not told."""
    try:
        return bool(await discovery.keys_of(provider.authority, context))
    except NotDiscovered:
        return False
