"""Keeping users and roles. Names are compared without regard to case, as on the systems they come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay.access.identity import Identity
from keyrelay.access.passwords import hash_password
from keyrelay.access.permissions import EVERYTHING, permission
from keyrelay.errors import LastAdministrator, NameTaken, UnknownName, Unsuitable
from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Change, Conflict, Row, Store

ADMINISTRATOR = "Administrator"
# A colon would end the name in a Basic header (RFC 7617); the rest would be unreadable in a log or a path.
_NAME = re.compile(r"[^\s:/\x00-\x20\x7f]{1,128}")


@dataclass(frozen=True, slots=True)
class Account:
    """A local user."""

    name: str
    roles: tuple[str, ...]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permission strings."""

    name: str
    permissions: tuple[str, ...]
    holders: int


async def any_account(change: Change) -> bool:
    return bool(await change.rows("SELECT 1 FROM account LIMIT 1"))


async def ensure_administrator_role(change: Change) -> None:
    if not await change.rows("SELECT 1 FROM role WHERE name = $1", ADMINISTRATOR):
        await change.run("INSERT INTO role (name) VALUES ($1)", ADMINISTRATOR)
        await change.run("INSERT INTO role_permission (role, permission) VALUES ($1, $2)", ADMINISTRATOR, EVERYTHING)


async def add_account(change: Change, name: str, password: SecretText, roles: tuple[str, ...]) -> None:
    """Raises Unsuitable, NameTaken, or UnknownName for a role that is not there."""
    account = account_name(name)
    hashed = hash_password(password.reveal())
    try:
        await change.run(
            "INSERT INTO account (name, password_hash, changed_at) VALUES ($1, $2, $3)", account, hashed, _now()
        )
    except Conflict:
        raise NameTaken(f"There is a user {account} already.") from None
    for role in roles:
        await grant_role(change, role, account)


async def set_password(change: Change, name: str, password: SecretText) -> None:
    changed = await change.run(
        "UPDATE account SET password_hash = $1, changed_at = $2 WHERE name = $3",
        hash_password(password.reveal()),
        _now(),
        name.casefold(),
    )
    if not changed:
        raise UnknownName(f"There is no user {name}.")


async def remove_account(change: Change, name: str) -> None:
    await change.run("DELETE FROM role_holder WHERE account = $1", name.casefold())
    if not await change.run("DELETE FROM account WHERE name = $1", name.casefold()):
        raise UnknownName(f"There is no user {name}.")
    await _require_administrator(change)


async def add_role(change: Change, name: str, permissions: tuple[str, ...]) -> None:
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,128}", name) or name != name.strip():
        raise Unsuitable("A role's name needs 1 to 128 characters that can be printed.")
    if await change.rows("SELECT 1 FROM role WHERE LOWER(name) = LOWER($1)", name):
        raise NameTaken(f"There is a role {name} already.")
    strings = sorted({permission(text) for text in permissions})
    await change.run("INSERT INTO role (name) VALUES ($1)", name)
    for string in strings:
        await change.run("INSERT INTO role_permission (role, permission) VALUES ($1, $2)", name, string)


async def grant_role(change: Change, role: str, account: str) -> None:
    """Give a user a role; nothing changes when it holds it already."""
    role_name = await _role_name(change, role)
    if not await change.rows("SELECT 1 FROM account WHERE name = $1", account.casefold()):
        raise UnknownName(f"There is no user {account}.")
    pair = (role_name, account.casefold())
    if not await change.rows("SELECT 1 FROM role_holder WHERE role = $1 AND account = $2", *pair):
        await change.run("INSERT INTO role_holder (role, account) VALUES ($1, $2)", *pair)


async def revoke_role(change: Change, role: str, account: str) -> None:
    role_name = await _role_name(change, role)
    if not await change.run("DELETE FROM role_holder WHERE role = $1 AND account = $2", role_name, account.casefold()):
        raise UnknownName(f"User {account} does not hold the role {role_name}.")
    await _require_administrator(change)


async def accounts(store: Store) -> list[Account]:
    held: dict[str, list[str]] = {}
    for account, role in await store.rows("SELECT account, role FROM role_holder ORDER BY role"):
        held.setdefault(account, []).append(role)
    rows = await store.rows("SELECT name, changed_at FROM account ORDER BY name")
    return [Account(name, tuple(held.get(name, ())), datetime.fromisoformat(at)) for name, at in rows]


async def roles(store: Store) -> list[Role]:
    strings: dict[str, list[str]] = {}
    for role, string in await store.rows("SELECT role, permission FROM role_permission ORDER BY permission"):
        strings.setdefault(role, []).append(string)
    counts = await store.rows("SELECT role, COUNT(*) FROM role_holder GROUP BY role")
    holders: dict[str, int] = {role: count for role, count in counts}  # noqa: C416 - rows are no pairs to mypy
    names = await store.rows("SELECT name FROM role ORDER BY name")
    return [Role(name, tuple(strings.get(name, ())), holders.get(name, 0)) for (name,) in names]


async def find(store: Store, names: list[str]) -> tuple[str, str] | None:
    """The first account of these names that exists, and its password hash."""
    for name in names:
        rows: list[Row] = list(await store.rows("SELECT name, password_hash FROM account WHERE name = $1", name))
        if rows:
            return rows[0][0], rows[0][1]
    return None


async def identity(store: Store, account: str) -> Identity:
    """What an account is and may, as of now."""
    rows = await store.rows(
        "SELECT h.role, p.permission FROM role_holder h LEFT JOIN role_permission p ON p.role = h.role"
        " WHERE h.account = $1 ORDER BY h.role",
        account,
    )
    return Identity(
        account, tuple(dict.fromkeys(row[0] for row in rows)), frozenset(row[1] for row in rows if row[1] is not None)
    )


def account_name(text: str) -> str:
    """The form in which an account's name is kept. Raises Unsuitable."""
    if not _NAME.fullmatch(text):
        raise Unsuitable("A user name needs 1 to 128 characters without spaces, colons and slashes.")
    return text.casefold()


async def _role_name(change: Change, text: str) -> str:
    rows = await change.rows("SELECT name FROM role WHERE LOWER(name) = LOWER($1)", text)
    if not rows:
        raise UnknownName(f"There is no role {text}.")
    return str(rows[0][0])


async def _require_administrator(change: Change) -> None:
    rows = await change.rows(
        "SELECT 1 FROM role_holder h JOIN role_permission p ON p.role = h.role WHERE p.permission = $1 LIMIT 1",
        EVERYTHING,
    )
    if not rows:
        raise LastAdministrator("Nobody would be left who may do everything.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
