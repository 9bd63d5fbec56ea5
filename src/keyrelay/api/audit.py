"""``/Audit`` of the compatible API (contract 7.3): the trail, read and verified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec

from keyrelay.access.permissions import READ_AUDIT
from keyrelay.api import lists
from keyrelay.api.answers import JSON, Answer, Events
from keyrelay.api.lists import NAMES, Listing, ListQuery
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.api.wire_audit import entry_answer
from keyrelay.audit import model, reading, telling, verifying
from keyrelay.audit.model import Category, Deed, Entry, Kind
from keyrelay.audit.reading import Search
from keyrelay.errors import BadInput, UnknownName, Violation

MOST_DOWNLOADED = 100_000  # entries: with what is in them, some hundred megabytes
_ENTRIES = Listing(reading.FIELDS, reading.SORTABLE, "Id")
_RELATED = Listing(reading.FIELDS, reading.SORTABLE, "Timestamp")
_INT32_DIGITS = 10
_AT_ONCE = 100  # entries, in one piece of a download, or written without a thread


def resources(base_path: str, style: Style, services: Services) -> list[Resource]:
    base = f"{base_path}/Audit"
    paths = {
        base: _list,
        f"{base}/RelatedEntities": _related,
        f"{base}/Download": _download,
        f"{base}/{{id}}": _get,
        f"{base}/{{id}}/Validate": _validate,
    }
    return [
        Resource(path, {"GET": Operation({1: handler}, READ_AUDIT)}, style, services, _published_name)
        for path, handler in paths.items()
    ]


def _published_name(field: str) -> str:
    return NAMES.get(field, field)


async def _list(call: Call) -> Answer:
    query = lists.read(call.request.query_params, _ENTRIES)
    return await _entries(await reading.find(call.services.store, _search(query)))


async def _related(call: Call) -> Answer:
    query = lists.read(call.request.query_params, _RELATED)
    return await _entries(await reading.related(call.services.store, _search(query)))


async def _get(call: Call) -> Answer:
    entry = await reading.one(call.services.store, _number(call))
    if entry is None:
        raise _unknown()
    return _json(entry_answer(entry))


async def _validate(call: Call) -> Answer:
    store = call.services.store
    signer = await call.services.journal.signer(store)
    return _json(await verifying.holds(store, signer, _number(call)))


async def _download(call: Call) -> Answer:
    """All entries that were searched for, as a JSON string that is made while it is sent."""
    query = lists.read(call.request.query_params, _ENTRIES)
    entries = await download(call.services, Search(query.condition, query.sort_field, query.descending))
    return Events(200, headers=(JSON,), events=_string(entries))


async def download(services: Services, search: Search) -> AsyncIterator[Entry]:
    """All entries that are searched for, after it is recorded that they are; ``search`` has no pages here.

    Raises BadInput about ``query_string`` when there are more than may be downloaded.
    """
    store = services.store
    search = replace(search, page=1, limit=MOST_DOWNLOADED + 1)  # one more than there may be
    found = await reading.numbers(store, search)
    if len(found) > MOST_DOWNLOADED:
        told = f"finds more than {MOST_DOWNLOADED} entries; search for a shorter time, or use keyrelay audit export"
        raise BadInput((Violation("query_string", "too_many", f"{{field}} {told}."),))
    async with store.change() as change:
        await services.journal.write(change, downloaded(len(found)))
    return reading.by_number(store, found)


def downloaded(entries: int | None) -> Deed:
    """What the trail tells of its being downloaded."""
    details = {} if entries is None else {"entries": entries}
    return Deed(Category.AUDIT, model.Operation.DOWNLOADED, Kind.AUDIT, "audit trail", "1", details=details)


async def _string(entries: AsyncIterator[Entry]) -> AsyncIterator[bytes]:
    """The pieces of a JSON string that holds the sheet."""
    yield b'"'
    async for text in sheet(entries):
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield b'"'


async def sheet(entries: AsyncIterator[Entry]) -> AsyncIterator[str]:
    """The pieces of the sheet."""
    yield telling.heading()
    some: list[Entry] = []
    async for entry in entries:
        some.append(entry)
        if len(some) == _AT_ONCE:
            yield telling.sheet(some)
            some = []
    yield telling.sheet(some)


def _search(query: ListQuery) -> Search:
    return Search(query.condition, query.sort_field, query.descending, query.page, query.limit)


def _number(call: Call) -> int:
    """The number that the path names. Raises UnknownName for what is none of the numbers there can be."""
    text = str(call.request.path_params["id"])
    digits = text.lstrip("0") or text[:1]
    if not text.isascii() or not text.isdigit() or len(digits) > _INT32_DIGITS:
        raise _unknown()
    return int(digits)


def _unknown() -> UnknownName:
    return UnknownName("There is no such audit entry.", remedy="GET /Audit lists them.")


async def _entries(entries: Sequence[Entry]) -> Answer:
    if len(entries) <= _AT_ONCE:
        return _written(entries)
    return await asyncio.to_thread(_written, entries)  # thousands take their time


def _written(entries: Sequence[Entry]) -> Answer:
    return _json([entry_answer(entry) for entry in entries])


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value), (JSON,))
