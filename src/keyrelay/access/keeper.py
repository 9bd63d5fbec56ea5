"""Keeping users, roles and claims: every change with its entry in the audit trail, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from keyrelay.access import accounts, deeds, passwords, role_changes, role_claims, roles
from keyrelay.access.accounts import Account
from keyrelay.access.claims import Claim
from keyrelay.access.identity import Identity
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.role_rules import require_held, require_schemes
from keyrelay.access.roles import ADMINISTRATOR, Role
from keyrelay.access.schemes import Known, Scheme
from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Deed
from keyrelay.errors import InUse, NameTaken, UnknownName
from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Change, Store

Result = TypeVar("Result")
Told = tuple[Result, list[Deed]]


class AccessKeeper:
    """The one place that changes who may do what. A change ends every remembered sign-in, on all nodes.

    ``by`` is who asks; nobody gives more than they hold. ``known`` gives the schemes that claims may name.
    """

    def __init__(self, store: Store, journal: Journal, known: Known) -> None:
        self._store = store
        self._journal = journal
        self._known = known

    async def prepare(self) -> None:
        """Number the roles that have no number yet. Every node does at its start."""
        if await roles.unnumbered(self._store):
            async with self._store.change("access") as change:
                await roles.number_all(change)

    async def _write(self, work: Callable[[Change], Awaitable[Told[Result]]]) -> Result:
        async with self._store.change("access") as change:
            await roles.number_all(change)
            result, told = await work(change)
            if told:
                await self._journal.write(change, *told)
        return result

    # --- Users -----------------------------------------------------------------------------------------------

    async def accounts(self) -> list[Account]:
        return await accounts.accounts(self._store)

    async def add_first_user(self, name: str, password: SecretText) -> bool:
        """Make an administrator when there is no user at all; False when there is one. Raises Unsuitable."""

        async def work(change: Change) -> Told[bool]:
            if await accounts.any_account(change):
                return False, []
            await roles.ensure_administrator(change)
            await accounts.add_account(change, name, await passwords.hashed(password), (ADMINISTRATOR,))
            return True, [deeds.user_added(name, (ADMINISTRATOR,))]

        return await self._write(work)

    async def add_user(self, name: str, password: SecretText, held: tuple[str, ...], by: Identity) -> None:
        """Raises Unsuitable, NameTaken, PermissionMissing, or UnknownName for a role that is not there."""
        hashed = await passwords.hashed(password)  # it takes long: nobody waits for it at the database

        async def work(change: Change) -> Told[None]:
            await accounts.add_account(change, name, hashed, held)
            (account,) = await _named(change, name)
            await _require_no_more(change, account.name, by)  # claims may wait for somebody of this name
            return None, [deeds.user_added(account.name, account.roles)]

        await self._write(work)

    async def set_password(self, name: str, password: SecretText, by: Identity) -> None:
        """Raises Unsuitable, UnknownName, or PermissionMissing: who knows a password has what its user may do."""
        hashed = await passwords.hashed(password)

        async def work(change: Change) -> Told[None]:
            await accounts.set_password(change, name, hashed)
            await _require_no_more(change, name.casefold(), by)
            return None, [deeds.password_changed(name.casefold())]

        await self._write(work)

    async def remove_user(self, name: str) -> None:
        """Raises UnknownName or LastAdministrator."""

        async def work(change: Change) -> Told[None]:
            held = [role for account in await _named(change, name) for role in account.roles]
            await accounts.remove_account(change, name)
            return None, [deeds.user_removed(name.casefold(), held)]

        await self._write(work)

    async def grant(self, role: str, name: str, by: Identity) -> None:
        """Raises UnknownName or PermissionMissing."""

        async def work(change: Change) -> Told[None]:
            new = await accounts.grant_role(change, role, name)
            given = _called(await roles.roles(change), role)
            require_held(by, given.permissions)
            return None, [deeds.role_granted(name.casefold(), given.name)] if new else []

        await self._write(work)

    async def revoke(self, role: str, name: str) -> None:
        """Raises UnknownName or LastAdministrator."""

        async def work(change: Change) -> Told[None]:
            await accounts.revoke_role(change, role, name)
            known = await roles.role_name(change, role)
            return None, [deeds.role_revoked(name.casefold(), str(known))]

        await self._write(work)

    # --- Roles -----------------------------------------------------------------------------------------------

    async def roles(self) -> list[Role]:
        """All of them, by number."""
        await self.prepare()
        return await roles.roles(self._store)

    async def role(self, number: int) -> Role:
        """Raises UnknownName."""
        return _numbered(await self.roles(), number)

    async def add_role(self, wanted: Role, by: Identity) -> Role:
        """Raises NameTaken, InUse, PermissionMissing or UnknownReference."""

        async def work(change: Change) -> Told[Role]:
            return await role_changes.add(change, wanted, by, await self._known(change))

        return await self._write(work)

    async def replace_role(self, number: int, wanted: Role, by: Identity) -> Role:
        """Make a role what is wanted, all of it. Raises what ``role_changes.change_role`` does, or UnknownName."""

        async def work(change: Change) -> Told[Role]:
            old = _numbered(await roles.roles(change), number)
            return await role_changes.change_role(change, old, wanted, by, await self._known(change))

        return await self._write(work)

    async def rework_role(self, name: str, make: Callable[[Role], Role], by: Identity) -> Role:
        """Make the role of that name what ``make`` says, given what it is. Raises as ``replace_role`` does."""

        async def work(change: Change) -> Told[Role]:
            old = _called(await roles.roles(change), name)
            return await role_changes.change_role(change, old, make(old), by, await self._known(change))

        return await self._write(work)

    async def remove_role(self, which: int | str) -> Role:
        """Delete the role of that number or name. Raises UnknownName, Immutable, InUse or LastAdministrator."""

        async def work(change: Change) -> Told[Role]:
            found = await roles.roles(change)
            role = _numbered(found, which) if isinstance(which, int) else _called(found, which)
            return role, await role_changes.remove(change, role)

        return await self._write(work)

    # --- Claims ----------------------------------------------------------------------------------------------

    async def schemes(self) -> Mapping[str, Scheme]:
        """Whose word a claim can be."""
        return await self._known(self._store)

    async def claims(self) -> list[RoleClaim]:
        """All of them, by number, whether they give a role or not."""
        return await role_claims.claims(self._store)

    async def claim(self, number: int) -> RoleClaim:
        """Raises UnknownName."""
        return _claim_numbered(await self.claims(), number)

    async def roles_by(self, claim: Claim) -> list[Role]:
        """The roles that a claim gives."""
        return [role for role in await self.roles() if role_claims.same(claim, role.claims)]

    async def add_claim(self, wanted: RoleClaim) -> RoleClaim:
        """Keep a claim that gives no role yet. Raises NameTaken, InUse or UnknownReference."""

        async def work(change: Change) -> Told[RoleClaim]:
            require_schemes((wanted,), await self._known(change), "scheme")
            if taken := role_claims.same(wanted.claim, await role_claims.claims(change)):
                raise NameTaken(f"There is a claim {taken.text} already: number {taken.id}.")
            made = await role_claims.insert(change, wanted.claim, wanted.description)
            return made, [deeds.claim_added(made)]

        return await self._write(work)

    async def describe_claim(self, number: int, description: str) -> RoleClaim:
        """Raises UnknownName."""

        async def work(change: Change) -> Told[RoleClaim]:
            old = _claim_numbered(await role_claims.claims(change), number)
            await role_claims.describe(change, number, description)
            now = replace(old, description=description)
            return now, [deeds.claim_described(old, now)] if now != old else []

        return await self._write(work)

    async def remove_claim(self, number: int) -> None:
        """Raises UnknownName, or InUse when it gives a role."""

        async def work(change: Change) -> Told[None]:
            claim = _claim_numbered(await role_claims.claims(change), number)
            if given := [role for role, each in await role_claims.links(change) if each == number]:
                names = ", ".join(given[:5]) + (" and more" if len(given) > 5 else "")  # noqa: PLR2004
                raise InUse(f"The claim {claim.text} gives the role {names}.", remedy="Take it from the role first.")
            await role_claims.delete(change, number)
            return None, [deeds.claim_removed(claim)]

        await self._write(work)


async def _named(change: Change, name: str) -> list[Account]:
    return [account for account in await accounts.accounts(change) if account.name == name.casefold()]


async def _require_no_more(change: Change, name: str, by: Identity) -> None:
    """Raise PermissionMissing when a user may do what ``by`` may not."""
    require_held(by, (await accounts.identity(change, name)).permissions)


def _numbered(found: list[Role], number: int) -> Role:
    for role in found:
        if role.id == number:
            return role
    raise roles.unknown(f"number {number}")


def _called(found: list[Role], name: str) -> Role:
    for role in found:
        if role.name.casefold() == name.casefold():
            return role
    raise roles.unknown(name)


def _claim_numbered(found: list[RoleClaim], number: int) -> RoleClaim:
    for claim in found:
        if claim.id == number:
            return claim
    raise UnknownName(f"There is no claim number {number}.", remedy="GET /Security/Claims lists them.")
