"""One's own password: whoever knows the current one sets another."""

from __future__ import annotations

from keyrelay.access.passwords import require_suitable
from keyrelay.api.answers import Answer
from keyrelay.api.session_cookie import handed
from keyrelay.errors import (
    BadInput,
    KeyrelayError,
    PermissionMissing,
    SignInRequired,
    TooManyAttempts,
    Unsuitable,
    Violation,
)
from keyrelay.portal.access.outcome import done, refused
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.sign_in import begin_session, proven
from keyrelay.secrets.model import SecretText

_DONE = {"changed": "Your password is changed. Every other session of yours has ended."}
_BLAMED = {SignInRequired: "current", TooManyAttempts: "current", Unsuitable: "password"}
_NAMES = {"again": "New password, again"}


async def _get(asked: Asked) -> Answer:
    _require_local(asked)
    return await _form(asked)


async def _form(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    status, problem = (200, None) if error is None else refused(asked, error, _BLAMED, _NAMES)
    return await asked.show(
        "access_password.html",
        status=status,
        problem=problem,
        done=done(asked, _DONE),
    )


async def _change(asked: Asked) -> Answer:
    _require_local(asked)
    name, password = asked.identity.name, SecretText(asked.form.raw("password"))
    try:
        if asked.form.raw("again") != password.reveal():
            raise BadInput((Violation("again", "bad_value", "{field} is not the same as the new one."),))
        require_suitable(password)
        await _require_current(asked)
        await asked.services.sign_in.allow_own_password(name)
        await asked.services.access.set_password(name, password, asked.identity)
    except KeyrelayError as error:
        return await _form(asked, error)
    await asked.services.sessions.end_all(name)
    token = await begin_session(asked.request, asked.services, name, password.reveal())
    return asked.see("access/password", done="changed").with_headers(handed(token))


async def _require_current(asked: Asked) -> None:
    """Raise SignInRequired when it is not this user's password, or TooManyAttempts."""
    name, current = asked.identity.name, asked.form.raw("current")
    try:
        right = (await proven(asked.request, asked.services, name, current)).name == name
    except SignInRequired:
        right = False
    if not right:
        raise SignInRequired("The current password is not right.", remedy="Give the one that you have signed in with.")


def _require_local(asked: Asked) -> None:
    if not asked.identity.is_local:
        raise PermissionMissing(
            "keyrelay has no password of yours.", remedy="Change it where you sign in: at your identity provider."
        )


PAGES = {"/access/password": {"GET": Right(_get, None, roleless=True), "POST": Right(_change, None, roleless=True)}}
