"""The entries of a local provider. Their values go in, and never come out."""

from __future__ import annotations

from typing import Any

from keyrelay.access.permissions import MODIFY_PAM, READ_PAM
from keyrelay.api.answers import Answer
from keyrelay.api.problems import shown
from keyrelay.errors import BadInput, InUse, KeyrelayError, NameTaken, UnknownName
from keyrelay.pam.local import EntryDraft
from keyrelay.pam.model import Entry, Provider
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.pam import found_provider
from keyrelay.portal.rendering import problem_of
from keyrelay.portal.slices import sliced
from keyrelay.secrets.model import SecretText

_READ_ONE, _MODIFY_ONE = READ_PAM + "{id}/", MODIFY_PAM + "{id}/"
_NAMES = {"secret_name": "Name", "description": "Description", "secret_value": "Value", "provider_id": "The provider"}
_TOLD = (BadInput, InUse, NameTaken)
_DONE = {
    "added": "The entry was added.",
    "changed": "The entry was changed.",
    "removed": "The entry was removed, and its value erased.",
}


async def _list(asked: Asked) -> Answer:
    return await _page(asked, await found_provider(asked))


async def _page(asked: Asked, provider: Provider, error: KeyrelayError | None = None) -> Answer:
    query = asked.request.query_params
    wanted = query.get("find", "").strip()
    entries = await asked.services.providers.entries(provider.id)
    return await asked.show(
        "pam_entries.html",
        **_told(asked, error),
        provider=provider,
        found=sliced([entry for entry in entries if _meets(entry, wanted)], query.get("page", "")),
        find=wanted,
        name=asked.form.text("secret_name"),
        description=asked.form.text("description"),
        may_modify=asked.identity.may(f"{MODIFY_PAM}{provider.id}/"),
    )


def _meets(entry: Entry, wanted: str) -> bool:
    folded = wanted.casefold()
    return folded in entry.name.casefold() or folded in (entry.description or "").casefold()


async def _add(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    draft = EntryDraft(
        name=asked.form.text("secret_name"),
        description=asked.form.text("description") or None,
        secret=SecretText(asked.form.raw("secret_value")),
    )
    try:
        await asked.services.providers.add_entry(provider.id, draft)
    except _TOLD as error:
        return await _page(asked, provider, error)
    return asked.see(f"pam/{provider.id}/entries", done="added")


async def _show(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    return await _one(asked, provider, await _entry(asked, provider, asked.request.query_params.get("name", "")))


async def _entry(asked: Asked, provider: Provider, name: str) -> Entry:
    try:
        return await asked.services.providers.entry(provider.id, name)
    except UnknownName as error:
        raise UnknownName(error.message, remedy="The list of its entries shows what there is.") from None


async def _one(asked: Asked, provider: Provider, entry: Entry, error: KeyrelayError | None = None) -> Answer:
    typed = asked.form.text("description") if asked.form.has("description") else entry.description or ""
    return await asked.show(
        "pam_entry.html",
        **_told(asked, error),
        provider=provider,
        entry=entry,
        description=typed,
        may_modify=asked.identity.may(f"{MODIFY_PAM}{provider.id}/"),
    )


async def _change(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    entry = await _entry(asked, provider, asked.form.raw("name"))
    given = asked.form.raw("secret_value")
    draft = EntryDraft(
        name=entry.name,
        description=asked.form.text("description") or None,
        secret=SecretText(given) if given else None,
    )
    try:
        await asked.services.providers.replace_entry(provider.id, draft)
    except _TOLD as error:
        return await _one(asked, provider, entry, error)
    return asked.see(f"pam/{provider.id}/entries", done="changed")


async def _remove(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    entry = await _entry(asked, provider, asked.form.raw("name"))
    try:
        await asked.services.providers.remove_entry(provider.id, entry.name)
    except InUse as error:
        return await _one(asked, provider, entry, error)
    return asked.see(f"pam/{provider.id}/entries", done="removed")


def _told(asked: Asked, error: KeyrelayError | None) -> dict[str, Any]:
    if error is None:
        return {"status": 200, "done": _DONE.get(asked.request.query_params.get("done", ""))}
    return {"status": shown(error).status, "problem": problem_of(error, _NAMES)}


PAGES = {
    "/pam/{id}/entries": {"GET": Right(_list, _READ_ONE), "POST": Right(_add, _MODIFY_ONE)},
    "/pam/{id}/entry": {"GET": Right(_show, _READ_ONE), "POST": Right(_change, _MODIFY_ONE)},
    "/pam/{id}/entry/remove": {"POST": Right(_remove, _MODIFY_ONE, shows=_READ_ONE)},
}
