"""The secret of keyrelay's client at an identity provider: sealed for that provider and its authority alone."""

from __future__ import annotations

import json
from dataclasses import replace

from keyrelay import setting_values
from keyrelay.access.identity_provider import Client, IdentityProvider
from keyrelay.errors import Unsuitable
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText, Stored, has_control, is_mask
from keyrelay.store.model import Change, Reader

_FIELD = "identity_provider.client_secret"
_LONGEST = 4096


def checked(client_id: str, secret: SecretText | None) -> Client:
    """A client of these values. Raises Unsuitable, which never repeats the secret."""
    try:
        setting_values.client_id(client_id)
    except ValueError as problem:
        raise Unsuitable(f"The client id {problem}.") from None
    if secret is not None:
        text = secret.reveal()
        if not text.strip() or len(text) > _LONGEST or has_control(text):
            raise Unsuitable(
                f"The client secret is not one line of 1 to {_LONGEST} characters.",
                remedy="Give the secret alone; a public client needs none.",
            )
        if is_mask(text):
            raise Unsuitable("The client secret is only a mask, such as asterisks.", remedy="Give the secret itself.")
    return Client(client_id, secret)


async def keep(change: Change, keyring: Keyring, provider: IdentityProvider) -> IdentityProvider:
    """The provider with the secret of its client stored, if it is given in clear."""
    client = provider.client
    if client is None or not isinstance(client.secret, SecretText):
        return provider
    row = await stored.keep(change, keyring, client.secret, field=_FIELD, destination=_destination(provider))
    return replace(provider, client=replace(client, secret=row))


async def erase(change: Change, provider: IdentityProvider) -> None:
    """Erase the secret of its client, if one is stored."""
    if provider.client is not None and isinstance(provider.client.secret, Stored):
        await stored.erase(change, [provider.client.secret.id])


async def reveal(reader: Reader, keyring: Keyring, provider: IdentityProvider) -> SecretText | None:
    """The secret of its client; None for a public one. Raises SecretGone or KeyUnknown."""
    secret = None if provider.client is None else provider.client.secret
    if not isinstance(secret, Stored):
        return secret
    return await stored.reveal(reader, keyring, secret, field=_FIELD, destination=_destination(provider))


def _destination(provider: IdentityProvider) -> str:
    return json.dumps(["identity_provider", provider.id, provider.authority])
