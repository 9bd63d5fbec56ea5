"""``/Security`` of the compatible API (contract 7.2)."""

from __future__ import annotations

import json

from keyrelay.access.permissions import broadest
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.operations import Call, Operation, Resource, Services, Style


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    mine = {"GET": Operation({1: _my_permissions}, None, roleless=True)}
    return [Resource(f"{base_path}/Security/My/Permissions", mine, style, services)]


async def _my_permissions(call: Call) -> Answer:
    return Answer(200, json.dumps({"Permissions": broadest(call.identity.permissions)}).encode(), (JSON,))
