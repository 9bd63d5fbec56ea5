"""The history of the profile: who changed what, and going back to how it was."""

from __future__ import annotations

from keyrelay.access.permissions import MODIFY_SETTINGS, READ_SETTINGS
from keyrelay.api import drafts
from keyrelay.api.answers import Answer
from keyrelay.api.operations import number_in_path
from keyrelay.api.problems import shown
from keyrelay.errors import BadInput, KeyrelayError, ProfileChanged, SecretGone, UnknownName
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.profile_changes import differences
from keyrelay.portal.rendering import problem_of
from keyrelay.portal.smtp_form import NAMES
from keyrelay.profile import document

_PAGE = 50
_DONE = {"restored": "Restored. This is a new revision, so that nothing of the history is lost."}
_LOOK = "Look at what differs now, then restore it, or leave it as it is."


async def _list(asked: Asked) -> Answer:
    until = asked.request.query_params.get("until", "")
    number = int(until) if until.isascii() and until.isdigit() and len(until) < 10 else None  # noqa: PLR2004 - int32
    keeper = asked.services.keeper
    entries = await (keeper.history(limit=_PAGE) if number is None else keeper.history(limit=_PAGE, until=number))
    last = entries[-1].revision if entries else 1
    return await asked.show(
        "history.html",
        entries=[(entry, differences(entry.changes)) for entry in entries],
        newer=number is not None,
        older=last - 1 if last > 1 else None,
        done=_DONE.get(asked.request.query_params.get("done", "")),
    )


async def _show(asked: Asked) -> Answer:
    return await _revision(asked)


async def _restore(asked: Asked) -> Answer:
    tag = asked.form.text("tag")
    try:
        await drafts.restore(asked, _number(asked), lambda current: current.tag == tag)
    except ProfileChanged as changed:
        return await _revision(asked, ProfileChanged(changed.message, remedy=_LOOK))
    except (SecretGone, BadInput) as error:
        return await _revision(asked, error)
    return asked.see("history", done="restored")


async def _revision(asked: Asked, error: KeyrelayError | None = None) -> Answer:
    """One revision, beside the one before it and the profile as it is now. Raises UnknownName."""
    number, keeper = _number(asked), asked.services.keeper
    current, then = await keeper.snapshot(), await keeper.at(number)
    (entry,) = await keeper.history(limit=1, until=number)
    return await asked.show(
        "revision.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error, NAMES),
        entry=entry,
        since_before=differences(entry.changes),
        against_now=differences(document.differences(current.profile, then)),
        current=current,
    )


def _number(asked: Asked) -> int:
    number = number_in_path(asked)
    if number is None:
        raise UnknownName("There is no such revision of the profile.")
    return number


PAGES = {
    "/history": {"GET": Right(_list, READ_SETTINGS)},
    "/history/{id}": {"GET": Right(_show, READ_SETTINGS), "POST": Right(_restore, MODIFY_SETTINGS)},
}
