"""Claims: those there are, a new one, and which roles each of them gives."""

from __future__ import annotations

from collections.abc import Iterable

from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.access.role_changes import giving, giving_no_more
from keyrelay.access.role_claims import TYPE_NAMES, RoleClaim
from keyrelay.access.role_rules import ClaimDraft, checked_claim, checked_description
from keyrelay.access.roles import Role
from keyrelay.api.answers import Answer
from keyrelay.errors import KeyrelayError, NameTaken
from keyrelay.portal.access.listing import found, numbered
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.page import Asked, Right

_DONE = {
    "added": "The claim is added. Say now which roles it gives.",
    "described": "The description is changed.",
    "given": "The claim gives the role.",
    "taken": "The claim does not give the role any more.",
    "removed": "The claim is removed.",
}
_NAMES = {"claim_type": "Type", "claim_value": "Value", "scheme": "Said by"}


async def _list(asked: Asked) -> Answer:
    roles = await asked.services.access.roles()
    every = await asked.services.access.claims()
    claims = found(asked, every, lambda each: f"{each.text} {each.description}")
    return await asked.show(
        "access_claims.html",
        claims=claims,
        given=_given(every, roles),
        types=TYPE_NAMES,
        done=done(asked, _DONE),
    )


def _given(claims: Iterable[RoleClaim], roles: Iterable[Role]) -> dict[int, list[str]]:
    """By the number of each claim, the names of the roles that it gives."""
    given: dict[int, list[str]] = {claim.id: [] for claim in claims}
    for role in roles:
        for claim in role.claims:
            given.setdefault(claim.id, []).append(role.name)
    return given


async def _new(asked: Asked) -> Answer:
    return await _form(asked)


async def _add(asked: Asked) -> Answer:
    form = asked.form
    value = form.text("claim_value")
    kind = int(form.text("claim_type")) if form.text("claim_type") in {str(int(each)) for each in TYPE_NAMES} else None
    try:
        draft = ClaimDraft(kind, value, form.text("scheme"), form.text("description") or value)
        claim = await asked.services.access.add_claim(checked_claim(draft))
    except KeyrelayError as error:
        return await _form(asked, error)
    return asked.see(f"access/claims/{claim.id}", done="added")


async def _form(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, {NameTaken: "claim_value"}, _NAMES)
    return await asked.show(
        "access_claim_new.html",
        status=status,
        problem=problem,
        types=TYPE_NAMES,
        schemes=(await asked.services.access.schemes()).values(),
        typed={name: asked.form.text(name) for name in ("claim_type", "claim_value", "scheme", "description")},
    )


async def _get(asked: Asked) -> Answer:
    return await _page(asked, await _claim(asked))


async def _page(asked: Asked, claim: RoleClaim, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, None, _NAMES)
    roles = await asked.services.access.roles()
    given = [role for role in roles if any(each.id == claim.id for each in role.claims)]
    held = {role.id for role in given}
    typed = asked.form.text("description") if asked.form.has("description") else claim.description
    return await asked.show(
        "access_claim.html",
        status=status,
        problem=problem,
        claim=claim,
        kind=TYPE_NAMES[claim.claim.type],
        description=typed,
        given=given,
        others=[role for role in roles if role.id not in held],
        done=done(asked, _DONE),
    )


async def _claim(asked: Asked) -> RoleClaim:
    """Raises UnknownName."""
    return await asked.services.access.claim(numbered(asked.request.path_params["id"]))


async def _describe(asked: Asked) -> Answer:
    claim = await _claim(asked)
    try:
        await asked.services.access.describe_claim(claim.id, checked_description(asked.form.text("description")))
    except KeyrelayError as error:
        return await _page(asked, claim, error)
    return asked.see(f"access/claims/{claim.id}", done="described")


async def _give(asked: Asked) -> Answer:
    claim = await _claim(asked)
    access = asked.services.access
    try:
        await access.rework_role(asked.form.raw("role"), lambda role: giving(role, claim), asked.identity)
    except KeyrelayError as error:
        return await _page(asked, claim, error)
    return asked.see(f"access/claims/{claim.id}", done="given")


async def _take(asked: Asked) -> Answer:
    claim = await _claim(asked)
    access, remedy = asked.services.access, "The list below shows what it gives."
    try:
        await access.rework_role(
            asked.form.raw("role"), lambda role: giving_no_more(role, claim, remedy), asked.identity
        )
    except KeyrelayError as error:
        return await _page(asked, claim, error)
    return asked.see(f"access/claims/{claim.id}", done="taken")


async def _remove(asked: Asked) -> Answer:
    claim = await _claim(asked)
    try:
        await asked.services.access.remove_claim(claim.id)
    except KeyrelayError as error:
        return await _page(asked, claim, error)
    return asked.see("access/claims", done="removed")


PAGES = {
    "/access/claims": {"GET": Right(_list, READ_SECURITY)},
    "/access/claims/add": {"GET": Right(_new, MODIFY_SECURITY), "POST": Right(_add, MODIFY_SECURITY)},
    "/access/claims/{id}": {"GET": Right(_get, READ_SECURITY), "POST": Right(_describe, MODIFY_SECURITY)},
    "/access/claims/{id}/give": {"POST": Right(_give, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/claims/{id}/take": {"POST": Right(_take, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/claims/{id}/remove": {"POST": Right(_remove, MODIFY_SECURITY, shows=READ_SECURITY)},
}
