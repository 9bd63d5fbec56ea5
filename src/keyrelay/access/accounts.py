"""Local users, within a change. Names are compared without regard to case, as on the systems they come from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from keyrelay.access.claims import LOCAL_SCHEME, ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.permissions import EVERYTHING
from keyrelay.access.roles import role_name, unknown
from keyrelay.errors import LastAdministrator, NameTaken, UnknownName, Unsuitable
from keyrelay.store.model import Change, Conflict, Reader, Row, Store

# A colon would end the name in a Basic header (RFC 7617); the rest would be unreadable in a log or a path.
_NAME = re.compile(r"[^\s:/\x00-\x20\x7f]{1,128}")
# Names of users as claims spell them, and the roles that these give.
_BY_CLAIM = (
    "SELECT c.value AS name, r.role AS role FROM claim c JOIN role_claim r ON r.claim = c.id"
    " WHERE c.scheme = $1 AND c.type = $2"
)
_GIVEN = (
    f"SELECT g.name, g.role, p.permission FROM ({_BY_CLAIM}"  # noqa: S608 - a constant
    " UNION ALL SELECT account AS name, role FROM role_holder WHERE account = $3) g"
    " LEFT JOIN role_permission p ON p.role = g.role ORDER BY g.role"
)
_ADMINISTRATORS_BY_CLAIM = (
    f"SELECT g.name FROM ({_BY_CLAIM}) g JOIN role_permission p ON p.role = g.role WHERE p.permission = $3"  # noqa: S608 - a constant
)


@dataclass(frozen=True, slots=True)
class Account:
    """A local user. ``roles``: those it holds, and those that a claim gives to it."""

    name: str
    roles: tuple[str, ...]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """A user, and the hash of the password; whoever holds it has been found to know that password."""

    name: str
    password_hash: str = field(repr=False)


async def any_account(change: Change) -> bool:
    return bool(await change.rows("SELECT 1 FROM account LIMIT 1"))


async def add_account(change: Change, name: str, password_hash: str, roles: tuple[str, ...]) -> None:
    """Raises Unsuitable for the name, NameTaken, or UnknownName for a role that is not there."""
    account = account_name(name)
    try:
        await change.run(
            "INSERT INTO account (name, password_hash, changed_at) VALUES ($1, $2, $3)", account, password_hash, _now()
        )
    except Conflict:
        raise NameTaken(f"There is a user {account} already.") from None
    for role in roles:
        await grant_role(change, role, account)


async def set_password(change: Change, name: str, password_hash: str) -> None:
    """Raises UnknownName."""
    changed = await change.run(
        "UPDATE account SET password_hash = $1, changed_at = $2 WHERE name = $3",
        password_hash,
        _now(),
        name.casefold(),
    )
    if not changed:
        raise UnknownName(f"There is no user {name}.")


async def remove_account(change: Change, name: str) -> None:
    await change.run("DELETE FROM role_holder WHERE account = $1", name.casefold())
    if not await change.run("DELETE FROM account WHERE name = $1", name.casefold()):
        raise UnknownName(f"There is no user {name}.")
    await require_administrator(change)


async def grant_role(change: Change, role: str, account: str) -> bool:
    """Give a user a role; False when it holds it already."""
    pair = (await _role_name(change, role), account.casefold())
    if not await change.rows("SELECT 1 FROM account WHERE name = $1", pair[1]):
        raise UnknownName(f"There is no user {account}.")
    if await change.rows("SELECT 1 FROM role_holder WHERE role = $1 AND account = $2", *pair):
        return False
    await change.run("INSERT INTO role_holder (role, account) VALUES ($1, $2)", *pair)
    return True


async def revoke_role(change: Change, role: str, account: str) -> None:
    name = await _role_name(change, role)
    if not await change.run("DELETE FROM role_holder WHERE role = $1 AND account = $2", name, account.casefold()):
        raise UnknownName(f"User {account} does not hold the role {name}.")
    await require_administrator(change)


async def accounts(reader: Reader) -> list[Account]:
    held: dict[str, set[str]] = {}
    for account, role in await reader.rows("SELECT account, role FROM role_holder"):
        held.setdefault(account, set()).add(role)
    for value, role in await reader.rows(_BY_CLAIM, LOCAL_SCHEME, int(ClaimType.USER)):
        held.setdefault(value.casefold(), set()).add(role)
    rows = await reader.rows("SELECT name, changed_at FROM account ORDER BY name")
    return [Account(name, tuple(sorted(held.get(name, ()))), datetime.fromisoformat(at)) for name, at in rows]


async def find(store: Store, names: list[str]) -> Proof | None:
    """The first account of these names that exists, and its password hash."""
    for name in names:
        rows: list[Row] = list(await store.rows("SELECT name, password_hash FROM account WHERE name = $1", name))
        if rows:
            return Proof(*rows[0])
    return None


async def identity(reader: Reader, account: str) -> Identity:
    """What an account is and may, as of now: by the roles it holds, and by those that claims give to it."""
    # In one statement, so that all of it was so at one moment. Text is folded here, as databases do it differently.
    rows = await reader.rows(_GIVEN, LOCAL_SCHEME, int(ClaimType.USER), account)
    mine = [(role, string) for name, role, string in rows if name.casefold() == account]
    roles = dict.fromkeys(role for role, _ in mine)
    return Identity(account, tuple(roles), frozenset(string for _, string in mine if string is not None))


async def require_administrator(change: Change) -> None:
    """Raise LastAdministrator unless there is still a local user who may do everything."""
    rows = await change.rows(
        "SELECT 1 FROM role_holder h JOIN role_permission p ON p.role = h.role WHERE p.permission = $1 LIMIT 1",
        EVERYTHING,
    )
    if rows:
        return
    by_claim = await change.rows(_ADMINISTRATORS_BY_CLAIM, LOCAL_SCHEME, int(ClaimType.USER), EVERYTHING)
    named = {name.casefold() for (name,) in by_claim}
    if not any(name in named for (name,) in await change.rows("SELECT name FROM account")):
        raise LastAdministrator("Nobody would be left who may do everything.")


def account_name(text: str) -> str:
    """The form in which an account's name is kept. Raises Unsuitable."""
    if not _NAME.fullmatch(text):
        raise Unsuitable("A user name needs 1 to 128 characters without spaces, colons and slashes.")
    return text.casefold()


async def _role_name(reader: Reader, text: str) -> str:
    name = await role_name(reader, text)
    if name is None:
        raise unknown(text)
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
