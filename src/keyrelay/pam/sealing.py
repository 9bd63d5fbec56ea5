"""The secret values of a provider: they are sealed for its other values, and open as long as none of those changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from keyrelay.errors import KeyUnknown, SecretGone
from keyrelay.pam.model import Provider, TypeParameter
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.store.model import Change, Reader


async def keep(
    change: Change, keyring: Keyring, provider: Provider, values: Mapping[str, str | SecretText | Stored]
) -> Provider:
    """The provider with these values; those given as SecretText are stored now."""
    destination = _destination(provider, values)
    made: dict[str, str | Stored] = {}
    for name, value in values.items():
        if isinstance(value, SecretText):
            made[name] = await stored.keep(change, keyring, value, field=_field(name), destination=destination)
        else:
            made[name] = value
    return replace(provider, values=made)


async def open_values(reader: Reader, keyring: Keyring, provider: Provider) -> dict[str, SecretText | str]:
    """The values: SecretText where the type says that they are secret, else str. Raises SecretGone or KeyUnknown."""
    parameters = {parameter.name: parameter for parameter in provider.type.parameters}
    opened: dict[str, SecretText | str] = {}
    for name, value in provider.values.items():
        text = SecretText(value) if isinstance(value, str) else await _open(reader, keyring, provider, name, value)
        parameter = parameters.get(name)
        opened[name] = text if parameter is not None and parameter.secret else text.reveal()
    return opened


def has_plain(provider: Provider) -> bool:
    """Whether a value is kept in clear that is secret now: the type was registered before its back end was there."""
    return any(
        parameter.secret and isinstance(provider.values.get(parameter.name), str) for parameter in _own(provider)
    )


async def seal(change: Change, keyring: Keyring, provider: Provider) -> Provider:
    """The provider with all its secrets stored, and stored for the values that are left beside them."""
    secret = {parameter.name for parameter in _own(provider) if parameter.secret}
    values: dict[str, str | SecretText | Stored] = {}
    for name, value in provider.values.items():
        if isinstance(value, Stored):
            values[name] = await _open_or_leave(change, keyring, provider, name, value)
        else:
            values[name] = SecretText(value) if name in secret else value
    sealed = await keep(change, keyring, provider, values)
    await stored.erase(change, stored_ids(provider) - stored_ids(sealed))
    return sealed


def stored_ids(provider: Provider) -> set[str]:
    return {value.id for value in provider.values.values() if isinstance(value, Stored)}


async def _open_or_leave(
    change: Change, keyring: Keyring, provider: Provider, name: str, value: Stored
) -> SecretText | Stored:
    try:
        return await _open(change, keyring, provider, name, value)
    except (KeyUnknown, SecretGone):
        return value  # it has to be given again, and must not keep everything else from working


async def _open(reader: Reader, keyring: Keyring, provider: Provider, name: str, value: Stored) -> SecretText:
    destination = _destination(provider, provider.values)
    return await stored.reveal(reader, keyring, value, field=_field(name), destination=destination)


def _own(provider: Provider) -> list[TypeParameter]:
    return list(provider.type.levels(instance=False).values())


def _destination(provider: Provider, values: Mapping[str, str | SecretText | Stored]) -> str:
    where = {name: value for name, value in values.items() if isinstance(value, str)}
    return json.dumps(["pam_provider", provider.id, provider.type.id, sorted(where.items())])


def _field(name: str) -> str:
    return f"pam_provider.{name}"
