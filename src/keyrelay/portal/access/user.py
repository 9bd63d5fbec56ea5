"""One local user: its roles, its password, and its end."""

from __future__ import annotations

from keyrelay.access.accounts import Account
from keyrelay.access.passwords import make_password
from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.api.answers import Answer
from keyrelay.errors import BadInput, KeyrelayError, UnknownName, Unsuitable, Violation
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.page import Asked, Right
from keyrelay.secrets.model import SecretText

_DONE = {
    "added": "The user is added.",
    "granted": "The user holds the role.",
    "revoked": "The user does not hold the role any more.",
    "password": "The password is changed. The old one, and every session that began with it, has ended.",
}
_EITHER = "{field} is typed, and keyrelay should make one: either, not both."


async def _get(asked: Asked) -> Answer:
    return await _page(asked, asked.request.query_params.get("name", ""))


async def _page(asked: Asked, name: str, error: KeyrelayError | None = None) -> Answer:
    """Raises UnknownName."""
    status, problem = (200, None) if error is None else refused(asked, error, {Unsuitable: "password"})
    user = await _user(asked, name)
    roles = await asked.services.access.roles()
    return await asked.show(
        "access_user.html",
        status=status,
        problem=problem,
        user=user,
        held=[role for role in roles if user.name in role.holders],
        by_claim=[role for role in roles if role.name in user.roles and user.name not in role.holders],
        others=[role for role in roles if user.name not in role.holders],
        done=done(asked, _DONE),
    )


async def _user(asked: Asked, name: str) -> Account:
    for user in await asked.services.access.accounts():
        if user.name == name.casefold():
            return user
    raise UnknownName(f"There is no user {name}.", remedy="Look at the list of users.")


async def _grant(asked: Asked) -> Answer:
    name = asked.form.text("name")
    try:
        await asked.services.access.grant(asked.form.raw("role"), name, asked.identity)
    except KeyrelayError as error:
        return await _page(asked, name, error)
    return asked.see("access/user", name=name, done="granted")


async def _revoke(asked: Asked) -> Answer:
    name = asked.form.text("name")
    try:
        await asked.services.access.revoke(asked.form.raw("role"), name)
    except KeyrelayError as error:
        return await _page(asked, name, error)
    return asked.see("access/user", name=name, done="revoked")


async def _set_password(asked: Asked) -> Answer:
    """One that nobody has typed is shown here, and never again."""
    name, typed = asked.form.text("name"), asked.form.raw("password")
    password = SecretText(make_password() if asked.form.has("make") else typed)
    try:
        if typed and asked.form.has("make"):
            raise BadInput((Violation("password", "bad_value", _EITHER),))
        await asked.services.access.set_password(name, password, asked.identity)
    except KeyrelayError as error:
        return await _page(asked, name, error)
    if not asked.form.has("make"):
        return asked.see("access/user", name=name, done="password")
    return await asked.show("access_made.html", title="Password changed", name=name, made=password.reveal())


async def _remove(asked: Asked) -> Answer:
    name = asked.form.text("name")
    try:
        await asked.services.access.remove_user(name)
    except KeyrelayError as error:
        return await _page(asked, name, error)
    return asked.see("access/users", done="removed")


PAGES = {
    "/access/user": {"GET": Right(_get, READ_SECURITY)},
    "/access/user/grant": {"POST": Right(_grant, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/user/revoke": {"POST": Right(_revoke, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/user/password": {"POST": Right(_set_password, MODIFY_SECURITY, shows=READ_SECURITY)},
    "/access/user/remove": {"POST": Right(_remove, MODIFY_SECURITY, shows=READ_SECURITY)},
}
