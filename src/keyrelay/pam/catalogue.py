"""What is kept of types and providers: rows to values and back, and the one picture of both that readers share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from keyrelay.errors import UnknownReference, Violation
from keyrelay.pam.backend import Backend, Parameter
from keyrelay.pam.local import LocalDb
from keyrelay.pam.model import Provider, ProviderType, TypeParameter
from keyrelay.secrets.model import FromPam, Stored
from keyrelay.store.model import Change, Reader


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All types by id, the hidden ones too, and all providers by number.

    ``outdated``: the types whose back end has a parameter that was never kept, or that was not kept as secret.
    """

    types: Mapping[str, ProviderType]
    providers: Mapping[int, Provider]
    outdated: frozenset[str] = frozenset()

    def shown_types(self) -> list[ProviderType]:
        shown = (kind for kind in self.types.values() if not kind.hidden)
        return sorted(shown, key=lambda kind: kind.name.casefold())

    def type_named(self, name: str) -> ProviderType | None:
        return next((kind for kind in self.types.values() if kind.name.casefold() == name.casefold()), None)

    def provider_named(self, name: str) -> Provider | None:
        return next((one for one in self.providers.values() if one.name.casefold() == name.casefold()), None)

    def violations(self, field: str, reference: FromPam) -> Iterator[Violation]:
        """What keeps a reference from ever giving a secret (contract D6); nothing is fetched to find out."""
        provider = self.providers.get(reference.provider)
        place = f"{field}.provider"
        if provider is None:
            told = f"{{field}}: PAM provider {reference.provider} does not exist."
            yield Violation(place, UnknownReference.code, told)
        elif provider.remote:
            told = f"{{field}}: PAM provider {provider.id} is remote; keyrelay itself needs the secrets of the profile."
            yield Violation(place, UnknownReference.code, told)
        elif provider.type.backend is None:
            told = (
                f"{{field}}: PAM provider {provider.id} is of the type {provider.type.name}, which keyrelay cannot "
                "ask; a plug-in may (docs/pam-plug-ins.md)."
            )
            yield Violation(place, "no_backend", told)
        else:
            yield from _parameters(field, provider.type, reference.parameters)


def _parameters(field: str, kind: ProviderType, given: Mapping[str, str | None]) -> Iterator[Violation]:
    known = kind.levels(instance=True)
    place = f"{field}.parameters"
    names = " and ".join(known)
    for name, parameter in known.items():
        if parameter.required and not given.get(name):
            yield Violation(place, "parameter_missing", f"{{field}} needs the parameter {name} ({kind.name}).")
    for name, value in given.items():
        if value and name not in known:
            told = f"{{field}} has a parameter that {kind.name} does not know; it takes {names}, spelled exactly so."
            yield Violation(place, "unknown_parameter", told)


async def read(reader: Reader, backends: Mapping[str, Backend]) -> Catalogue:
    """The catalogue as it is kept, with the back ends that are installed."""
    installed = {name.casefold(): backend for name, backend in backends.items()}
    # Providers first: a type is kept before its first provider, and goes after its last.
    rows = await reader.rows("SELECT id, type, document FROM pam_provider ORDER BY id")
    types, outdated = {}, set()
    for number, name, document in await reader.rows("SELECT id, name, document FROM pam_type"):
        backend = installed.get(name.casefold())
        types[number], is_outdated = _type(number, name, json.loads(document), backend)
        if is_outdated:
            outdated.add(number)
    providers = {
        number: _provider(number, types[kind], json.loads(document)) for number, kind, document in rows if kind in types
    }
    return Catalogue(types, providers, frozenset(outdated))


async def read_again(reader: Reader, provider: Provider) -> Provider | None:
    """The same provider as it is kept now; None when it is gone."""
    rows = await reader.rows("SELECT document FROM pam_provider WHERE id = $1", provider.id)
    return _provider(provider.id, provider.type, json.loads(rows[0][0])) if rows else None


def lacks(catalogue: Catalogue, backends: Mapping[str, Backend]) -> bool:
    """Whether something that an installed back end says of its type has never been kept."""
    return bool(catalogue.outdated) or any(catalogue.type_named(name) is None for name in backends)


async def add_installed(change: Change, catalogue: Catalogue, backends: Mapping[str, Backend]) -> None:
    """Keep a type for each installed back end. Its id is the same everywhere; its parameters are numbered here."""
    for name, backend in backends.items():
        kept = catalogue.type_named(name)
        known = {} if kept is None else {parameter.name: parameter for parameter in kept.parameters}
        new = [parameter for parameter in backend.parameters if parameter.name not in known]
        if kept is None:
            kind = ProviderType(type_id(name), name, await numbered(change, new))
            await insert_type(change, kind)
        elif kept.id in catalogue.outdated:
            await save_type(change, replace(kept, parameters=(*kept.parameters, *await numbered(change, new))))


def type_id(name: str) -> str:
    """The id of an installed type."""
    return str(uuid5(NAMESPACE_URL, f"keyrelay:pam-type:{name}"))


async def numbered(change: Change, parameters: list[Parameter]) -> tuple[TypeParameter, ...]:
    """New parameters with numbers of their own."""
    return tuple(
        [
            TypeParameter(await next_number(change, "parameter"), one.name, one.display_name, one.secret, one.instance)
            for one in parameters
        ]
    )


async def next_number(change: Change, kind: str) -> int:
    """A number that was never given before."""
    await change.run("UPDATE pam_number SET last = last + 1 WHERE kind = $1", kind)
    ((number,),) = await change.rows("SELECT last FROM pam_number WHERE kind = $1", kind)
    return int(number)


async def insert_type(change: Change, kind: ProviderType) -> None:
    await change.run(
        "INSERT INTO pam_type (id, name, document) VALUES ($1, $2, $3)", kind.id, kind.name, _type_document(kind)
    )


async def save_type(change: Change, kind: ProviderType) -> None:
    await change.run("UPDATE pam_type SET document = $1 WHERE id = $2", _type_document(kind), kind.id)


async def insert_provider(change: Change, provider: Provider) -> None:
    await change.run(
        "INSERT INTO pam_provider (id, type, document) VALUES ($1, $2, $3)",
        provider.id,
        provider.type.id,
        _provider_document(provider),
    )


async def save_provider(change: Change, provider: Provider) -> None:
    await change.run("UPDATE pam_provider SET document = $1 WHERE id = $2", _provider_document(provider), provider.id)


def _type(number: str, name: str, document: dict[str, Any], backend: Backend | None) -> tuple[ProviderType, bool]:
    """A type, and whether it is outdated. What its back end says counts, whatever was registered earlier."""
    kept = [TypeParameter(**parameter) for parameter in document["parameters"]]
    said = {} if backend is None else {parameter.name: parameter for parameter in backend.parameters}
    parameters = [_as_said(parameter, said.get(parameter.name)) for parameter in kept]
    # Only what a back end adds, so that two nodes with two versions of it do not undo each other's work.
    known, secret = {one.name for one in kept}, {one.name for one in kept if one.secret}
    outdated = any(one.name not in known or (one.secret and one.name not in secret) for one in said.values())
    return ProviderType(number, name, tuple(parameters), backend, hidden=document["hidden"]), outdated


def _as_said(kept: TypeParameter, said: Parameter | None) -> TypeParameter:
    if said is None:
        return kept
    return replace(kept, secret=said.secret, instance=said.instance, required=said.required, default=said.default)


def _type_document(kind: ProviderType) -> str:
    parameters = [
        {
            "id": one.id,
            "name": one.name,
            "display_name": one.display_name,
            "secret": one.secret,
            "instance": one.instance,
        }
        for one in kind.parameters
    ]
    return json.dumps({"parameters": parameters, "hidden": kind.hidden}, ensure_ascii=False)


def _provider(number: int, kind: ProviderType, document: dict[str, Any]) -> Provider:
    if isinstance(kind.backend, LocalDb):
        kind = replace(kind, backend=kind.backend.of(number))
    values = {name: _value(value) for name, value in document.pop("values").items()}
    return Provider(number, document.pop("name"), kind, values, **document)


def _value(value: str | dict[str, str]) -> str | Stored:
    return value if isinstance(value, str) else Stored(value["stored"], datetime.fromisoformat(value["given_at"]))


def _provider_document(provider: Provider) -> str:
    values = {
        name: {"stored": value.id, "given_at": value.given_at.isoformat()} if isinstance(value, Stored) else value
        for name, value in provider.values.items()
    }
    document = {
        "name": provider.name,
        "values": values,
        "remote": provider.remote,
        "area": provider.area,
        "secured_area_id": provider.secured_area_id,
    }
    return json.dumps(document, ensure_ascii=False)
