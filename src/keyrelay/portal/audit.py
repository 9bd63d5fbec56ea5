"""The audit trail: search it, look at one entry, and take it along as a sheet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from keyrelay.access.permissions import READ_AUDIT
from keyrelay.api import audit as trail
from keyrelay.api.answers import Answer, Events, Header
from keyrelay.api.operations import number_in_path
from keyrelay.api.problems import shown
from keyrelay.audit import reading, verifying
from keyrelay.audit.model import Entry
from keyrelay.audit.reading import Search
from keyrelay.errors import BadInput, UnknownName
from keyrelay.portal import audit_words as words
from keyrelay.portal.audit_search import NAMES, Wanted, all_of, number
from keyrelay.portal.page import Asked, Right
from keyrelay.portal.rendering import problem_of
from keyrelay.query_language import AllOf, AnyOf, Comparison, Condition, Operator

_EACH = 50
_SHEET: tuple[Header, ...] = (
    (b"content-type", b"text/csv; charset=utf-8; header=present"),
    (b"content-disposition", b'attachment; filename="keyrelay-audit.csv"'),
)


@dataclass(frozen=True, slots=True)
class _Found:
    """A page of entries, newest first. ``older``, ``newer``: from where the pages beside it go on; 0 for none."""

    entries: list[Entry]
    older: int = 0
    newer: int = 0


# --- Searching -----------------------------------------------------------------------------------------------


async def _list(asked: Asked) -> Answer:
    wanted = Wanted.of(asked.request.query_params)
    try:
        return await _page(asked, wanted, found=await _found(asked, wanted))
    except BadInput as error:
        return await _page(asked, wanted, error)


async def _page(asked: Asked, wanted: Wanted, error: BadInput | None = None, found: _Found | None = None) -> Answer:
    found = found or _Found([])
    return await asked.show(
        "audit.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error, NAMES),
        wanted=wanted,
        query=wanted.query(),
        entries=[words.told(entry) for entry in found.entries],
        older=found.older,
        newer=found.newer,
        categories=words.CATEGORIES.items(),
        operations=words.OPERATIONS.items(),
    )


async def _found(asked: Asked, wanted: Wanted) -> _Found:
    """The newest entries, or those that stand before or after the one named in the query. Nothing is ever counted.

    What is searched for by time is in the order of time, which has an index.
    """
    query, store, condition = asked.request.query_params, asked.services.store, wanted.condition()
    order = "Timestamp" if wanted.since or wanted.until else "Id"
    before, after = number(query.get("before", "")), number(query.get("after", ""))
    if after is not None:
        beyond = await _beyond(asked, order, after, newer=True)
        entries = await reading.find(store, Search(all_of(condition, beyond), order, limit=_EACH + 1))
        more, entries = len(entries) > _EACH, entries[:_EACH][::-1]
        if entries:
            return _Found(entries, older=entries[-1].id, newer=entries[0].id if more else 0)
        before = None
    ahead = None if before is None else await _beyond(asked, order, before, newer=False)
    entries = await reading.find(store, Search(all_of(condition, ahead), order, descending=True, limit=_EACH + 1))
    more, entries = len(entries) > _EACH, entries[:_EACH]
    newer = entries[0].id if entries and before is not None else 0
    return _Found(entries, older=entries[-1].id if more else 0, newer=newer)


async def _beyond(asked: Asked, order: str, mark: int, *, newer: bool) -> Condition:
    """What stands on one side of an entry, in an order."""
    past, past_or_same = (
        (Operator.GREATER, Operator.GREATER_OR_EQUAL) if newer else (Operator.LESS, Operator.LESS_OR_EQUAL)
    )
    by_number = Comparison("Id", past, mark)
    entry = await reading.one(asked.services.store, mark) if order == "Timestamp" else None
    at = None if entry is None else words.told(entry).at
    if at is None:
        return by_number
    later = AnyOf((Comparison("Timestamp", past, at), by_number))
    return AllOf((Comparison("Timestamp", past_or_same, at), later))


async def _download(asked: Asked) -> Answer:
    wanted = Wanted.of(asked.request.query_params)
    try:
        entries = await trail.download(asked.services, Search(wanted.condition()))
    except BadInput as error:
        return await _page(asked, wanted, error)
    return Events(200, headers=_SHEET, events=_encoded(trail.sheet(entries)))


async def _encoded(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.encode()


# --- One of them ---------------------------------------------------------------------------------------------


async def _show(asked: Asked) -> Answer:
    return await _one(asked, await _entry(asked))


async def _entry(asked: Asked) -> Entry:
    wanted = number_in_path(asked)
    entry = None if wanted is None else await reading.one(asked.services.store, wanted)
    if entry is None:
        told = "Look whether it was forgotten, being old, and verify the whole trail if it was not."
        raise UnknownName("There is no such audit entry.", remedy=told)
    return entry


async def _one(asked: Asked, entry: Entry, *, holds: bool | None = None) -> Answer:
    return await asked.show("audit_entry.html", entry=words.told(entry), holds=holds)


async def _verify(asked: Asked) -> Answer:
    entry, store = await _entry(asked), asked.services.store
    signer = await asked.services.journal.signer(store)
    return await _one(asked, entry, holds=await verifying.holds(store, signer, entry.id))


async def _related(asked: Asked) -> Answer:
    """What else was done to the thing that an entry is about."""
    entry = await _entry(asked)
    page = max(number(asked.request.query_params.get("page", "")) or 1, 1)
    same = Comparison("Id", Operator.EQUAL, entry.id)
    found = await reading.related(asked.services.store, Search(same, descending=True, page=page, limit=_EACH))
    return await asked.show(
        "audit_related.html",
        entry=words.told(entry),
        entries=[words.told(each) for each in found],
        newer=page - 1,
        older=page + 1 if len(found) == _EACH else 0,
    )


PAGES = {
    "/audit": {"GET": Right(_list, READ_AUDIT)},
    "/audit/download": {"GET": Right(_download, READ_AUDIT)},
    "/audit/{id}": {"GET": Right(_show, READ_AUDIT)},
    "/audit/{id}/verify": {"POST": Right(_verify, READ_AUDIT)},
    "/audit/{id}/related": {"GET": Right(_related, READ_AUDIT)},
}
