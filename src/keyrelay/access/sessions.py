"""Sessions of the portal: what a cookie stands for, on every node, until it ends (docs/decisions/0029).

A session is a random token of 256 bits; the store has a hash of it. Whom it lets in is found out anew at each request,
so that a role that was taken away, a password that was changed and a provider that was switched off end it at once.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from keyrelay.access import accounts, claims
from keyrelay.access.accounts import Proof
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.errors import SessionOver
from keyrelay.secrets.model import SecretText
from keyrelay.settings import Settings
from keyrelay.store.model import Change, Row, Store

_MICROSECONDS = 1_000_000
_TOUCHED_EVERY = 60 * _MICROSECONDS  # a click within a minute of another is not written down
_LONGEST_TOKEN = 64
_MOST = 20  # of one name: the oldest make room
_SWEPT = 100  # of those that are over, or too many, go with each that begins
_SELECT = "SELECT id, name, password_mark, provider, claims, began_at, seen_at FROM portal_session"


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's session. ``form_token`` is what their forms have to bring along, which no other page can know."""

    identity: Identity
    form_token: str


class Sessions:
    """The one place that reads and writes sessions. ``idle`` and ``life``: without a request, and at all."""

    def __init__(
        self,
        store: Store,
        providers: IdentityProviderKeeper,
        idle: timedelta,
        life: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives seconds since 1970, as all nodes tell them."""
        self._store = store
        self._clock = clock
        self._skip_locked = store.dialect.skip_locked
        self._providers = providers
        self._idle = idle // timedelta(microseconds=1)
        self._life = life // timedelta(microseconds=1)

    @classmethod
    def of(cls, settings: Settings, store: Store, providers: IdentityProviderKeeper) -> Sessions:
        """Those that live as long as the settings say."""
        idle, life = timedelta(minutes=settings.session_idle_minutes), timedelta(hours=settings.session_hours)
        return cls(store, providers, idle, life)

    async def begin(self, proof: Proof) -> SecretText:
        """A session of a local user, whose password has just been found right. Gives its token.

        It goes with the password that was checked: another one that was set meanwhile has ended it already.
        """
        return await self._keep(proof.name, _mark(proof), None, None)

    async def begin_of_provider(self, name: str, provider: str, stated: Collection[Claim]) -> SecretText:
        """The same for somebody of whom the identity provider of that id has stated these claims."""
        kept = json.dumps([(int(claim.type), claim.value, claim.scheme) for claim in stated])
        return await self._keep(name, None, provider, kept)

    async def find(self, token: str, *, used: bool = True) -> Session:
        """Whose session it is. Raises SessionOver when it is none, or is over.

        ``used``: it is asked for by somebody, and not by a page that has been left open, which would keep it for ever.
        """
        row = await self._row(token)
        if row is None:
            raise SessionOver("The session has ended.")
        identity = await self._identity(row)
        if used:
            await self._touch(row)
        return Session(identity, form_token(token))

    async def end(self, token: str) -> None:
        """Sign out."""
        async with self._store.change() as change:
            await change.run("DELETE FROM portal_session WHERE id = $1", _hash(token))

    async def end_all(self, name: str) -> None:
        """Sign out of everything: all sessions of that name, on all devices."""
        async with self._store.change() as change:
            await change.run("DELETE FROM portal_session WHERE name = $1", name)

    async def _keep(self, name: str, mark: str | None, provider: str | None, kept: str | None) -> SecretText:
        token, now = secrets.token_urlsafe(32), self._now()
        async with self._store.change() as change:
            await self._sweep(change, now)
            await self._make_room(change, name)
            await change.run(
                "INSERT INTO portal_session (id, name, password_mark, provider, claims, began_at, seen_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                *(_hash(token), name, mark, provider, kept, now, now),
            )
        return SecretText(token)

    async def _sweep(self, change: Change, now: int) -> None:
        # One by one, so that each has an index. What another node sweeps is left to it.
        for over, before in (("seen_at", now - self._idle), ("began_at", now - self._life)):
            which = f"SELECT id FROM portal_session WHERE {over} < $1 LIMIT {_SWEPT}{self._skip_locked}"  # noqa: S608 - constants
            await change.run(f"DELETE FROM portal_session WHERE id IN ({which})", before)  # noqa: S608 - as above

    async def _make_room(self, change: Change, name: str) -> None:
        newest = "SELECT began_at, id FROM portal_session WHERE name = $1 ORDER BY began_at DESC, id DESC LIMIT 1"
        which = (
            f"SELECT id FROM portal_session WHERE name = $1 AND (began_at, id) <= ({newest} OFFSET {_MOST - 1})"  # noqa: S608 - constants
            f" LIMIT {_SWEPT}{self._skip_locked}"
        )
        await change.run(f"DELETE FROM portal_session WHERE id IN ({which})", name)  # noqa: S608 - as above

    async def _row(self, token: str) -> Row | None:
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        rows = await self._store.rows(f"{_SELECT} WHERE id = $1", _hash(token))
        if not rows:
            return None
        began, seen = rows[0][5:7]
        now = self._now()
        return rows[0] if now < seen + self._idle and now < began + self._life else None

    async def _identity(self, row: Row) -> Identity:
        _, name, mark, provider, kept, _, _ = row
        if provider is None:
            if mark != await self._password_mark(name):
                raise SessionOver("The password was changed, or the user removed.")
            return await accounts.identity(self._store, name)
        if not any(one.id == provider and one.signs_people_in for one in await self._providers.all()):
            raise SessionOver("The identity provider lets nobody in any more.", remedy="Sign in another way.")
        stated = [Claim(ClaimType(kind), value, scheme) for kind, value, scheme in json.loads(kept)]
        return await claims.identity(self._store, name, stated)

    async def _touch(self, row: Row) -> None:
        now = self._now()
        if now - row[6] > _TOUCHED_EVERY and self._store.writable:
            async with self._store.change() as change:
                await change.run("UPDATE portal_session SET seen_at = $1 WHERE id = $2", now, row[0])

    async def _password_mark(self, name: str) -> str | None:
        """What is another for each password that is set: its hash has a salt of its own."""
        found = await accounts.find(self._store, [name])
        return None if found is None else _mark(found)

    def _now(self) -> int:
        return int(self._clock() * _MICROSECONDS)


def form_token(token: str) -> str:
    """What forms in this session bring along."""
    return hashlib.blake2b(b"form", key=token.encode(), digest_size=24).hexdigest()


def _mark(proof: Proof) -> str:
    return hashlib.sha256(proof.password_hash.encode()).hexdigest()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
