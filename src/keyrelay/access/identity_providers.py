"""Keeping identity providers: those added here, and the one that the settings name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

from keyrelay import setting_values
from keyrelay.access import identity_provider, provider_clients
from keyrelay.access.identity import Identity
from keyrelay.access.identity_provider import ClaimNames, Client, IdentityProvider, told
from keyrelay.access.role_rules import require_held
from keyrelay.access.schemes import LOCAL, Scheme
from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Category, Deed, Kind, Operation, changes_between
from keyrelay.errors import InUse, NameTaken, StoreUnavailable, UnknownName, Unsuitable
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import Stored
from keyrelay.store.model import Change, Conflict, Reader, Store

_MOST = 100
_TRIES = 3
_LONGEST_TITLE = 128
_SELECT = "SELECT id, scheme, document FROM identity_provider"


class IdentityProviderKeeper:
    """The one place that reads and writes identity providers. ``configured``: the one of the settings."""

    def __init__(
        self, store: Store, keyring: Keyring, journal: Journal, configured: IdentityProvider | None = None
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._journal = journal
        self._configured = configured
        self._loading = asyncio.Lock()
        self._loaded: tuple[IdentityProvider, ...] = ()
        self._mark = -1

    async def all(self) -> tuple[IdentityProvider, ...]:
        """Those there are now, by scheme; from memory unless access has changed."""
        self._store.look()
        if self._store.marks["access"] != self._mark:
            async with self._loading:
                while (mark := self._store.marks["access"]) != self._mark:
                    self._loaded = tuple(await self._read(self._store))
                    self._mark = mark
        return self._loaded

    async def schemes(self, reader: Reader) -> dict[str, Scheme]:
        """Whose word a claim can be: theirs, and that of the local users. See ``schemes.Known``."""
        found = [Scheme(one.id, one.scheme, one.display_name) for one in await self._read(reader)]
        return {scheme.name: scheme for scheme in (LOCAL, *found)}

    async def add(self, provider: IdentityProvider, by: Identity) -> IdentityProvider:
        """Keep a new provider (``made``).

        Raises NameTaken, InUse when there are as many as may be, or PermissionMissing: claims of that scheme may be
        left of an earlier one, and nobody gives more than they hold.
        """

        async def work(change: Change) -> IdentityProvider:
            known = await self._read(change)
            _require_free(provider, known)
            if len(known) >= _MOST:
                raise InUse(f"There are {_MOST} identity providers already.", remedy="Remove those not needed.")
            await _require_no_more(change, provider.scheme, by)
            kept = await provider_clients.keep(change, self._keyring, provider)
            await change.run(
                "INSERT INTO identity_provider (id, scheme, document) VALUES ($1, $2, $3)",
                *(kept.id, kept.scheme, identity_provider.document(kept)),
            )
            await self._journal.write(change, _deed(Operation.CREATED, kept, **told(kept)))
            return kept

        return await self._sealing(work)

    async def set_client(self, scheme: str, client: Client | None, by: Identity) -> IdentityProvider:
        """What keyrelay is there from now on, so that people sign in through it; None that nobody does any more.

        A secret that is ``Stored`` is kept; it must be the one that is there.

        Raises UnknownName, Unsuitable or PermissionMissing.
        """

        async def work(change: Change) -> IdentityProvider:
            before = await self._kept(change, scheme)
            if client is not None:
                _require_kept(client, before)
                await _require_no_more(change, before.scheme, by)
            after = await provider_clients.keep(change, self._keyring, replace(before, client=client))
            if client is None or not isinstance(client.secret, Stored):
                await provider_clients.erase(change, before)
            if before != after:
                await self._write(change, after)
                changes = changes_between(_of_client(before), _of_client(after), {"client_secret"})
                await self._journal.write(change, _deed(Operation.UPDATED, after, **changes))
            return after

        return await self._sealing(work)

    async def disable(self, scheme: str) -> IdentityProvider:
        """Nobody signs in with its tokens any more, from now on. Raises UnknownName or Unsuitable."""
        return await self._switch(scheme, None)

    async def enable(self, scheme: str, by: Identity) -> IdentityProvider:
        """Raises UnknownName, Unsuitable, or PermissionMissing: its claims give their roles again."""
        return await self._switch(scheme, by)

    async def remove(self, scheme: str) -> IdentityProvider:
        """Raises UnknownName, Unsuitable, or InUse while roles have claims of it.

        Otherwise these would be claims of whoever gets the name next.
        """
        async with self._store.change("access") as change:
            provider = await self._kept(change, scheme)
            ((claims,),) = await change.rows("SELECT COUNT(*) FROM claim WHERE scheme = $1", provider.scheme)
            if claims:
                raise InUse(
                    f"There are claims of {provider.scheme}: {claims}.",
                    remedy="Delete these claims first, or disable the provider.",
                )
            await change.run("DELETE FROM identity_provider WHERE id = $1", provider.id)
            await provider_clients.erase(change, provider)
            await self._journal.write(change, _deed(Operation.DELETED, provider))
        return provider

    async def _switch(self, scheme: str, by: Identity | None) -> IdentityProvider:
        """``by``: who enables it; None to disable it."""
        enabled = by is not None
        async with self._store.change("access") as change:
            provider = await self._kept(change, scheme)
            if provider.enabled is enabled:
                return provider
            if by is not None:
                await _require_no_more(change, provider.scheme, by)
            switched = replace(provider, enabled=enabled)
            await self._write(change, switched)
            changed = {"before": provider.enabled, "after": enabled}
            await self._journal.write(change, _deed(Operation.UPDATED, switched, enabled=changed))
        return switched

    async def _sealing(self, work: Callable[[Change], Awaitable[IdentityProvider]]) -> IdentityProvider:
        """A change that may store a secret; once more when the data key is rotated away meanwhile."""
        await self._keyring.refresh(self._store)
        for _ in range(_TRIES):
            try:
                async with self._store.change("access") as change:
                    return await work(change)
            except Conflict:
                await self._keyring.reload(self._store)
        raise StoreUnavailable("It could not be stored because its keys are being rotated; try again.")

    async def _write(self, change: Change, provider: IdentityProvider) -> None:
        await change.run(
            "UPDATE identity_provider SET document = $1 WHERE id = $2",
            *(identity_provider.document(provider), provider.id),
        )

    async def _kept(self, change: Change, scheme: str) -> IdentityProvider:
        for provider in await self._read(change):
            if provider.scheme.lower() == scheme.lower():
                if provider.from_settings:
                    raise Unsuitable(
                        f"The identity provider {provider.scheme} comes from the settings.",
                        remedy="Change or take away KEYRELAY_OIDC_AUTHORITY, and restart every node.",
                    )
                return provider
        raise UnknownName(f"There is no identity provider {scheme}.", remedy="List them: keyrelay idp list.")

    async def _read(self, reader: Reader) -> list[IdentityProvider]:
        kept = [identity_provider.read(*row) for row in await reader.rows(_SELECT)]
        if (first := self._configured) is not None:
            # What one name and one kind of token meant would otherwise depend on which of the two is looked at.
            kept = [one for one in kept if one.scheme.lower() != first.scheme.lower() and not _same_tokens(one, first)]
            kept.append(first)
        return sorted(kept, key=lambda provider: provider.scheme.lower())


def made(
    scheme: str, *, authority: str, audience: str, display_name: str | None, names: ClaimNames
) -> IdentityProvider:
    """A provider of these values, checked. Raises Unsuitable."""
    name = _checked("The scheme", setting_values.scheme, scheme)
    title = name if display_name is None else display_name
    if not title.strip() or len(title) > _LONGEST_TITLE or not title.isprintable():
        raise Unsuitable(f"The display name needs 1 to {_LONGEST_TITLE} characters that can be printed.")
    return IdentityProvider(
        id=str(uuid.uuid4()),
        scheme=name,
        display_name=title,
        authority=_checked("The authority", setting_values.authority, authority),
        audience=_checked("The audience", setting_values.audience, audience),
        names=names,
    )


def _checked(what: str, parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as problem:
        raise Unsuitable(f"{what} {problem}.") from None


async def _require_no_more(change: Change, scheme: str, by: Identity) -> None:
    """Raise PermissionMissing when claims of a scheme give what ``by`` does not hold."""
    rows = await change.rows(
        "SELECT DISTINCT p.permission FROM claim c JOIN role_claim r ON r.claim = c.id"
        " JOIN role_permission p ON p.role = r.role WHERE c.scheme = $1",
        scheme,
    )
    require_held(by, [permission for (permission,) in rows])


def _require_free(provider: IdentityProvider, known: list[IdentityProvider]) -> None:
    for other in known:
        if other.scheme.lower() == provider.scheme.lower():
            raise NameTaken(f"There is an identity provider {other.scheme} already.")
        if _same_tokens(other, provider):
            raise NameTaken(
                f"The identity provider {other.scheme} takes these tokens already: its authority and audience are the "
                "same.",
                remedy="Give another audience, or remove the other one.",
            )


def _same_tokens(one: IdentityProvider, other: IdentityProvider) -> bool:
    return (one.authority, one.audience) == (other.authority, other.audience)


def _require_kept(client: Client, before: IdentityProvider) -> None:
    if isinstance(client.secret, Stored) and (before.client is None or before.client.secret != client.secret):
        raise Unsuitable("The client secret has been changed meanwhile.", remedy="Look at it again.")


def _of_client(provider: IdentityProvider) -> dict[str, str | None]:
    client = provider.client
    secret = None if client is None else client.secret
    return {
        "client_id": None if client is None else client.id,
        "client_secret": secret.id if isinstance(secret, Stored) else None,
    }


def _deed(operation: Operation, provider: IdentityProvider, **changes: object) -> Deed:
    return Deed(
        Category.IDENTITY_PROVIDER,
        operation,
        Kind.IDENTITY_PROVIDER,
        provider.scheme,
        provider.id,
        changes=changes,
    )
