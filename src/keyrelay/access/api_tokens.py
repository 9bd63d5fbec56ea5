"""Tokens of our own for machines: shown once, kept as a hash, with permissions of their own and an end."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay.access.admission import Admission, TokenRefused
from keyrelay.access.identity import Identity
from keyrelay.access.permissions import broadest, permission
from keyrelay.access.role_rules import require_held
from keyrelay.audit.acting import acting
from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Category, Deed, Kind, Operation
from keyrelay.errors import InUse, NameTaken, UnknownName, Unsuitable
from keyrelay.secrets.model import SecretText
from keyrelay.store.model import Reader, Row, Store

PREFIX = "keyrelay_"
# What stands where others have their roles: a token has permissions of its own.
ROLE = "API token"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_SHAPE = re.compile(rf"{PREFIX}([0-9a-f]{{16}})_[0-9a-f]{{64}}", re.ASCII)
_MOST = 1000
_MOST_PERMISSIONS = 100
_NEVER = float("inf")
_SELECT = "SELECT id, name, permissions, made_at, made_by, expires_at, digest FROM api_token"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token without its secret. ``id`` stands in the token itself, so that one that was found can be told."""

    id: str
    name: str
    permissions: tuple[str, ...]
    made_at: datetime
    made_by: str
    expires_at: datetime | None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class ApiTokens:
    """The one place that reads and writes tokens for machines."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def create(
        self, name: str, permissions: Collection[str], expires_at: datetime | None, by: Identity
    ) -> tuple[ApiToken, SecretText]:
        """Make a token, and give it with what it is; nobody gives more than they hold.

        Raises Unsuitable, PermissionMissing, NameTaken, or InUse when there are too many.
        """
        token = _made(name, permissions, expires_at)
        require_held(by, token.permissions)
        text = f"{PREFIX}{token.id}_{secrets.token_hex(32)}"
        async with self._store.change("access") as change:
            if await change.rows("SELECT 1 FROM api_token WHERE name = $1", token.name):
                raise NameTaken(f"There is a token {token.name} already.", remedy="Revoke it, or take another name.")
            ((number,),) = await change.rows("SELECT COUNT(*) FROM api_token")
            if number >= _MOST:
                raise InUse(f"There are {_MOST} tokens already.", remedy="Revoke those not needed.")
            await change.run(
                "INSERT INTO api_token (id, name, digest, permissions, made_at, made_by, expires_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                *(token.id, token.name, _digest(text), json.dumps(token.permissions)),
                *(token.made_at.isoformat(), token.made_by, expires_at and expires_at.astimezone(UTC).isoformat()),
            )
            changes = {"permissions": list(token.permissions), "expires_at": expires_at and expires_at.isoformat()}
            deed = Deed(Category.API_TOKEN, Operation.CREATED, Kind.TOKEN, token.name, token.id, changes=changes)
            await self._journal.write(change, deed)
        return token, SecretText(text)

    async def revoke(self, name: str) -> ApiToken:
        """From now on nobody signs in with it. Raises UnknownName."""
        async with self._store.change("access") as change:
            rows = await change.rows(f"{_SELECT} WHERE name = $1", name.lower())
            if not rows:
                raise UnknownName(f"There is no token {name}.", remedy="List them: keyrelay token list.")
            token = _read(rows[0])
            await change.run("DELETE FROM api_token WHERE id = $1", token.id)
            deed = Deed(Category.API_TOKEN, Operation.REVOKED, Kind.TOKEN, token.name, token.id)
            await self._journal.write(change, deed)
        return token

    async def all(self) -> list[ApiToken]:
        """By name, those that have expired among them."""
        return sorted(map(_read, await self._store.rows(_SELECT)), key=lambda token: token.name)


async def admit(reader: Reader, text: str) -> Admission:
    """Whom a token lets in, and until when. Raises TokenRefused."""
    shape = _SHAPE.fullmatch(text)
    rows = await reader.rows(f"{_SELECT} WHERE id = $1", shape[1]) if shape else []
    if not rows or not hmac.compare_digest(_digest(text), str(rows[0][-1])):
        raise TokenRefused("unknown API token")
    token = _read(rows[0])
    if token.has_expired(datetime.now(UTC)):
        raise TokenRefused("expired API token", {"token": token.name})
    identity = Identity(f"token:{token.name}", (ROLE,), frozenset(token.permissions))
    return Admission(identity, _NEVER if token.expires_at is None else token.expires_at.timestamp())


def _made(name: str, permissions: Collection[str], expires_at: datetime | None) -> ApiToken:
    if not _NAME.fullmatch(name.lower()):
        raise Unsuitable("A token's name needs 1 to 64 letters, digits, dots, dashes and underscores.")
    if not 0 < len(permissions) <= _MOST_PERMISSIONS:
        raise Unsuitable(f"A token needs 1 to {_MOST_PERMISSIONS} permissions.")
    now = datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise Unsuitable("A token must end in the future.")
    strings = tuple(broadest({permission(text) for text in permissions}))
    return ApiToken(secrets.token_hex(8), name.lower(), strings, now, acting().name, expires_at)


def _digest(text: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _read(row: Row) -> ApiToken:
    number, name, permissions, made_at, made_by, expires_at, _ = row
    end = None if expires_at is None else datetime.fromisoformat(expires_at)
    return ApiToken(number, name, tuple(json.loads(permissions)), datetime.fromisoformat(made_at), made_by, end)
