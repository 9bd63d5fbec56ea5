"""Roles as they are kept: what each is called, what it allows, which claims give it, and which local users hold it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from keyrelay.access import role_claims
from keyrelay.access.numbers import next_number
from keyrelay.access.permissions import EVERYTHING
from keyrelay.access.role_claims import RoleClaim
from keyrelay.errors import UnknownName
from keyrelay.store.model import Change, Reader

ADMINISTRATOR = "Administrator"
# Upstream puts every role into a permission set; here there is this one, which holds everything.
GLOBAL_SET = "8a2f6a0b-3f57-4f0c-9d35-1f6f0e4c7b52"
MOST_ROLES = 1000
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permission strings. ``id`` is 0 while it has no number; ``holders`` are local users."""

    id: int
    name: str
    description: str
    email: str | None = None
    permission_set: str = GLOBAL_SET
    permissions: tuple[str, ...] = ()
    claims: tuple[RoleClaim, ...] = ()
    holders: tuple[str, ...] = ()

    @property
    def immutable(self) -> bool:
        """Whether neither its name nor what it allows may change."""
        return self.name == ADMINISTRATOR


async def roles(reader: Reader) -> list[Role]:
    """All that have a number, by it (``number_all``)."""
    strings: defaultdict[str, list[str]] = defaultdict(list)
    for role, string in await reader.rows("SELECT role, permission FROM role_permission ORDER BY permission"):
        strings[role].append(string)
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for role, account in await reader.rows("SELECT role, account FROM role_holder ORDER BY account"):
        holders[role].append(account)
    kept = {claim.id: claim for claim in await role_claims.claims(reader)}
    given: defaultdict[str, list[RoleClaim]] = defaultdict(list)
    for role, number in await role_claims.links(reader):
        if number in kept:  # else it was added between the two reads
            given[role].append(kept[number])
    rows = await reader.rows(
        "SELECT id, name, description, email, permission_set FROM role WHERE id IS NOT NULL ORDER BY id"
    )
    return [
        # Roles of the version before have neither description nor set; a client that writes back what it has read
        # needs both.
        Role(
            *(number, name, description or name, email, permission_set or GLOBAL_SET),
            *(tuple(strings[name]), tuple(given[name]), tuple(holders[name])),
        )
        for number, name, description, email, permission_set in rows
    ]


async def unnumbered(reader: Reader) -> bool:
    """Whether there are roles without a number: made before roles had one, or by a node of the version before."""
    return bool(await reader.rows("SELECT 1 FROM role WHERE id IS NULL LIMIT 1"))


async def number_all(change: Change) -> None:
    """Give every role a number that has none; the built-in one comes first."""
    rows = await change.rows("SELECT name FROM role WHERE id IS NULL")
    for name in sorted((name for (name,) in rows), key=lambda each: (each != ADMINISTRATOR, each)):
        number = await next_number(change, "role")
        await change.run("UPDATE role SET id = $1 WHERE name = $2", number, name)


async def role_name(reader: Reader, text: str) -> str | None:
    """What the role is called that is meant by this, whatever its case; None when there is none."""
    meant = text.casefold()
    rows = await reader.rows("SELECT name FROM role")
    return next((str(name) for (name,) in rows if name.casefold() == meant), None)


def unknown(text: str) -> UnknownName:
    return UnknownName(
        f"There is no role {text}.", remedy="List what there is: keyrelay role list, GET /Security/Roles."
    )


def is_name(text: str) -> bool:
    """Whether a role can be called this."""
    return bool(_NAME.fullmatch(text)) and text == text.strip()


async def ensure_administrator(change: Change) -> None:
    if await role_name(change, ADMINISTRATOR) is None:
        await insert(change, Role(0, ADMINISTRATOR, "May do everything", permissions=(EVERYTHING,)))


# --- Rows ----------------------------------------------------------------------------------------------------


async def insert(change: Change, role: Role) -> int:
    """Keep a role without its claims; give the number that it has now."""
    number = await next_number(change, "role")
    await change.run(
        "INSERT INTO role (name, id, description, email, permission_set) VALUES ($1, $2, $3, $4, $5)",
        *(role.name, number, role.description, role.email, role.permission_set),
    )
    await permit(change, role.name, role.permissions)
    return number


async def save(change: Change, role: Role, *, before: str) -> None:
    """Keep how a role that was called ``before`` is called now, and described; holders and claims go along."""
    if role.name != before:
        await change.run("UPDATE role SET id = NULL WHERE name = $1", before)  # no two have one number
        await change.run("INSERT INTO role (name, id) VALUES ($1, $2)", role.name, role.id)
        for statement in (
            "UPDATE role_permission SET role = $1 WHERE role = $2",
            "UPDATE role_holder SET role = $1 WHERE role = $2",
            "UPDATE role_claim SET role = $1 WHERE role = $2",
        ):
            await change.run(statement, role.name, before)
        await change.run("DELETE FROM role WHERE name = $1", before)
    await change.run(
        "UPDATE role SET description = $1, email = $2, permission_set = $3 WHERE name = $4",
        *(role.description, role.email, role.permission_set, role.name),
    )


async def permit(change: Change, role: str, strings: tuple[str, ...]) -> None:
    for string in strings:
        await change.run("INSERT INTO role_permission (role, permission) VALUES ($1, $2)", role, string)


async def forbid(change: Change, role: str, strings: tuple[str, ...]) -> None:
    for string in strings:
        await change.run("DELETE FROM role_permission WHERE role = $1 AND permission = $2", role, string)


async def delete(change: Change, role: str) -> None:
    """Delete a role with its permissions; the claims that gave it stay, for others."""
    await change.run("DELETE FROM role_permission WHERE role = $1", role)
    await change.run("DELETE FROM role_claim WHERE role = $1", role)
    await change.run("DELETE FROM role WHERE name = $1", role)
