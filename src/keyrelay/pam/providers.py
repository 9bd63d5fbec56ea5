"""Keeping provider types, providers and local entries. What the profile uses cannot be taken away (contract D14)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Operation
from keyrelay.errors import BadInput, InUse, NameTaken, SecretGone, StoreUnavailable, UnknownName, UnknownReference
from keyrelay.pam import catalogue as kept
from keyrelay.pam import deeds, local, rules, sealing
from keyrelay.pam.backend import Backend, Parameter, VaultFailed
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.local import EntryDraft
from keyrelay.pam.model import DEFAULT_AREA, Entry, Provider, ProviderDraft, ProviderType
from keyrelay.profile.keeper import newest_profile
from keyrelay.profile.model import SmtpProfile
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import FromPam, SecretText
from keyrelay.store.model import Change, Conflict, Reader, Store, Topic

Result = TypeVar("Result")

_TRIES = 3
_MOST_PROVIDERS = 1000
_MOST_TYPES = 500
_MOST_ENTRIES = 10_000


class ProviderKeeper:
    """The one place that reads and writes types, providers and entries.

    ``backends``: the installed ones, asked for when they are needed first.
    """

    def __init__(
        self, store: Store, keyring: Keyring, backends: Callable[[], Mapping[str, Backend]], journal: Journal
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._backends = backends
        self._journal = journal
        self._loading = asyncio.Lock()
        self._loaded = Catalogue({}, {})
        self._mark = -1

    async def catalogue(self) -> Catalogue:
        """Types and providers as of now; from memory unless they have changed. The same object until they do."""
        self._store.look()
        if self._store.marks["pam"] != self._mark:
            async with self._loading:
                while (mark := self._store.marks["pam"]) != self._mark:
                    self._loaded = await self._read()
                    self._mark = mark
        return self._loaded

    async def _read(self) -> Catalogue:
        backends = self._backends()
        found = await kept.read(self._store, backends)
        behind = kept.lacks(found, backends) or any(map(sealing.has_plain, found.providers.values()))
        if behind and self._store.writable:
            await self._write(self._adopt)
            found = await kept.read(self._store, backends)
        return found

    async def _adopt(self, change: Change) -> None:
        """Keep what the installed back ends say of their types, and seal values that have become secret by it."""
        backends = self._backends()
        await kept.add_installed(change, await kept.read(change, backends), backends)
        for provider in (await kept.read(change, backends)).providers.values():
            if sealing.has_plain(provider):
                await kept.save_provider(change, await sealing.seal(change, self._keyring, provider))

    async def confirm(self, reader: Reader, profile: SmtpProfile) -> None:
        """Raise UnknownReference or BadInput for a reference of ``profile`` that can never give a secret.

        Within the change that makes it the profile, a provider cannot go away meanwhile: whoever deletes one waits for
        changes of the profile.
        """
        references = [(field, source) for field, source in profile.secrets() if isinstance(source, FromPam)]
        if not references:
            return
        found = await kept.read(reader, self._backends())
        violations = tuple(each for field, source in references for each in found.violations(field, source))
        if violations:
            unknown = all(violation.code == UnknownReference.code for violation in violations)
            raise (UnknownReference if unknown else BadInput)(violations)

    # --- Types -----------------------------------------------------------------------------------------------

    async def add_type(self, name: str | None, parameters: tuple[Parameter, ...]) -> ProviderType:
        """Register a type. The name of an installed one, or of one that is registered like this, gives that one back.

        Raises BadInput, or NameTaken when the type of that name is another one.
        """
        rules.check_type(name, parameters)
        assert name is not None  # noqa: S101 - checked
        await self.catalogue()
        async with self._store.change("pam") as change:
            found = await kept.read(change, self._backends())
            known = found.type_named(name)
            if known is not None:
                if known.backend is None and not rules.same_parameters(known, parameters):
                    raise NameTaken(f"There is a provider type {known.name} already, with other parameters.")
                if known.hidden:
                    known = replace(known, hidden=False)
                    await kept.save_type(change, known)
                    await self._journal.write(change, deeds.of_type(Operation.CREATED, known))
                return known
            if len(found.types) >= _MOST_TYPES:
                raise InUse(f"There are {_MOST_TYPES} provider types already.", remedy="Delete those not needed.")
            numbered = await kept.numbered(change, list(parameters))
            kind = ProviderType(str(uuid.uuid4()), name, numbered)
            await kept.insert_type(change, kind)
            await self._journal.write(change, deeds.of_type(Operation.CREATED, kind))
        return kind

    async def remove_type(self, type_id: str) -> None:
        """Delete a type that no provider uses; one that is installed is only hidden. Raises UnknownName or InUse."""
        await self.catalogue()
        async with self._store.change("pam") as change:
            found = await kept.read(change, self._backends())
            kind = found.types.get(type_id)
            if kind is None or kind.hidden:
                raise UnknownName("There is no such provider type.", remedy="GET /PamProviders/Types lists them.")
            if users := [one.name for one in found.providers.values() if one.type.id == type_id]:
                raise InUse(f"The provider type {kind.name} is used by {_listed(users)}.")
            if kind.backend is not None:
                await kept.save_type(change, replace(kind, hidden=True))
            else:
                await change.run("DELETE FROM pam_type WHERE id = $1", type_id)
            await self._journal.write(change, deeds.of_type(Operation.DELETED, kind))

    # --- Providers -------------------------------------------------------------------------------------------

    async def provider(self, number: int) -> Provider:
        """Raises UnknownName."""
        provider = (await self.catalogue()).providers.get(number)
        if provider is None:
            raise _unknown(number)
        return provider

    async def add(self, draft: ProviderDraft) -> Provider:
        """Keep a new provider. Raises BadInput or NameTaken."""
        await self.catalogue()

        async def work(change: Change) -> Provider:
            found = await kept.read(change, self._backends())
            values = rules.check_provider(draft, found, None)
            _require_free(found, draft.name, None)
            if len(found.providers) >= _MOST_PROVIDERS:
                raise InUse(f"There are {_MOST_PROVIDERS} providers already.", remedy="Delete those not needed.")
            assert draft.name is not None and draft.type_id is not None  # noqa: S101, PT018 - checked
            number = await kept.next_number(change, "provider")
            made = _made(number, draft, found.types[draft.type_id])
            provider = await sealing.keep(change, self._keyring, made, values)
            await kept.insert_provider(change, provider)
            await self._journal.write(change, deeds.of_provider(Operation.CREATED, None, provider))
            return provider

        return await self._write(work)

    async def replace(self, number: int, draft: ProviderDraft) -> Provider:
        """Make a provider what the draft says; secret values that are not given stay as long as no other value changes.

        Raises UnknownName, BadInput, SecretRequired, NameTaken, or InUse when it would become useless to the profile.
        """
        await self.catalogue()

        async def work(change: Change) -> Provider:
            found = await kept.read(change, self._backends())
            old = found.providers.get(number)
            if old is None:
                raise _unknown(number)
            values = rules.check_provider(draft, found, old)
            _require_free(found, draft.name, number)
            if draft.remote and (uses := await _uses(change, number)):
                raise InUse(f"Provider {old.name} cannot become remote: it is used by {_listed(uses)}.")
            made = _made(number, _with_areas(draft, old), old.type)
            provider = await sealing.keep(change, self._keyring, made, values)
            await kept.save_provider(change, provider)
            await stored.erase(change, sealing.stored_ids(old) - sealing.stored_ids(provider))
            await self._journal.write(change, deeds.of_provider(Operation.UPDATED, old, provider))
            return provider

        return await self._write(work, "pam", "profile")

    async def remove(self, number: int) -> None:
        """Delete a provider with its entries. Raises UnknownName, or InUse when the profile uses it."""
        async with self._changing(number) as (change, provider):
            if uses := await _uses(change, number):
                raise InUse(f"Provider {provider.name} is used by {_listed(uses)}.")
            entries = await local.delete_all(change, number)
            await change.run("DELETE FROM pam_provider WHERE id = $1", number)
            await stored.erase(change, sealing.stored_ids(provider))
            gone = deeds.of_provider(Operation.DELETED, provider, None, entries=entries)
            await self._journal.write(change, gone)

    # --- Entries of a local provider -------------------------------------------------------------------------

    async def entries(self, number: int) -> list[Entry]:
        """Raises UnknownName, or BadInput when the provider is not a local one."""
        rules.require_local(await self.provider(number))
        return await local.entries(self._store, number)

    async def entry(self, number: int, name: str) -> Entry:
        """One of them. Raises UnknownName or BadInput."""
        rules.require_local(await self.provider(number))
        found = await local.entry(self._store, number, name)
        if found is None:
            raise _no_entry(number)
        return found

    async def add_entry(self, number: int, draft: EntryDraft) -> Entry:
        """Raises UnknownName, BadInput, NameTaken, or InUse when there are as many as there may be."""
        local.check(draft, new=True)

        async def work(change: Change, entry: Entry) -> None:
            if await local.count(change) >= _MOST_ENTRIES:
                raise InUse(f"There are {_MOST_ENTRIES} entries already.", remedy="Delete those not needed.")
            if not await local.insert(change, self._keyring, number, draft):
                raise NameTaken(
                    f"The provider has an entry {draft.name} already.",
                    remedy="Change that one, or choose another name.",
                )
            await self._journal.write(change, deeds.of_entry(Operation.CREATED, entry, secret=True))

        return await self._change_entry(number, draft, work)

    async def replace_entry(self, number: int, draft: EntryDraft) -> Entry:
        """Raises UnknownName or BadInput."""
        local.check(draft, new=False)

        async def work(change: Change, entry: Entry) -> None:
            before = await local.entry(change, number, entry.name)
            if before is None or not await local.update(change, self._keyring, number, draft):
                raise _no_entry(number)
            changed = deeds.of_entry(Operation.UPDATED, entry, before, secret=draft.secret is not None)
            await self._journal.write(change, changed)

        return await self._change_entry(number, draft, work)

    async def remove_entry(self, number: int, name: str) -> None:
        """Raises UnknownName, BadInput, or InUse when the profile uses it."""
        async with self._changing(number) as (change, provider):
            rules.require_local(provider)
            uses = await _uses(change, number, name)
            if not await local.delete(change, number, name):
                raise _no_entry(number)
            if uses:
                raise InUse(f"The entry is used by {_listed(uses)}.")
            await self._journal.write(change, deeds.of_entry(Operation.DELETED, Entry(number, name, None)))

    async def _change_entry(
        self, number: int, draft: EntryDraft, work: Callable[[Change, Entry], Awaitable[None]]
    ) -> Entry:
        rules.require_local(await self.provider(number))

        async def checked(change: Change) -> Entry:
            if not await change.rows("SELECT 1 FROM pam_provider WHERE id = $1", number):
                raise _unknown(number)
            assert draft.name is not None  # noqa: S101 - checked
            entry = Entry(number, draft.name, draft.description)
            await work(change, entry)
            return entry

        return await self._write(checked)

    # --- Trying ----------------------------------------------------------------------------------------------

    async def record_trial(self, provider: Provider, verdict: str) -> None:
        """Record that somebody has tried whether it gives a secret, and how that came out."""
        async with self._store.change() as change:
            await self._journal.write(change, deeds.of_trial(provider, verdict))

    # --- Changing --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self, number: int) -> AsyncIterator[tuple[Change, Provider]]:
        """A change that takes something away, while nobody changes the profile."""
        await self.catalogue()
        async with self._store.change("pam", "profile") as change:
            provider = (await kept.read(change, self._backends())).providers.get(number)
            if provider is None:
                raise _unknown(number)
            yield change, provider

    async def _write(self, work: Callable[[Change], Awaitable[Result]], *topics: Topic) -> Result:
        """A change that stores secrets; once more when the data key is rotated away meanwhile."""
        await self._keyring.refresh(self._store)
        for _ in range(_TRIES):
            try:
                async with self._store.change(*(topics or ("pam",))) as change:
                    result = await work(change)
            except Conflict:
                await self._keyring.reload(self._store)
            else:
                return result
        raise StoreUnavailable("It could not be stored because its keys are being rotated; try again.")

    async def open_values(self, provider: Provider) -> dict[str, SecretText | str]:
        """The provider-level values, those that are secret opened. Raises VaultFailed or KeyUnknown."""
        try:
            return await sealing.open_values(self._store, self._keyring, provider)
        except SecretGone:  # another node has replaced it, and this one has not heard of that yet
            newer = await kept.read_again(self._store, provider)
        if newer is None or newer.remote:
            raise VaultFailed("bad_parameter", f"PAM provider {provider.id} does not exist or cannot be asked")
        try:
            return await sealing.open_values(self._store, self._keyring, newer)
        except SecretGone:
            raise VaultFailed("unreachable", "a secret of the provider is erased; give the provider anew") from None


def _made(number: int, draft: ProviderDraft, kind: ProviderType) -> Provider:
    assert draft.name is not None  # noqa: S101 - checked
    area = DEFAULT_AREA if draft.area is None else draft.area
    return Provider(number, draft.name, kind, {}, draft.remote, area, draft.secured_area_id)


def _with_areas(draft: ProviderDraft, old: Provider) -> ProviderDraft:
    """Version 2 of the API says nothing of areas, as it says nothing of types: they stay."""
    if draft.type_id is not None:
        return draft
    area = old.area if draft.area is None else draft.area
    secured = old.secured_area_id if draft.secured_area_id is None else draft.secured_area_id
    return replace(draft, area=area, secured_area_id=secured)


def _require_free(found: Catalogue, name: str | None, number: int | None) -> None:
    taken = found.provider_named(name or "")
    if taken is not None and taken.id != number:
        raise NameTaken(f"There is a provider {taken.name} already: number {taken.id}.")


async def _uses(change: Change, number: int, entry: str | None = None) -> list[str]:
    """What the profile uses of a provider, or of one of its entries, in words."""
    profile = await newest_profile(change)
    if profile is None:
        return []
    return [
        f"the {field.replace('_', ' ')} of the SMTP profile"
        for field, source in profile.secrets()
        if isinstance(source, FromPam)
        and source.provider == number
        and (entry is None or source.parameters.get("SecretName") == entry)
    ]


def _unknown(number: int) -> UnknownName:
    return UnknownName(f"There is no PAM provider {number}.", remedy="GET /PamProviders lists them.")


def _no_entry(number: int) -> UnknownName:
    return UnknownName(
        "The provider has no entry of that name.", remedy=f"GET /PamProviders/Local/{number}/Entries lists them."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")  # noqa: PLR2004
