"""API tokens: those there are, a new one that is shown once, and the end of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.api.answers import Answer
from keyrelay.errors import BadInput, KeyrelayError, NameTaken, PermissionMissing, Violation
from keyrelay.health.finding import SOON
from keyrelay.portal.access.listing import found
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.access.permission_fields import PermissionFields
from keyrelay.portal.page import Asked, Right

_DONE = {"revoked": "The token is revoked. It has stopped working."}
_BLAMED = {NameTaken: "name", PermissionMissing: "permissions"}
_NEVER, _ON = "never", "on"
# What a form offers: days from now, a day, or never.
ENDS = {
    "30": "in 30 days",
    "90": "in 90 days",
    "180": "in 180 days",
    "365": "in a year",
    _ON: "on the day below",
    _NEVER: "never",
}
_USUAL = "90"


async def _list(asked: Asked) -> Answer:
    return await _page(asked)


async def _page(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error)
    now = datetime.now(UTC)
    return await asked.show(
        "access_tokens.html",
        status=status,
        problem=problem,
        tokens=found(asked, await _tokens(asked).all(), lambda token: token.name),
        now=now,
        soon=now + SOON,
        done=done(asked, _DONE),
    )


def _tokens(asked: Asked) -> ApiTokens:
    return ApiTokens(asked.services.store, asked.services.journal)


async def _new(asked: Asked) -> Answer:
    return await _form(asked, PermissionFields.of(()))


async def _form(asked: Asked, permissions: PermissionFields, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, _BLAMED)
    return await asked.show(
        "access_token_new.html",
        status=status,
        problem=problem,
        name=asked.form.text("name"),
        permissions=permissions,
        ends=ENDS,
        chosen=asked.form.text("ends") or _USUAL,
        day=asked.form.text("day"),
    )


async def _add(asked: Asked) -> Answer:
    """The answer has the token, and nothing else ever has."""
    permissions = PermissionFields.sent(asked.form)
    try:
        end = _end(asked.form.text("ends"), asked.form.text("day"))
        token, text = await _tokens(asked).create(asked.form.text("name"), permissions.strings, end, asked.identity)
    except KeyrelayError as error:
        return await _form(asked, permissions, error)
    return await asked.show("access_token_made.html", token=token, made=text.reveal())


def _end(ends: str, day: str) -> datetime | None:
    """When the token ends: at the beginning of a day, in UTC. Raises BadInput."""
    if ends == _NEVER:
        return None
    if ends in ENDS and ends != _ON:
        return datetime.now(UTC) + timedelta(days=int(ends))
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        told = "{field} is needed, such as 2027-03-01."
        raise BadInput((Violation("day", "bad_value", told),)) from None


async def _revoke(asked: Asked) -> Answer:
    try:
        await _tokens(asked).revoke(asked.form.text("name"))
    except KeyrelayError as error:
        return await _page(asked, error)
    return asked.see("access/tokens", done="revoked")


PAGES = {
    "/access/tokens": {"GET": Right(_list, READ_SECURITY)},
    "/access/tokens/add": {"GET": Right(_new, MODIFY_SECURITY), "POST": Right(_add, MODIFY_SECURITY)},
    "/access/tokens/revoke": {"POST": Right(_revoke, MODIFY_SECURITY, shows=READ_SECURITY)},
}
