"""``/Security/Roles`` of the compatible API (contract 7.2)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.access.role_rules import checked_role
from keyrelay.access.roles import Role
from keyrelay.api import lists, wire_security
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import read_fields
from keyrelay.api.lists import Listing
from keyrelay.api.operations import Call, Operation, Resource, Services, Style, number_in_path
from keyrelay.errors import UnknownName, Violation

# What a list can be searched and sorted by: the type, and where a role has it.
_FIELDS: dict[str, tuple[type, Callable[[Role], object]]] = {
    "Id": (int, lambda role: role.id),
    "Name": (str, lambda role: role.name),
    "Description": (str, lambda role: role.description),
    "EmailAddress": (str, lambda role: role.email),
    "Immutable": (bool, lambda role: role.immutable),
    "PermissionSetId": (str, lambda role: role.permission_set),
    "ClaimsCount": (int, lambda role: len(role.claims)),
}
_ROLES = Listing({name: kind for name, (kind, _) in _FIELDS.items()}, None, "Name")


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    base = f"{base_path}/Security/Roles"
    paths = {
        base: {
            "GET": Operation({2: _list}, READ_SECURITY),
            "POST": Operation({2: _add}, MODIFY_SECURITY),
            "PUT": Operation({2: _replace}, MODIFY_SECURITY),
        },
        f"{base}/{{id}}": {
            "GET": Operation({2: _get}, READ_SECURITY),
            "DELETE": Operation({1: _remove, 2: _remove}, MODIFY_SECURITY),
        },
    }
    return [Resource(path, operations, style, services, published_name) for path, operations in paths.items()]


def published_name(field: str) -> str:
    return wire_security.NAMES.get(field, field)


async def _list(call: Call) -> Answer:
    query = lists.read(call.request.query_params, _ROLES)
    found = query.apply(await call.services.access.roles(), lambda role, field: _FIELDS[field][1](role))
    return _json([wire_security.role_item(role) for role in found])


async def _get(call: Call) -> Answer:
    return await _answer(call, await call.services.access.role(_number(call)))


async def _add(call: Call) -> Answer:
    _, draft, violations = wire_security.role_request(await read_fields(call.request))
    return await _answer(call, await call.services.access.add_role(checked_role(draft, violations), call.identity))


async def _replace(call: Call) -> Answer:
    number, draft, violations = wire_security.role_request(await read_fields(call.request))
    if number is None and all(violation.field != "id" for violation in violations):
        violations = (Violation("id", "missing", "{field} is required."), *violations)
    wanted = checked_role(draft, violations)
    assert number is not None  # noqa: S101 - required
    return await _answer(call, await call.services.access.replace_role(number, wanted, call.identity))


async def _remove(call: Call) -> Answer:
    await call.services.access.remove_role(_number(call))
    return Answer(204)


def _number(call: Call) -> int:
    number = number_in_path(call)
    if number is None:
        raise UnknownName("There is no such role.", remedy="GET /Security/Roles lists them.")
    return number


async def _answer(call: Call, role: Role) -> Answer:
    return _json(wire_security.role_answer(role, await call.services.access.schemes()))


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value), (JSON,))
