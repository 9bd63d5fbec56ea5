"""Verifying the whole audit trail: a page that is sent while it is found out, because that may take minutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from keyrelay.access.permissions import READ_AUDIT
from keyrelay.api.answers import Answer, Events
from keyrelay.api.operations import blamed, caller_gone
from keyrelay.api.problems import is_our_fault, shown
from keyrelay.audit import reading
from keyrelay.audit.verifying import Mark, Verified, verify
from keyrelay.errors import BadInput, KeyrelayError, Violation
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.rendering import problem_of

_HERE = b"<!-- what comes of it -->"
_SECONDS = 1.0  # between two signs of life
_LONGEST_SECONDS = 900.0


@dataclass(slots=True)
class _Progress:
    """How far it has come; ``all`` 0 while it waits for its turn."""

    done: int = 0
    all: int = 0

    def note(self, done: int, of_all: int) -> None:
        self.done, self.all = done, max(done, of_all)


async def _begin(asked: Asked) -> Answer:
    return await asked.show("audit_verify.html", running=False, since="")


async def _go(asked: Asked) -> Answer:
    given = asked.form.text("since")
    mark = Mark.read(given) if given else None
    if given and mark is None:
        told = "{field} is not an end as this page tells it: a number, a colon and 64 letters."
        error = BadInput((Violation("since", "no_mark", told),))
        problem = problem_of(error, {"since": "The end noted earlier"})
        values = {"running": False, "since": given, "problem": problem}
        return await asked.show("audit_verify.html", status=shown(error).status, **values)
    page = await asked.show("audit_verify.html", running=True, since=given)
    begin, _, end = page.body.partition(_HERE)
    return Events(200, headers=page.headers, events=_pieces(asked, mark, begin, end))


async def _pieces(asked: Asked, mark: Mark | None, begin: bytes, end: bytes) -> AsyncIterator[bytes]:
    """The page: its beginning, how far it has come from time to time, the result, and its end."""
    progress = _Progress()
    gone = asyncio.create_task(caller_gone(asked.request), name="keyrelay-caller-gone")
    work = asyncio.create_task(_verified(asked, mark, progress), name="keyrelay-verifying")
    try:
        yield begin
        while not work.done():
            await asyncio.wait({work, gone}, timeout=_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            if not work.done():
                yield await _piece(asked, progress=progress)
        yield await _result(asked, work)
        yield end
    finally:
        for task in (gone, work):
            task.cancel()
        await asyncio.gather(gone, work, return_exceptions=True)


async def _verified(asked: Asked, mark: Mark | None, progress: _Progress) -> Verified | None:
    """None: it would take too long for a page."""
    services = asked.services
    signer = await services.journal.signer(services.store)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS), services.verifying:
            return await verify(services.store, signer, mark, progress.note)
    except TimeoutError:
        return None


async def _result(asked: Asked, work: asyncio.Task[Verified | None]) -> bytes:
    try:
        found = work.result()
    except KeyrelayError as error:
        return await _piece(asked, problem=problem_of(blamed(error) if is_our_fault(error) else error))
    except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
        return await _piece(asked, problem=problem_of(blamed(error)))
    # Where it breaks, there may be an entry to look at.
    suspect = None if found is None or found.broken is None else found.end.id + 1
    if suspect is not None and await reading.one(asked.services.store, suspect) is None:
        suspect = None
    return await _piece(asked, found=found, suspect=suspect, ended=True)


async def _piece(asked: Asked, **values: Any) -> bytes:
    given: dict[str, Any] = {
        "progress": None,
        "found": None,
        "suspect": None,
        "ended": False,
        "problem": None,
        **values,
    }
    return (await asked.show("audit_result.html", **given)).body


PAGES = {"/audit/verify": {"GET": Right(_begin, READ_AUDIT), "POST": Right(_go, READ_AUDIT)}}
