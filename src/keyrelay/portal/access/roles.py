"""Roles: those there are, a new one, and one of them to be changed or removed."""

from __future__ import annotations

from dataclasses import replace

from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.access.role_rules import RoleDraft, checked_role
from keyrelay.access.roles import GLOBAL_SET, Role
from keyrelay.api.answers import Answer
from keyrelay.errors import KeyrelayError, NameTaken, PermissionMissing
from keyrelay.portal.access.listing import found, numbered
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.access.permission_fields import PermissionFields
from keyrelay.portal.forms import Form
from keyrelay.portal.page import Asked, Right

_DONE = {"added": "The role is added.", "changed": "The role is changed.", "removed": "The role is removed."}
_BLAMED = {NameTaken: "name", PermissionMissing: "permissions"}
_NAMES = {"email_address": "E-mail address"}


async def _list(asked: Asked) -> Answer:
    roles = found(asked, await asked.services.access.roles(), lambda role: f"{role.name} {role.description}")
    return await asked.show("access_roles.html", roles=roles, done=done(asked, _DONE))


async def _new(asked: Asked) -> Answer:
    return await _form(asked, None, Role(0, "", ""), PermissionFields.of(()))


async def _add(asked: Asked) -> Answer:
    try:
        await asked.services.access.add_role(_wanted(asked.form, GLOBAL_SET), asked.identity)
    except KeyrelayError as error:
        return await _form(asked, None, _typed(asked.form), PermissionFields.sent(asked.form), error)
    return asked.see("access/roles", done="added")


async def _get(asked: Asked) -> Answer:
    role = await _role(asked)
    return await _form(asked, role, role, PermissionFields.of(role.permissions))


async def _change(asked: Asked) -> Answer:
    role = await _role(asked)
    try:
        wanted = _wanted(asked.form, role.permission_set, role if role.immutable else None)
        await asked.services.access.rework_role(role.name, lambda before: _reworked(before, wanted), asked.identity)
    except KeyrelayError as error:
        return await _form(asked, role, _typed(asked.form), PermissionFields.sent(asked.form), error)
    return asked.see(f"access/roles/{role.id}", done="changed")


async def _remove(asked: Asked) -> Answer:
    role = await _role(asked)
    try:
        await asked.services.access.remove_role(role.id)
    except KeyrelayError as error:
        return await _form(asked, role, role, PermissionFields.of(role.permissions), error)
    return asked.see("access/roles", done="removed")


async def _role(asked: Asked) -> Role:
    """Raises UnknownName."""
    return await asked.services.access.role(numbered(asked.request.path_params["id"]))


async def _form(
    asked: Asked, role: Role | None, shown: Role, permissions: PermissionFields, error: KeyrelayError | None = None
) -> Answer:
    """``role``: what is changed, None for a new one; ``shown`` has the texts of the fields."""
    status, problem = (200, None) if error is None else refused(asked, error, _BLAMED, _NAMES)
    return await asked.show(
        "access_role.html",
        status=status,
        problem=problem,
        role=role,
        shown=shown,
        permissions=permissions,
        done=done(asked, _DONE),
    )


def _typed(form: Form) -> Role:
    return Role(0, form.text("name"), form.text("description"), form.text("email_address") or None)


def _wanted(form: Form, permission_set: str, built_in: Role | None = None) -> Role:
    """The role as the form has it; of a built-in one, what cannot be changed is not in it. Raises BadInput."""
    name = form.text("name") if built_in is None else built_in.name
    strings = PermissionFields.sent(form).strings if built_in is None else built_in.permissions
    draft = RoleDraft(
        *(name, form.text("description") or name, form.text("email_address") or None, permission_set, strings, ())
    )
    return checked_role(draft)


def _reworked(before: Role, wanted: Role) -> Role:
    """Claims are of another page, and stay as they are by now."""
    return replace(
        before,
        name=wanted.name,
        description=wanted.description,
        email=wanted.email,
        permissions=wanted.permissions,
    )


PAGES = {
    "/access/roles": {"GET": Right(_list, READ_SECURITY)},
    "/access/roles/add": {"GET": Right(_new, MODIFY_SECURITY), "POST": Right(_add, MODIFY_SECURITY)},
    "/access/roles/{id}": {"GET": Right(_get, READ_SECURITY), "POST": Right(_change, MODIFY_SECURITY)},
    "/access/roles/{id}/remove": {"POST": Right(_remove, MODIFY_SECURITY, shows=READ_SECURITY)},
}
