"""Local users: those there are, and a new one."""

from __future__ import annotations

from keyrelay.access import accounts
from keyrelay.access.passwords import make_password
from keyrelay.access.permissions import MODIFY_SECURITY, READ_SECURITY
from keyrelay.api.answers import Answer
from keyrelay.errors import KeyrelayError, NameTaken, PermissionMissing, UnknownName, Unsuitable
from keyrelay.portal.access.listing import found
from keyrelay.portal.access.outcome import Blamed, done, refused
from keyrelay.portal.page import Asked, Right
from keyrelay.secrets.model import SecretText

_DONE = {"removed": "The user is removed.", "added": "The user is added."}
_BLAMED: Blamed = {NameTaken: "name", Unsuitable: "password", UnknownName: "role", PermissionMissing: "role"}


async def _list(asked: Asked) -> Answer:
    users = found(asked, await asked.services.access.accounts(), lambda user: " ".join((user.name, *user.roles)))
    return await asked.show("access_users.html", users=users, done=done(asked, _DONE))


async def _new(asked: Asked) -> Answer:
    return await _form(asked)


async def _form(asked: Asked, error: KeyrelayError | None = None, at: str | None = None) -> Answer:
    blamed: Blamed = _BLAMED if at is None else {Unsuitable: at}
    status, problem = (200, None) if error is None else refused(asked, error, blamed)
    return await asked.show(
        "access_user_new.html",
        status=status,
        problem=problem,
        name=asked.form.text("name"),
        chosen=set(asked.form.all("role")),
        roles=await asked.services.access.roles(),
    )


async def _add(asked: Asked) -> Answer:
    """A password that nobody has typed is shown here, and never again."""
    form = asked.form
    name, typed = form.text("name"), form.raw("password")
    try:
        accounts.account_name(name)
    except KeyrelayError as error:
        return await _form(asked, error, "name")
    password = SecretText(typed or make_password())
    try:
        await asked.services.access.add_user(name, password, form.all("role"), asked.identity)
    except KeyrelayError as error:
        return await _form(asked, error)
    if typed:
        return asked.see("access/user", name=name.casefold(), done="added")
    return await asked.show("access_made.html", title="User added", name=name.casefold(), made=password.reveal())


PAGES = {
    "/access/users": {"GET": Right(_list, READ_SECURITY)},
    "/access/users/add": {
        "GET": Right(_new, MODIFY_SECURITY, shows=READ_SECURITY),
        "POST": Right(_add, MODIFY_SECURITY),
    },
}
