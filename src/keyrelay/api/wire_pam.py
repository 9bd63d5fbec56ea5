"""PAM types, providers and local entries as the compatible API writes and reads them (contract 4.1 to 4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import NAMESPACE_URL, uuid5

import msgspec

from keyrelay.api.conventions import Fields, Pairs
from keyrelay.errors import Violation
from keyrelay.pam.backend import Parameter
from keyrelay.pam.local import EntryDraft
from keyrelay.pam.model import Entry, GivenValue, Provider, ProviderDraft, ProviderType, TypeParameter
from keyrelay.secrets.model import FromPam, Stored

STRING, SECRET = 1, 2
_PROFILE_ID = 1
_MOST_ITEMS = 200
# Ids of values: room for the parameters of one provider after each other.
_VALUES_APART = 1000

NAMES = {
    "id": "Id",
    "name": "Name",
    "remote": "Remote",
    "area": "Area",
    "provider_type": "ProviderType",
    "values": "ProviderTypeParamValues",
    "secured_area_id": "SecuredAreaId",
    "parameters": "Parameters",
    "provider_id": "ProviderId",
    "secret_name": "SecretName",
    "description": "Description",
    "secret_value": "SecretValue",
    "query_string": "QueryString",
    "page_returned": "PageReturned",
    "return_limit": "ReturnLimit",
    "sort_field": "SortField",
    "sort_ascending": "SortAscending",
}
_VALUE_NAMES = {
    "id": "Id",
    "value": "Value",
    "instance_id": "InstanceId",
    "instance_guid": "InstanceGuid",
    "parameter": "ProviderTypeParam",
}
_PARAMETER_NAMES = {
    "id": "Id",
    "name": "Name",
    "display_name": "DisplayName",
    "data_type": "DataType",
    "instance_level": "InstanceLevel",
}


class TypeParam(msgspec.Struct, rename="pascal", frozen=True):
    """A type parameter (contract 4.1)."""

    id: int
    name: str
    display_name: str
    data_type: int
    instance_level: bool


class InnerTypeParam(TypeParam, frozen=True):
    """The same inside a provider, with a key that is null in practice."""

    provider_type: None = None


class TypeAnswer(msgspec.Struct, rename="pascal", frozen=True):
    """A provider type."""

    id: str
    name: str
    parameters: list[TypeParam]


class InnerType(msgspec.Struct, rename="pascal", frozen=True):
    """A provider type inside a provider."""

    id: str
    name: str
    provider_type_params: list[InnerTypeParam]


class ParamValue(msgspec.Struct, rename="pascal", frozen=True):
    """A parameter's value. ``Value`` is null for those that are secret (D15)."""

    id: int
    value: str | None
    instance_id: int | None
    instance_guid: str | None
    provider_type_param: TypeParam


class ProviderV1(msgspec.Struct, rename="pascal", frozen=True):
    """A provider in version 1."""

    id: int
    name: str
    area: int
    provider_type: InnerType
    provider_type_param_values: list[ParamValue]
    secured_area_id: int | None
    remote: bool


class ProviderV2(msgspec.Struct, rename="pascal", frozen=True):
    """A provider in version 2."""

    id: int
    name: str
    provider_type: InnerType
    provider_type_param_values: list[ParamValue]
    remote: bool


class EntryAnswer(msgspec.Struct, rename="pascal", frozen=True):
    """A local entry, without its value."""

    provider_id: int
    secret_name: str
    description: str | None


def type_answer(kind: ProviderType) -> TypeAnswer:
    return TypeAnswer(kind.id, kind.name, [_parameter(one) for one in kind.parameters])


def provider_answer(
    provider: Provider, references: Iterable[tuple[str, FromPam]], version: int
) -> ProviderV1 | ProviderV2:
    """``references``: those of the profile; their values are listed with the provider's own."""
    kind = InnerType(provider.type.id, provider.type.name, [_inner(one) for one in provider.type.parameters])
    values = [*_own_values(provider), *_instance_values(provider, references)]
    if version == 1:
        return ProviderV1(
            provider.id, provider.name, provider.area, kind, values, provider.secured_area_id, provider.remote
        )
    return ProviderV2(provider.id, provider.name, kind, values, provider.remote)


def entry_answer(entry: Entry) -> EntryAnswer:
    return EntryAnswer(entry.provider, entry.name, entry.description)


def _own_values(provider: Provider) -> Iterator[ParamValue]:
    for place, parameter in enumerate(provider.type.parameters, 1):
        if parameter.name in provider.values:
            value = provider.values[parameter.name]
            shown = None if isinstance(value, Stored) or parameter.secret else value
            number = provider.id * _VALUES_APART + place
            yield ParamValue(number, shown, None, None, _parameter(parameter))


def _instance_values(provider: Provider, references: Iterable[tuple[str, FromPam]]) -> Iterator[ParamValue]:
    known = provider.type.levels(instance=True)
    number = provider.id * _VALUES_APART + len(provider.type.parameters)
    for field, reference in references:
        if reference.provider != provider.id:
            continue
        user = str(uuid5(NAMESPACE_URL, f"keyrelay:smtp:{field}"))
        for name, value in reference.parameters.items():
            if name in known:
                number += 1
                shown = None if known[name].secret else value
                yield ParamValue(number, shown, _PROFILE_ID, user, _parameter(known[name]))


def _parameter(one: TypeParameter) -> TypeParam:
    return TypeParam(one.id, one.name, one.display_name, SECRET if one.secret else STRING, one.instance)


def _inner(one: TypeParameter) -> InnerTypeParam:
    return InnerTypeParam(one.id, one.name, one.display_name, SECRET if one.secret else STRING, one.instance)


# --- Requests ------------------------------------------------------------------------------------------------


def type_request(pairs: Pairs) -> tuple[str | None, tuple[Parameter, ...], tuple[Violation, ...]]:
    """Name and parameters of ``POST /PamProviders/Types``, and what reading them found wrong."""
    fields = Fields(pairs, NAMES)
    parameters = []
    for item in fields.objects("parameters", _PARAMETER_NAMES, most=_MOST_ITEMS):
        kind = item.integer("data_type")
        if kind not in {None, 0, STRING, SECRET}:
            item.refuse("data_type", "must be 1 (text) or 2 (secret)")
        name = item.text("name") or ""
        secret, instance = kind == SECRET, item.flag("instance_level")
        parameters.append(Parameter(name, item.text("display_name") or name, secret, instance, required=False))
    return fields.text("name"), tuple(parameters), fields.all_violations()


def provider_request(pairs: Pairs) -> tuple[ProviderDraft, tuple[Violation, ...]]:
    """The draft that ``POST /PamProviders`` gives, and what reading it found wrong."""
    fields = Fields(pairs, NAMES)
    draft = _provider_draft(fields, _type_id(fields))
    return draft, fields.all_violations()


def replacement_request(pairs: Pairs, version: int) -> tuple[int | None, ProviderDraft, tuple[Violation, ...]]:
    """Id and draft of ``PUT /PamProviders``. Version 2 does not look at ProviderType, and has to say Remote."""
    fields = Fields(pairs, NAMES)
    number = fields.integer("id")
    draft = _provider_draft(fields, _type_id(fields) if version == 1 else None)
    missing = {"id": number is None, "provider_type": version == 1 and not draft.type_id}
    missing["remote"] = version != 1 and not fields.has("remote")
    found = fields.all_violations()
    spoken = {violation.field.partition(".")[0] for violation in found}
    more = [Violation(field, "missing", "{field} is required.") for field, is_so in missing.items() if is_so]
    return number, draft, (*found, *(violation for violation in more if violation.field not in spoken))


def _provider_draft(fields: Fields, type_id: str | None) -> ProviderDraft:
    return ProviderDraft(
        name=fields.text("name"),
        type_id=type_id,
        values=tuple(_given_values(fields)),
        remote=fields.flag("remote"),
        area=fields.integer("area"),
        secured_area_id=fields.integer("secured_area_id"),
    )


def entry_request(pairs: Pairs) -> tuple[EntryDraft, tuple[Violation, ...]]:
    fields = Fields(pairs, NAMES)
    draft = EntryDraft(
        name=fields.text("secret_name"),
        description=fields.text("description"),
        secret=fields.secret_text("secret_value"),
    )
    return draft, fields.all_violations()


def _type_id(fields: Fields) -> str | None:
    inner = fields.object("provider_type", {"id": "Id"})
    text = None if inner is None else inner.text("id")
    return None if text is None else text.strip().strip("{}").lower()


def _given_values(fields: Fields) -> Iterator[GivenValue]:
    for item in fields.objects("values", _VALUE_NAMES, most=_MOST_ITEMS):
        parameter = item.object("parameter", _PARAMETER_NAMES)
        number = None if parameter is None else parameter.integer("id")
        name = None if parameter is None else parameter.text("name")
        value = item.text("value")
        # Clients send back what they have read, the values of uses among it; those belong to who uses the provider.
        if not item.integer("instance_id") and not item.text("instance_guid"):
            yield GivenValue(number, name, value)
