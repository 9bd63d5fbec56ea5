"""``/PamProviders`` of the compatible API (contract 4)."""

from __future__ import annotations

import msgspec

from keyrelay.access.permissions import MODIFY_PAM, READ_PAM
from keyrelay.api import lists, wire_pam
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import read_fields
from keyrelay.api.lists import Listing
from keyrelay.api.operations import Call, Handler, Operation, Resource, Services, Style, lacking, number_in_path
from keyrelay.errors import BadInput, UnknownName, Violation
from keyrelay.pam.model import Entry, Provider
from keyrelay.secrets.model import FromPam

_READ_ONE, _MODIFY_ONE = READ_PAM + "{id}/", MODIFY_PAM + "{id}/"
_PROVIDERS = Listing({"Area": int, "Name": str, "ProviderType": str, "SecuredAreaId": int}, None, "Name")
_ENTRIES = Listing({"SecretName": str, "Description": str}, None, "SecretName")


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    base = f"{base_path}/PamProviders"
    paths = {
        base: {
            "GET": Operation({1: _list(1), 2: _list(2)}, READ_PAM, in_part=True),
            "POST": Operation({1: _add(1), 2: _add(2)}, MODIFY_PAM),
            "PUT": Operation({1: _replace(1), 2: _replace(2)}, MODIFY_PAM, in_part=True),
        },
        f"{base}/Types": {
            "GET": Operation({1: _types, 2: _types}, READ_PAM, in_part=True),
            "POST": Operation({1: _add_type, 2: _add_type}, MODIFY_PAM),
        },
        f"{base}/Types/{{id}}": {
            "GET": Operation({2: _types_of}, _READ_ONE),
            "DELETE": Operation({1: _remove_type}, MODIFY_PAM),
        },
        f"{base}/Local/{{id}}/Entries": {
            "GET": Operation({1: _entries}, _READ_ONE),
            "POST": Operation({1: _add_entry}, _MODIFY_ONE),
            "PUT": Operation({1: _replace_entry}, _MODIFY_ONE),
            "DELETE": Operation({1: _remove_entry}, _MODIFY_ONE),
        },
        f"{base}/{{id}}": {
            "GET": Operation({1: _get(1), 2: _get(2)}, _READ_ONE),
            "DELETE": Operation({1: _remove, 2: _remove}, _MODIFY_ONE),
        },
    }
    return [Resource(path, operations, style, services, _published_name) for path, operations in paths.items()]


def _published_name(field: str) -> str:
    return wire_pam.NAMES.get(field, field)


# --- Providers -----------------------------------------------------------------------------------------------


def _list(version: int) -> Handler:
    async def listed(call: Call) -> Answer:
        query = lists.read(call.request.query_params, _PROVIDERS)
        providers = (await call.services.providers.catalogue()).providers.values()
        readable = [one for one in providers if call.identity.may(f"{READ_PAM}{one.id}/")]
        used = await references(call)
        found = query.apply(readable, _provider_value)
        return _json([wire_pam.provider_answer(one, used, version) for one in found])

    return listed


def _provider_value(provider: Provider, field: str) -> object:
    match field:
        case "Area":
            return provider.area
        case "ProviderType":
            return provider.type.name
        case "SecuredAreaId":
            return provider.secured_area_id
    return provider.name


def _get(version: int) -> Handler:
    async def get(call: Call) -> Answer:
        provider = await call.services.providers.provider(provider_number(call))
        return _json(wire_pam.provider_answer(provider, await references(call), version))

    return get


def _add(version: int) -> Handler:
    async def add(call: Call) -> Answer:
        draft, violations = wire_pam.provider_request(await read_fields(call.request))
        _require(violations)
        provider = await call.services.providers.add(draft)
        return _json(wire_pam.provider_answer(provider, (), version))

    return add


def _replace(version: int) -> Handler:
    async def replace(call: Call) -> Answer:
        number, draft, violations = wire_pam.replacement_request(await read_fields(call.request), version)
        if number is not None and not call.identity.may(f"{MODIFY_PAM}{number}/"):
            raise lacking(call.identity, f"{MODIFY_PAM}{number}/")
        _require(violations)
        assert number is not None  # noqa: S101 - required
        provider = await call.services.providers.replace(number, draft)
        # The right to modify is not the right to see what the profile uses.
        used = await references(call) if call.identity.may(f"{READ_PAM}{number}/") else ()
        return _json(wire_pam.provider_answer(provider, used, version))

    return replace


async def _remove(call: Call) -> Answer:
    await call.services.providers.remove(provider_number(call))
    return Answer(204)


async def references(call: Call) -> list[tuple[str, FromPam]]:
    """The references of the profile: their values are listed with their provider's (contract 4.1)."""
    profile = (await call.services.keeper.snapshot()).profile
    found = () if profile is None else profile.secrets()
    return [(field, source) for field, source in found if isinstance(source, FromPam)]


# --- Types ---------------------------------------------------------------------------------------------------


async def _types(call: Call) -> Answer:
    catalogue = await call.services.providers.catalogue()
    return _json([wire_pam.type_answer(kind) for kind in catalogue.shown_types()])


async def _types_of(call: Call) -> Answer:
    provider = await call.services.providers.provider(provider_number(call))
    return _json([wire_pam.type_answer(provider.type)])


async def _add_type(call: Call) -> Answer:
    name, parameters, violations = wire_pam.type_request(await read_fields(call.request))
    _require(violations)
    return _json(wire_pam.type_answer(await call.services.providers.add_type(name, parameters)))


async def _remove_type(call: Call) -> Answer:
    await call.services.providers.remove_type(str(call.request.path_params["id"]))
    return Answer(204)


# --- Local entries -------------------------------------------------------------------------------------------


async def _entries(call: Call) -> Answer:
    query = lists.read(call.request.query_params, _ENTRIES)
    found = query.apply(await call.services.providers.entries(provider_number(call)), _entry_value)
    return _json([wire_pam.entry_answer(entry) for entry in found])


def _entry_value(entry: Entry, field: str) -> object:
    return entry.description if field == "Description" else entry.name


async def _add_entry(call: Call) -> Answer:
    draft, violations = wire_pam.entry_request(await read_fields(call.request))
    _require(violations)
    return _json(wire_pam.entry_answer(await call.services.providers.add_entry(provider_number(call), draft)))


async def _replace_entry(call: Call) -> Answer:
    draft, violations = wire_pam.entry_request(await read_fields(call.request))
    _require(violations)
    return _json(wire_pam.entry_answer(await call.services.providers.replace_entry(provider_number(call), draft)))


async def _remove_entry(call: Call) -> Answer:
    names = [value for key, value in call.request.query_params.multi_items() if key.lower() == "secretname"]
    if len(names) != 1 or not names[0]:
        raise BadInput((Violation("secret_name", "missing", "{field} is required once, in the query."),))
    await call.services.providers.remove_entry(provider_number(call), names[0])
    return Answer(204)


# --- Shared --------------------------------------------------------------------------------------------------


def provider_number(call: Call) -> int:
    """The provider that the path names. Raises UnknownName for what is none of the numbers there can be."""
    number = number_in_path(call)
    if number is None:
        raise UnknownName("There is no such PAM provider.", remedy="GET /PamProviders lists them.")
    return number


def _require(violations: tuple[Violation, ...]) -> None:
    if violations:
        raise BadInput(violations)


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value), (JSON,))
