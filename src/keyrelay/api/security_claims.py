"""``/Security/Claims`` of the compatible API (contract 7.2): what roles can be given for."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.datastructures import QueryParams

from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.access.role_claims import TYPE_NAMES, RoleClaim
from keyrelay.access.role_rules import ClaimDraft, checked_claim, checked_description
from keyrelay.api import lists, wire_security
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import Fields, Pairs, read_fields
from keyrelay.api.lists import Listing
from keyrelay.api.operations import Call, Operation, Resource, Services, Style, number_in_path
from keyrelay.api.security_roles import published_name
from keyrelay.errors import UnknownName, Violation

# What a list can be searched and sorted by: the type, and where a claim has it. A client that looks for one asks for
# its type by number: ((ClaimValue -eq "ops" and ClaimType -eq 4)).
_FIELDS: dict[str, tuple[type, Callable[[RoleClaim], object]]] = {
    "Id": (int, lambda each: each.id),
    "Description": (str, lambda each: each.description),
    "ClaimType": (int, lambda each: int(each.claim.type)),
    "ClaimValue": (str, lambda each: each.claim.value),
    "ProviderAuthenticationScheme": (str, lambda each: each.claim.scheme),
}
_CLAIMS = Listing({name: kind for name, (kind, _) in _FIELDS.items()}, None, "Id")
_ASKED = {"claim_type": "ClaimType", "claim_value": "ClaimValue", "scheme": "ProviderAuthenticationScheme"}
_NUMBERS = {name.lower(): str(int(number)) for number, name in TYPE_NAMES.items()}


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    base = f"{base_path}/Security/Claims"
    paths = {
        base: {
            "GET": Operation({1: _list}, READ_SECURITY),
            "POST": Operation({1: _add}, MODIFY_SECURITY),
            "PUT": Operation({1: _describe}, MODIFY_SECURITY),
        },
        f"{base}/Roles": {"GET": Operation({1: _roles}, READ_SECURITY)},
        f"{base}/{{id}}": {
            "GET": Operation({1: _get}, READ_SECURITY),
            "DELETE": Operation({1: _remove}, MODIFY_SECURITY),
        },
    }
    return [Resource(path, operations, style, services, published_name) for path, operations in paths.items()]


async def _list(call: Call) -> Answer:
    query = lists.read(call.request.query_params, _CLAIMS)
    found = query.apply(await call.services.access.claims(), lambda each, field: _FIELDS[field][1](each))
    schemes = await call.services.access.schemes()
    return _json([wire_security.claim_answer(each, schemes) for each in found])


async def _get(call: Call) -> Answer:
    return await _answer(call, await call.services.access.claim(_number(call)))


async def _add(call: Call) -> Answer:
    draft, violations = wire_security.claim_request(await read_fields(call.request))
    return await _answer(call, await call.services.access.add_claim(checked_claim(draft, violations)))


async def _describe(call: Call) -> Answer:
    number, text, violations = wire_security.description_request(await read_fields(call.request))
    if number is None and all(violation.field != "id" for violation in violations):
        violations = (Violation("id", "missing", "{field} is required."), *violations)
    description = checked_description(text, violations)
    assert number is not None  # noqa: S101 - required
    return await _answer(call, await call.services.access.describe_claim(number, description))


async def _remove(call: Call) -> Answer:
    await call.services.access.remove_claim(_number(call))
    return Answer(204)


async def _roles(call: Call) -> Answer:
    """The roles that a claim gives, whether it is kept here or not."""
    draft, violations = _asked(call.request.query_params)
    asked = checked_claim(draft, violations)
    found = await call.services.access.roles_by(asked.claim)
    return _json([wire_security.role_of_claim(role) for role in found])


def _asked(parameters: QueryParams) -> tuple[ClaimDraft, tuple[Violation, ...]]:
    """The claim that a query names; its type by number, or by its name as answers have it."""
    pairs = []
    for key, value in parameters.multi_items():
        numbered = key.lower() == "claimtype" and value.lower() in _NUMBERS
        pairs.append((key, _NUMBERS[value.lower()] if numbered else value))
    fields = Fields(Pairs(pairs), _ASKED)
    draft = ClaimDraft(fields.integer("claim_type"), fields.text("claim_value"), fields.text("scheme"), "asked for")
    return draft, fields.all_violations()


def _number(call: Call) -> int:
    number = number_in_path(call)
    if number is None:
        raise UnknownName("There is no such claim.", remedy="GET /Security/Claims lists them.")
    return number


async def _answer(call: Call, claim: RoleClaim) -> Answer:
    return _json(wire_security.claim_answer(claim, await call.services.access.schemes()))


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value), (JSON,))
