"""Verifying the audit trail: every hash, every signature, every number, and both ends.

It is read in pieces, however long it is, and may grow and be forgotten at its beginning meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyrelay.audit.chain import COLUMNS, HEAD, SELECT, Head, Signer, hash_of, read_head
from keyrelay.errors import StoreUnavailable, UnknownName
from keyrelay.store.model import Reader, Row, Store

_AT_ONCE = 1000  # entries
_WITHOUT_PAUSE = 100  # a server has other things to do
_MARK = re.compile(r"(\d{1,10}):([0-9a-f]{64}|)", re.ASCII)
_ENDS = f"SELECT {HEAD}, (SELECT MIN(id) FROM audit_entry), (SELECT MAX(id) FROM audit_entry) FROM audit_head"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of the trail as it was once: its number, and its hash."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """What ``str`` wrote; None for what it never writes."""
        found = _MARK.fullmatch(text.strip())
        return None if found is None else cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it. ``broken``: the first place that is, in one sentence; None when the trail holds.

    ``first`` is the number of its first entry (after those that are forgotten), ``end`` where it ends.
    """

    entries: int
    first: int
    end: Mark
    broken: str | None = None


async def verify(
    store: Store, signer: Signer, since: Mark | None = None, progress: Callable[[int, int], None] = lambda _, __: None
) -> Verified:
    """Look at the whole trail. ``since``: an end that was noted earlier has to be a part of it.

    ``progress`` is told the number of entries looked at so far, and of all.
    """
    while True:
        walk = _Walk(store, signer, since, progress)
        broken = await walk.go()
        # What was forgotten while we looked is no gap.
        if broken is None or (await read_head(store)).floor == walk.floor:
            return Verified(walk.looked_at, walk.floor + 1, walk.place, broken)


async def holds(reader: Reader, signer: Signer, number: int) -> bool:
    """Whether this entry is as keyrelay wrote it, after the one that stands before it. Raises UnknownName."""
    rows = await reader.rows(f"{SELECT} WHERE id = $1", number) if 0 < number < 2**31 else []
    if not rows:
        raise UnknownName(f"There is no audit entry {number}.", remedy="GET /Audit lists them.")
    head = await read_head(reader)
    before = [(head.floor_hash,)] if number == head.floor + 1 else await reader.rows(_HASH, number - 1)
    return bool(before) and _broken(before[0][0], rows[0], signer) is None


class _Walk:
    """One look from the first entry to the last. ``place``: how far it has come."""

    def __init__(self, store: Store, signer: Signer, since: Mark | None, progress: Callable[[int, int], None]) -> None:
        self._store = store
        self._signer = signer
        self._since = since
        self._progress = progress
        self.looked_at = 0
        self.floor = 0
        self.place = Mark(0, "")

    async def go(self) -> str | None:
        head, lowest, _ = await self._ends()
        self.floor, self.place = head.floor, Mark(head.floor, head.floor_hash)
        if (broken := self._forgotten(head, lowest)) is not None:
            return broken
        while True:
            if (broken := await self._walk(head)) is not None:
                return broken
            head, _, highest = await self._ends()
            if self.place.id >= max(head.last, highest):
                return self._end(head)
            if self.place.id >= highest:
                first = self.place.id + 1
                return f"The trail is cut off: entries {first} to {head.last} are missing at its end."

    async def _ends(self) -> tuple[Head, int, int]:
        """The head, and the lowest and highest numbers there are; all as of one moment."""
        ((*head, lowest, highest),) = await self._store.rows(_ENDS)
        return Head(*head), lowest or 0, highest or 0

    def _forgotten(self, head: Head, lowest: int) -> str | None:
        if 0 < lowest <= head.floor:
            return f"Entry {lowest} stands before the beginning of the trail, which is {head.floor + 1}."
        since = self._since
        if since is not None and since.id < head.floor:
            return (
                f"The end that was noted, {since.id}, is forgotten by now: nobody can tell whether it was part of this."
            )
        return self._noted()

    async def _walk(self, head: Head) -> str | None:
        """All entries that follow, until there are no more."""
        while rows := await self._rows():
            for row in rows:
                if (broken := self._next(row)) is not None:
                    return broken
                if self.looked_at % _WITHOUT_PAUSE == 0:
                    await asyncio.sleep(0)
            self._progress(self.looked_at, head.last - head.floor)
        return None

    async def _rows(self) -> Sequence[Row]:
        last, sql = self.place.id, f"{SELECT} WHERE id > $1 ORDER BY id LIMIT $2"
        try:
            return await self._store.survey(sql, last, _AT_ONCE)
        except StoreUnavailable:
            # It may be one row that is no text of any language. Whatever comes before it is looked at first.
            ids = await self._store.survey("SELECT id FROM audit_entry WHERE id > $1 ORDER BY id LIMIT $2", last, 1)
            try:
                return await self._store.survey(sql, last, 1)
            except StoreUnavailable:
                if not ids:
                    raise
                return [(ids[0][0], *[None] * (len(COLUMNS) + 1))]

    def _next(self, row: Row) -> str | None:
        number, expected = row[0], self.place.id + 1
        if number != expected:
            missing = f"Entry {expected} is" if number == expected + 1 else f"Entries {expected} to {number - 1} are"
            return f"{missing} missing."
        if (broken := _broken(self.place.hash, row, self._signer)) is not None:
            return broken
        self.place = Mark(number, row[-2])
        self.looked_at += 1
        return self._noted()

    def _noted(self) -> str | None:
        """What is wrong with this place, if it is the one that was noted."""
        if self._since is None or self.place.id != self._since.id or self.place == self._since:
            return None
        return f"Entry {self.place.id} is not the one that was noted: the trail was set back, and went on from there."

    def _end(self, head: Head) -> str | None:
        if self.place.id > head.last:
            return f"Entry {head.last + 1} stands behind the end of the trail, which is {head.last}."
        if self.place.hash != head.hash or not self._signer.seals(head):
            return "The head of the trail, which says where it begins and ends, was changed: its seal does not hold."
        if self._since is not None and self._since.id > self.place.id:
            noted = self._since.id
            return f"The trail ends at {self.place.id}, before the end that was noted, {noted}: it was set back."
        return None


def _broken(before: str, row: Row, signer: Signer) -> str | None:
    """What is wrong with an entry, given the hash of the one before it."""
    *values, hashed, signature = row
    number = values[0]
    try:
        right = hash_of(before, values) == hashed
    except (TypeError, ValueError):  # what is no text or number at all
        right = False
    if not right:
        return f"Entry {number} was changed, or does not belong behind the one before it."
    if not isinstance(signature, str) or not signer.signs(hashed, signature):
        return f"Entry {number} was not written by keyrelay: its signature does not hold."
    return None


_HASH = "SELECT hash FROM audit_entry WHERE id = $1"
