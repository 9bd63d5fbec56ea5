"""PAM providers: what there is, adding, changing and removing one, and trying whether it gives a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from keyrelay.access.permissions import MODIFY_PAM, READ_PAM
from keyrelay.api.answers import Answer
from keyrelay.api.operations import lacking
from keyrelay.api.pam import provider_number, references
from keyrelay.api.pam_try import tried
from keyrelay.api.problems import shown
from keyrelay.errors import BadInput, InUse, KeyrelayError, NameTaken, TooManyTests, UnknownName, Violation
from keyrelay.pam.model import LOCAL_TYPE, Provider, ProviderType
from keyrelay.pam.trying import Trial
from keyrelay.portal import pam_fields, pam_meanings
from keyrelay.portal.forms import Form
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.pam_fields import NAMES
from keyrelay.portal.rendering import problem_of
from keyrelay.portal.slices import sliced
from keyrelay.secrets.model import FromPam

_READ_ONE, _MODIFY_ONE = READ_PAM + "{id}/", MODIFY_PAM + "{id}/"
_TOLD = (BadInput, InUse, NameTaken)
_DONE = {
    "added": "The provider was added.",
    "changed": "The provider was changed.",
    "removed": "The provider was removed.",
}


# --- What there is -------------------------------------------------------------------------------------------


async def _list(asked: Asked) -> Answer:
    query = asked.request.query_params
    catalogue = await asked.services.providers.catalogue()
    wanted = query.get("find", "").strip()
    found = sorted(
        (
            one
            for one in catalogue.providers.values()
            if asked.identity.may(f"{READ_PAM}{one.id}/") and _meets(one, wanted)
        ),
        key=lambda one: one.name.casefold(),
    )
    return await asked.show(
        "pam.html",
        found=sliced(found, query.get("page", "")),
        find=wanted,
        used={source.provider for _, source in await references(asked)},
        may_add=asked.identity.may(MODIFY_PAM),
        done=_DONE.get(query.get("done", "")),
    )


def _meets(provider: Provider, wanted: str) -> bool:
    folded = wanted.casefold()
    return folded in provider.name.casefold() or folded in provider.type.name.casefold()


async def _types(asked: Asked) -> Answer:
    kinds = (await asked.services.providers.catalogue()).shown_types()
    return await asked.show(
        "pam_types.html",
        kinds=[
            (
                kind,
                pam_meanings.of_type(kind.name),
                command,
                pam_fields.provider_fields(kind),
                pam_fields.reference_fields(kind),
            )
            for kind, command in zip(kinds, await _missing(kinds), strict=True)
        ],
        may_add=asked.identity.may(MODIFY_PAM),
    )


async def _missing(kinds: Sequence[ProviderType]) -> list[str | None]:
    return await asyncio.to_thread(lambda: [pam_fields.missing(kind) for kind in kinds])


# --- One of them ---------------------------------------------------------------------------------------------


async def found_provider(asked: Asked) -> Provider:
    """The provider of the path, which a page shows. Raises UnknownName, or PermissionMissing for who may not see it."""
    try:
        provider = await asked.services.providers.provider(provider_number(asked))
    except UnknownName as error:
        raise UnknownName(error.message, remedy="The list of providers shows what there is.") from None
    # Whoever may change it and not see it has the API for that: a page shows what it changes.
    if not asked.identity.may(f"{READ_PAM}{provider.id}/"):
        raise lacking(asked.identity, f"{READ_PAM}{provider.id}/")
    return provider


async def _show(asked: Asked) -> Answer:
    done = _DONE.get(asked.request.query_params.get("done", ""))
    return await _page(asked, await found_provider(asked), done=done)


async def _page(
    asked: Asked, provider: Provider, *, form: Form | None = None, error: KeyrelayError | None = None, **more: Any
) -> Answer:
    """``form``: what was tried."""
    uses = [(field, source) for field, source in await references(asked) if source.provider == provider.id]
    (command,) = await _missing([provider.type])
    values: dict[str, Any] = {"trial": None, **more}
    return await asked.show(
        "pam_provider.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error, NAMES),
        provider=provider,
        meaning=pam_meanings.of_type(provider.type.name),
        fields=pam_fields.provider_fields(provider.type, provider),
        wanted=pam_fields.reference_fields(provider.type, form),
        uses=[(field.replace("_", " "), _named(source)) for field, source in uses],
        local=provider.type.name == LOCAL_TYPE,
        command=command,
        may_modify=asked.identity.may(f"{MODIFY_PAM}{provider.id}/"),
        **values,
    )


def _named(source: FromPam) -> str:
    return ", ".join(f"{name} {value}" for name, value in source.parameters.items() if value)


async def _try(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    try:
        trial: Trial = await tried(asked, provider, pam_fields.reference(asked.form, provider))
    except TooManyTests as error:
        return await _page(asked, provider, form=asked.form, error=error)
    return await _page(asked, provider, form=asked.form, trial=trial)


async def _remove(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    try:
        await asked.services.providers.remove(provider.id)
    except InUse as error:
        return await _page(asked, provider, error=error)
    return asked.see("pam", done="removed")


# --- Adding and changing -------------------------------------------------------------------------------------


async def _begin(asked: Asked) -> Answer:
    kind, query = None, asked.request.query_params
    if wanted := query.get("type", ""):
        kind = await _kind(asked, wanted)
    return await _form(asked, kind, None, done=_DONE.get(query.get("done", "")))


async def _add(asked: Asked) -> Answer:
    kind = await _kind(asked, asked.form.text("type"))
    if kind is None:
        error = BadInput((Violation("provider_type", "missing", "{field}: choose one of those there are."),))
        return await _form(asked, None, None, error=error)
    try:
        provider = await asked.services.providers.add(pam_fields.provider_draft(asked.form, kind, new=True))
    except _TOLD as error:
        return await _form(asked, kind, None, error=error)
    if not asked.identity.may(f"{READ_PAM}{provider.id}/"):  # the right to add is not the right to see
        return asked.see("pam/add", done="added")
    return asked.see(f"pam/{provider.id}", done="added")


async def _kind(asked: Asked, wanted: str) -> ProviderType | None:
    kind = (await asked.services.providers.catalogue()).types.get(wanted)
    return None if kind is None or kind.hidden else kind


async def _begin_change(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    return await _form(asked, provider.type, provider)


async def _change(asked: Asked) -> Answer:
    provider = await found_provider(asked)
    draft = pam_fields.provider_draft(asked.form, provider.type, new=False)
    try:
        await asked.services.providers.replace(provider.id, draft)
    except _TOLD as error:
        return await _form(asked, provider.type, provider, error=error)
    return asked.see(f"pam/{provider.id}", done="changed")


async def _form(
    asked: Asked,
    kind: ProviderType | None,
    provider: Provider | None,
    *,
    error: KeyrelayError | None = None,
    done: str | None = None,
) -> Answer:
    """The form of a provider; that of a new one asks for its type first."""
    typed = asked.form if asked.form.pairs else None
    kinds = [] if provider is not None else (await asked.services.providers.catalogue()).shown_types()
    (command,) = [None] if kind is None else await _missing([kind])
    return await asked.show(
        "pam_form.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error, NAMES),
        done=done,
        kind=kind,
        kinds=kinds,
        provider=provider,
        command=command,
        meaning="" if kind is None else pam_meanings.of_type(kind.name),
        name=typed.text("name") if typed else "" if provider is None else provider.name,
        remote=typed.has("remote") if typed else provider is not None and provider.remote,
        fields=[] if kind is None else pam_fields.provider_fields(kind, provider, typed),
    )


PAGES = {
    "/pam": {"GET": Right(_list, READ_PAM, in_part=True)},
    "/pam/types": {"GET": Right(_types, READ_PAM, in_part=True)},
    "/pam/add": {"GET": Right(_begin, MODIFY_PAM), "POST": Right(_add, MODIFY_PAM)},
    "/pam/{id}": {"GET": Right(_show, _READ_ONE)},
    "/pam/{id}/try": {"POST": Right(_try, _READ_ONE)},
    "/pam/{id}/change": {"GET": Right(_begin_change, _MODIFY_ONE), "POST": Right(_change, _MODIFY_ONE)},
    "/pam/{id}/remove": {"POST": Right(_remove, _MODIFY_ONE, shows=_READ_ONE)},
}
