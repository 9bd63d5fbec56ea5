"""Roles and claims as the compatible API writes and reads them (contract 7.2)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keyrelay.access.role_claims import TYPE_NAMES, RoleClaim
from keyrelay.access.role_rules import MOST_ROLE_CLAIMS, ClaimDraft, RoleDraft
from keyrelay.access.roles import Role
from keyrelay.access.schemes import Scheme, gone
from keyrelay.api.conventions import Fields, Pairs
from keyrelay.api.lists import NAMES as LIST_NAMES
from keyrelay.errors import Violation

NAMES = {
    "id": "Id",
    "name": "Name",
    "description": "Description",
    "email_address": "EmailAddress",
    "permission_set_id": "PermissionSetId",
    "permissions": "Permissions",
    "claims": "Claims",
    "claim_type": "ClaimType",
    "claim_value": "ClaimValue",
    "scheme": "ProviderAuthenticationScheme",
    "access_control_string": "accessControlString",
    **LIST_NAMES,
}
_CLAIM_NAMES = {name: NAMES[name] for name in ("claim_type", "claim_value", "scheme", "description")}


class ClaimProvider(msgspec.Struct, rename="pascal", frozen=True):
    """The identity provider whose word a claim is."""

    id: str
    authentication_scheme: str
    display_name: str


class ClaimAnswer(msgspec.Struct, rename="pascal", frozen=True):
    """A claim; its type is a word here, and a number in requests."""

    id: int
    description: str
    claim_type: str
    claim_value: str
    provider: ClaimProvider


class RoleItem(msgspec.Struct, rename="pascal", frozen=True):
    """A role in a list."""

    id: int
    name: str
    email_address: str | None
    immutable: bool
    permission_set_id: str
    claims_count: int


class RoleAnswer(msgspec.Struct, rename="pascal", frozen=True):
    """A role, all of it."""

    id: int
    name: str
    description: str
    email_address: str | None
    immutable: bool
    permission_set_id: str
    permissions: list[str]
    claims: list[ClaimAnswer]


class RoleOfClaim(msgspec.Struct, rename="pascal", frozen=True):
    """A role that a claim gives."""

    id: int
    name: str
    description: str
    permission_set_id: str


class RoleInSet(msgspec.Struct, rename="pascal", frozen=True):
    """A role in a permission set."""

    id: int
    name: str


class PermissionSet(msgspec.Struct, rename="pascal", frozen=True):
    """A permission set of the caller, with the roles by which it is the caller's."""

    id: str
    name: str
    permissions: list[str]
    security_roles: list[RoleInSet]


def role_item(role: Role) -> RoleItem:
    return RoleItem(role.id, role.name, role.email, role.immutable, role.permission_set, len(role.claims))


def role_answer(role: Role, schemes: Mapping[str, Scheme]) -> RoleAnswer:
    return RoleAnswer(
        *(role.id, role.name, role.description, role.email, role.immutable, role.permission_set),
        permissions=list(role.permissions),
        claims=[claim_answer(claim, schemes) for claim in role.claims],
    )


def role_of_claim(role: Role) -> RoleOfClaim:
    return RoleOfClaim(role.id, role.name, role.description, role.permission_set)


def claim_answer(each: RoleClaim, schemes: Mapping[str, Scheme]) -> ClaimAnswer:
    scheme = schemes.get(each.claim.scheme) or gone(each.claim.scheme)
    provider = ClaimProvider(scheme.id, scheme.name, scheme.display_name)
    return ClaimAnswer(each.id, each.description, TYPE_NAMES[each.claim.type], each.claim.value, provider)


# --- Requests ------------------------------------------------------------------------------------------------


def role_request(pairs: Pairs) -> tuple[int | None, RoleDraft, tuple[Violation, ...]]:
    """The Id, if there is one, and the draft of a role, and what reading them found wrong."""
    fields = Fields(pairs, NAMES)
    number = fields.integer("id")
    draft = RoleDraft(
        name=fields.text("name"),
        description=fields.text("description"),
        email=fields.text("email_address"),
        permission_set=fields.text("permission_set_id"),
        permissions=fields.texts("permissions"),
        claims=tuple(_claim(item) for item in fields.objects("claims", _CLAIM_NAMES, most=MOST_ROLE_CLAIMS)),
    )
    return number, draft, fields.all_violations()


def claim_request(pairs: Pairs) -> tuple[ClaimDraft, tuple[Violation, ...]]:
    fields = Fields(pairs, _CLAIM_NAMES)
    draft = _claim(fields)
    return draft, fields.all_violations()


def description_request(pairs: Pairs) -> tuple[int | None, str | None, tuple[Violation, ...]]:
    """Id and Description of a claim: all of it that can be changed."""
    fields = Fields(pairs, {"id": "Id", "description": "Description"})
    return fields.integer("id"), fields.text("description"), fields.all_violations()


def _claim(fields: Fields) -> ClaimDraft:
    return ClaimDraft(
        fields.integer("claim_type"), fields.text("claim_value"), fields.text("scheme"), fields.text("description")
    )
