"""What the audit trail tells of users, roles and claims, field by field. Of a password only that it changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.roles import Role
from keyrelay.audit.model import Category, Deed, Kind, Operation


def user_added(name: str, roles: Iterable[str]) -> Deed:
    return _user(Operation.CREATED, name, {"password": "changed", **_list("roles", (), roles)})


def password_changed(name: str) -> Deed:
    return _user(Operation.UPDATED, name, {"password": "changed"})


def user_removed(name: str, roles: Iterable[str]) -> Deed:
    return _user(Operation.DELETED, name, _list("roles", roles, ()))


def role_granted(name: str, role: str) -> Deed:
    return _user(Operation.UPDATED, name, _list("roles", (), (role,)))


def role_revoked(name: str, role: str) -> Deed:
    return _user(Operation.UPDATED, name, _list("roles", (role,), ()))


def role_changed(before: Role | None, after: Role | None) -> Deed | None:
    """What became of a role that was added, changed or deleted; None when nothing did."""
    there = after or before
    assert there is not None  # noqa: S101 - a role that neither was nor is
    changes: dict[str, Any] = {}
    for field in ("name", "description", "email", "permission_set"):
        was, now = (None if role is None else getattr(role, field) for role in (before, after))
        if was != now:
            changes[field] = {"before": was, "after": now}
    changes |= _list("permissions", before.permissions if before else (), after.permissions if after else ())
    changes |= _list("claims", _texts(before), _texts(after))
    if not changes:
        return None
    operation = Operation.CREATED if before is None else Operation.DELETED if after is None else Operation.UPDATED
    return Deed(Category.SECURITY_ROLE, operation, Kind.ROLE, there.name, str(there.id), changes=changes)


def claim_added(claim: RoleClaim) -> Deed:
    return _claim(Operation.CREATED, claim, {"description": {"before": None, "after": claim.description}})


def claim_described(before: RoleClaim, after: RoleClaim) -> Deed:
    changes = {"description": {"before": before.description, "after": after.description}}
    return _claim(Operation.UPDATED, after, changes)


def claim_removed(claim: RoleClaim) -> Deed:
    return _claim(Operation.DELETED, claim, {"description": {"before": claim.description, "after": None}})


def _user(operation: Operation, name: str, changes: dict[str, Any]) -> Deed:
    return Deed(Category.ADMINISTRATION, operation, Kind.USER, name, name, changes=changes)


def _claim(operation: Operation, claim: RoleClaim, changes: dict[str, Any]) -> Deed:
    return Deed(Category.SECURITY_ROLE, operation, Kind.CLAIM, claim.text, str(claim.id), changes=changes)


def _texts(role: Role | None) -> list[str]:
    return [] if role is None else [claim.text for claim in role.claims]


def _list(field: str, before: Iterable[str], after: Iterable[str]) -> dict[str, Any]:
    """What was added to a list and removed from it, if anything was."""
    was, now = set(before), set(after)
    changed = {"added": sorted(now - was), "removed": sorted(was - now)}
    told = {what: names for what, names in changed.items() if names}
    return {field: told} if told else {}
