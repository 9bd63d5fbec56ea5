"""Identity providers as values: who may say who somebody is, and in which claims of a token it stands."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from keyrelay.secrets.model import SecretText, Stored
from keyrelay.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """The claims of a token that say something, by what they say.

    Of several names the first that is there counts; of those for roles and groups, all of them do. A name with a dot
    that is no claim itself leads into an object, as ``realm_access.roles`` does.
    """

    name: tuple[str, ...] = ("preferred_username", "sub")
    roles: tuple[str, ...] = ("roles",)
    groups: tuple[str, ...] = ("groups",)
    subject: tuple[str, ...] = ("sub",)
    client_id: tuple[str, ...] = ("azp", "client_id", "appid")
    oid: tuple[str, ...] = ("oid",)

    def as_mapping(self) -> dict[str, list[str]]:
        return {each.name: list(getattr(self, each.name)) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Client:
    """What keyrelay is at a provider through which people sign in to the portal.

    Without a secret it is a public client (RFC 6749 section 2.1); that of the settings is given in clear.
    """

    id: str
    secret: Stored | SecretText | None = field(default=None, repr=False, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProvider:
    """A registered OpenID Connect provider.

    ``scheme`` names it in claims and in the names of its users. ``authority`` is the issuer of its tokens, letter by
    letter, and ``audience`` whom they have to be for. ``client``: where people sign in through it, what keyrelay is
    there. ``from_settings``: it is configured, and cannot be changed here.
    """

    id: str
    scheme: str
    display_name: str
    authority: str
    audience: str
    names: ClaimNames = field(default_factory=ClaimNames)
    enabled: bool = True
    client: Client | None = None
    from_settings: bool = False

    @property
    def signs_people_in(self) -> bool:
        """Whether people can sign in to the portal through it."""
        return self.enabled and self.client is not None


def configured(settings: Settings) -> IdentityProvider | None:
    """The provider that the settings name, if they do; its id is the same on every node."""
    authority, audience, scheme = settings.oidc_authority, settings.oidc_audience, settings.oidc_scheme
    if authority is None or audience is None:
        return None
    return IdentityProvider(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{authority} {scheme}")),
        scheme=scheme,
        display_name=scheme,
        authority=authority,
        audience=audience,
        names=ClaimNames(**dict(settings.oidc_claims)),
        client=_configured_client(settings),
        from_settings=True,
    )


def _configured_client(settings: Settings) -> Client | None:
    if settings.oidc_client_id is None:
        return None
    secret = settings.oidc_client_secret
    return Client(settings.oidc_client_id, None if secret is None else SecretText(secret))


def document(provider: IdentityProvider) -> str:
    """What is kept of a provider beside its id and its scheme; of a client secret, where it is."""
    secret = None if provider.client is None else provider.client.secret
    kept = {"id": secret.id, "given_at": secret.given_at.isoformat()} if isinstance(secret, Stored) else None
    return json.dumps(told(provider) | {"client_secret": kept})


def told(provider: IdentityProvider) -> dict[str, Any]:
    """The same as it is told to people and in the audit trail: none of it is secret."""
    return {
        "display_name": provider.display_name,
        "authority": provider.authority,
        "audience": provider.audience,
        "claims": provider.names.as_mapping(),
        "enabled": provider.enabled,
        "client_id": None if provider.client is None else provider.client.id,
        "has_client_secret": provider.client is not None and provider.client.secret is not None,
    }


def read(number: str, scheme: str, text: str) -> IdentityProvider:
    """A provider as it was kept."""
    kept: Mapping[str, Any] = json.loads(text)
    names = {what: tuple(claims) for what, claims in kept["claims"].items()}
    return IdentityProvider(
        id=number,
        scheme=scheme,
        display_name=kept["display_name"],
        authority=kept["authority"],
        audience=kept["audience"],
        names=ClaimNames(**names),
        enabled=kept["enabled"],
        client=_kept_client(kept),
    )


def _kept_client(kept: Mapping[str, Any]) -> Client | None:
    if kept.get("client_id") is None:  # also of a document from before there were any
        return None
    secret = kept["client_secret"]
    found = None if secret is None else Stored(secret["id"], datetime.fromisoformat(secret["given_at"]))
    return Client(kept["client_id"], found)
