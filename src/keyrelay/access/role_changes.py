"""What may become of a role, within a change: who may give what, what must stay, and what is told of it.

``known``: the schemes that a claim may name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from keyrelay.access import deeds, role_claims, roles
from keyrelay.access.accounts import require_administrator
from keyrelay.access.identity import Identity
from keyrelay.access.permissions import EVERYTHING
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.role_rules import require_held, require_schemes
from keyrelay.access.roles import MOST_ROLES, Role
from keyrelay.audit.model import Deed
from keyrelay.errors import Immutable, InUse, NameTaken, UnknownName
from keyrelay.store.model import Change

_NAMED = 5  # of those who hold a role


async def add(change: Change, wanted: Role, by: Identity, known: Collection[str]) -> tuple[Role, list[Deed]]:
    """Raises NameTaken, PermissionMissing, UnknownReference, or InUse when there are as many as there may be."""
    there = await roles.roles(change)
    _require_free(there, wanted.name)
    if len(there) >= MOST_ROLES:
        raise InUse(f"There are {MOST_ROLES} roles already.", remedy="Delete those not needed.")
    require_held(by, wanted.permissions)
    require_schemes(wanted.claims, known, "claims")
    number = await roles.insert(change, wanted)
    claims, told = await _give(change, wanted, ())
    made = replace(wanted, id=number, claims=claims)
    return made, _told(*told, deeds.role_changed(None, made))


async def change_role(
    change: Change, old: Role, wanted: Role, by: Identity, known: Collection[str]
) -> tuple[Role, list[Deed]]:
    """Make a role what is wanted, all of it; its number and its holders stay.

    Raises NameTaken, Immutable, LastAdministrator, UnknownReference, or PermissionMissing: a role that more people get
    may hold no more than who gives it, and nor may what is added to it.
    """
    if old.immutable and (wanted.name, wanted.permissions) != (old.name, old.permissions):
        raise Immutable(f"The built-in role {old.name} keeps its name, and the permission {EVERYTHING}")
    _require_free([role for role in await roles.roles(change) if role.id != old.id], wanted.name)
    added = tuple(sorted(set(wanted.permissions) - set(old.permissions)))
    new = [claim for claim in wanted.claims if role_claims.same(claim.claim, old.claims) is None]
    require_held(by, wanted.permissions if new else added)
    require_schemes(new, known, "claims")
    await roles.save(change, replace(wanted, id=old.id), before=old.name)
    await roles.permit(change, wanted.name, added)
    await roles.forbid(change, wanted.name, tuple(set(old.permissions) - set(wanted.permissions)))
    claims, told = await _give(change, wanted, old.claims)
    await require_administrator(change)
    now = replace(wanted, id=old.id, claims=claims, holders=old.holders)
    return now, _told(*told, deeds.role_changed(old, now))


async def remove(change: Change, role: Role) -> list[Deed]:
    """Raises Immutable, InUse when local users hold it, or LastAdministrator."""
    if role.immutable:
        raise Immutable(f"The built-in role {role.name} cannot be deleted.")
    if role.holders:
        more = " and more" if len(role.holders) > _NAMED else ""
        raise InUse(
            f"The role {role.name} is held by {', '.join(role.holders[:_NAMED])}{more}.",
            remedy=f"Take it from them first: keyrelay role revoke '{role.name}' USER.",
        )
    await roles.delete(change, role.name)
    await require_administrator(change)
    return _told(deeds.role_changed(role, None))


def giving(role: Role, wanted: RoleClaim) -> Role:
    """The role as it is when this claim gives it, too."""
    others = tuple(each for each in role.claims if each.claim.key != wanted.claim.key)
    return replace(role, claims=(*others, wanted))


def giving_no_more(role: Role, unwanted: RoleClaim, remedy: str) -> Role:
    """The role as it is when this claim does not give it. Raises UnknownName when it does not now."""
    if role_claims.same(unwanted.claim, role.claims) is None:
        raise UnknownName(f"{unwanted.text} does not give the role {role.name}.", remedy=remedy)
    return replace(role, claims=tuple(each for each in role.claims if each.claim.key != unwanted.claim.key))


async def _give(
    change: Change, role: Role, before: tuple[RoleClaim, ...]
) -> tuple[tuple[RoleClaim, ...], list[Deed | None]]:
    """Have exactly its claims give a role; those that are known by other roles already are shared with them."""
    known = await role_claims.claims(change)
    told: list[Deed | None] = []
    given = []
    for wanted in role.claims:
        kept = role_claims.same(wanted.claim, known)
        if kept is None:
            kept = await role_claims.insert(change, wanted.claim, wanted.description)
            told.append(deeds.claim_added(kept))
        elif kept.description != wanted.description:
            described = replace(kept, description=wanted.description)
            await role_claims.describe(change, kept.id, wanted.description)
            told.append(deeds.claim_described(kept, described))
            kept = described
        given.append(kept)
    was, now = {claim.id for claim in before}, {claim.id for claim in given}
    for number in sorted(now - was):
        await role_claims.link(change, role.name, number)
    for number in sorted(was - now):
        await role_claims.unlink(change, role.name, number)
    return tuple(sorted(given, key=lambda claim: claim.id)), told


def _require_free(others: list[Role], name: str) -> None:
    for role in others:
        if role.name.casefold() == name.casefold():
            raise NameTaken(f"There is a role {role.name} already: number {role.id}.")


def _told(*told: Deed | None) -> list[Deed]:
    return [deed for deed in told if deed is not None]
