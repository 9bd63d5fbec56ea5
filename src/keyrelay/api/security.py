"""What the compatible API tells callers of permissions: their own, and all that there are (contract 7.2)."""

from __future__ import annotations

import json

import msgspec

from keyrelay.access.permissions import EVERYTHING, READ_SECURITY, broadest, every
from keyrelay.access.role_rules import checked_string
from keyrelay.access.roles import GLOBAL_SET
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.api.security_roles import published_name
from keyrelay.api.wire_security import PermissionSet, RoleInSet
from keyrelay.errors import BadInput, Violation


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    paths = {
        "/Security/My/Permissions": Operation({1: _my_permissions}, None, roleless=True),
        "/Permissions": Operation({1: _permissions}, READ_SECURITY),
        "/PermissionSets/My": Operation({1: _my_sets}, None, roleless=True),
    }
    return [
        Resource(base_path + path, {"GET": operation}, style, services, published_name)
        for path, operation in paths.items()
    ]


async def _my_permissions(call: Call) -> Answer:
    return _json({"Permissions": broadest(call.identity.permissions)})


async def _permissions(call: Call) -> Answer:  # noqa: ARG001 - the shape of handlers
    return _json(every())


async def _my_sets(call: Call) -> Answer:
    """The one set there is, for whoever has a role in it, and holds the string that is asked about."""
    asked = _asked(call)
    if not call.identity.roles or (asked is not None and not call.identity.may(asked)):
        return _json([])
    found = [
        RoleInSet(role.id, role.name) for role in await call.services.access.roles() if role.name in call.identity.roles
    ]
    return Answer(200, msgspec.json.encode([PermissionSet(GLOBAL_SET, "Global", [EVERYTHING], found)]), (JSON,))


def _asked(call: Call) -> str | None:
    given = [value for key, value in call.request.query_params.multi_items() if key.lower() == "accesscontrolstring"]
    if len(given) > 1:
        raise BadInput((Violation("access_control_string", "duplicate", "{field} is given more than once."),))
    return checked_string(given[0], "access_control_string") if any(given) else None


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), (JSON,))
