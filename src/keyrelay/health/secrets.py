"""The secrets that are kept: how old each is, and which of those with an end will end soon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from keyrelay.access.api_tokens import ApiToken
from keyrelay.access.identity_provider import IdentityProvider
from keyrelay.health.finding import SOON, Finding, ok, warning
from keyrelay.pam.model import Provider
from keyrelay.profile.model import SmtpProfile
from keyrelay.secrets.model import Stored


@dataclass(frozen=True, slots=True)
class Aged:
    """A secret that is stored here. When it ends, only whoever gave it out knows."""

    title: str
    given_at: datetime


def stored(
    profile: SmtpProfile | None, providers: Iterable[Provider], identity_providers: Iterable[IdentityProvider]
) -> list[Aged]:
    """Those of the profile, of PAM providers and of clients at identity providers, the oldest first."""
    found = (*_of_the_profile(profile), *_of_providers(providers), *_of_clients(identity_providers))
    return sorted(found, key=lambda each: each.given_at)


def _of_the_profile(profile: SmtpProfile | None) -> Iterator[Aged]:
    for field, source in () if profile is None else profile.secrets():
        if isinstance(source, Stored):
            yield Aged(f"The {field.replace('_', ' ')} of the profile", source.given_at)


def _of_providers(providers: Iterable[Provider]) -> Iterator[Aged]:
    for provider in providers:
        for name, value in provider.values.items():
            if isinstance(value, Stored):
                yield Aged(f"{name} of the PAM provider {provider.name}", value.given_at)


def _of_clients(identity_providers: Iterable[IdentityProvider]) -> Iterator[Aged]:
    for provider in identity_providers:
        if provider.client is not None and isinstance(provider.client.secret, Stored):
            yield Aged(f"The client secret at the identity provider {provider.scheme}", provider.client.secret.given_at)


def tokens_found(tokens: Iterable[ApiToken], now: datetime) -> Finding:
    """Of API tokens; none is named."""
    ends = sorted(token.expires_at for token in tokens if token.expires_at is not None and token.expires_at > now)
    soon = [end for end in ends if end - now < SOON]
    if not soon:
        return ok("No API token ends soon.")
    days = (soon[0] - now).days
    when = f"in {days} {'day' if days == 1 else 'days'}"
    told = f"An API token ends {when}." if len(soon) == 1 else f"{len(soon)} API tokens end soon, the first {when}."
    return warning(told, "Make a new one, and give it to the machine that uses the old one.")
