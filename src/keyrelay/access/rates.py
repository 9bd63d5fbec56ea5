"""What callers have used of their limits, in the store.

Each meter has a row for each part of time, and one of its own (part 0) that tells in which part it was used last. Who
adds to a meter holds that row first, so that two nodes cannot both take the last one. Who is refused writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyrelay.access.limits import AHEAD, Meter, Passed, oldest, part_of, share
from keyrelay.audit.journal import Journal
from keyrelay.store.model import Row, Statement, Store, Work
from keyrelay.store.statements import groups, places

_ITSELF = 0  # the part that stands for the meter
_KEPT = 40  # parts before the oldest that counts: two minutes
_SWEPT = 50  # rows that go with each transaction that adds some

_Sums = Mapping[str, Mapping[int, int]]  # by key and part


@dataclass(frozen=True, slots=True)
class Wish:
    """What a process would like to draw, and what it gives ``back`` of what it drew in ``back_part``."""

    meter: Meter
    wanted: int
    back: int = 0
    back_part: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was had of a meter, and the part it stands in; or the ``seconds`` to wait when it was nothing."""

    amount: int
    part: int
    seconds: float = 0.0


class Rates:
    """Takes from meters, for one process."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def take(self, *meters: Meter) -> None:
        """One of each, or none of any. Raises what their limits say, or StoreUnavailable."""
        self._store.look()  # while the database is away, nobody waits longer than for that
        keyed = {await self._key(meter): meter for meter in meters}
        sql, keys = self._read(list(keyed))
        rows = await self._store.rows(sql, *keys)  # what is used up costs no write
        if rows:
            _require(keyed, _sums(rows), rows[0][-1])
        await self._store.perform(self._take(keyed))

    async def draw(self, wishes: Sequence[Wish]) -> list[Drawn]:
        """Allowances to be used within ``AHEAD`` from now on. Raises StoreUnavailable."""
        keyed = [(await self._key(wish.meter), wish) for wish in wishes]
        return await self._store.perform(self._draw(keyed))

    async def _key(self, meter: Meter) -> str:
        return await self._journal.pseudonym(self._store, f"{meter.limit.key} {meter.name}")

    def _take(self, keyed: Mapping[str, Meter]) -> Work[None]:
        sums, now = yield from self._hold(list(keyed))
        _require(keyed, sums, now)
        yield from self._add({(key, part_of(now)): 1 for key in keyed}, now)

    def _draw(self, keyed: Sequence[tuple[str, Wish]]) -> Work[list[Drawn]]:
        sums, now = yield from self._hold([key for key, _ in keyed])
        part = part_of(now + AHEAD)
        added: defaultdict[tuple[str, int], int] = defaultdict(int)
        drawn = []
        for key, wish in keyed:
            parts, limit = dict(sums[key]), wish.meter.limit
            if wish.back and wish.back_part >= oldest(now) and parts.get(wish.back_part, 0) >= wish.back:
                parts[wish.back_part] -= wish.back
                added[key, wish.back_part] -= wish.back
            passed = Passed(parts)
            amount = share(limit, passed.left(limit.most, now), wish.wanted)
            drawn.append(Drawn(amount, part, 0.0 if amount else passed.seconds_until_one(limit.most, now)))
            if amount:
                added[key, part] += amount
        yield from self._add(added, now)
        return drawn

    # --- Statements ------------------------------------------------------------------------------------------

    def _hold(self, keys: Sequence[str]) -> Work[tuple[_Sums, int]]:
        """What has passed on these meters, to which nobody else adds until the transaction ends; and the time."""
        rows = [(key, _ITSELF, 0) for key in sorted(keys)]  # sorted, so that two cannot lock each other out
        yield _insert(rows, "amount = rate_part.amount")
        found = yield self._read(keys)
        return _sums(found), found[0][-1]

    def _read(self, keys: Sequence[str]) -> Statement:
        clock = self._store.dialect.wall_clock
        return f"SELECT key, part, amount, {clock} FROM rate_part WHERE key IN ({places(keys)})", keys  # noqa: S608 - constants

    def _add(self, amounts: Mapping[tuple[str, int], int], now: int) -> Work[None]:
        if not amounts:
            return
        rows = [(*place, amount) for place, amount in amounts.items()]
        rows += [(key, _ITSELF, part_of(now + AHEAD)) for key in {key for key, _ in amounts}]
        yield _insert(sorted(rows), _ADDED)
        before, skip = oldest(now) - _KEPT, self._store.dialect.skip_locked
        swept = yield _sweep(f"part > 0 AND part < $1 ORDER BY part LIMIT {_SWEPT}{skip}"), (before,)
        if keys := list({key for (key,) in swept}):
            yield _sweep(f"key IN ({places(keys, 2)}) AND part = 0 AND amount < $1{skip}"), (before, *keys)


_ADDED = "amount = CASE WHEN rate_part.part = 0 THEN excluded.amount ELSE rate_part.amount + excluded.amount END"


def _require(keyed: Mapping[str, Meter], sums: _Sums, now: int) -> None:
    """Raise what the limit says that lets nothing through for the longest time, if any does so."""
    full = [
        (passed.seconds_until_one(meter.limit.most, now), meter.limit)
        for key, meter in keyed.items()
        if not (passed := Passed(sums[key])).left(meter.limit.most, now)
    ]
    if full:
        seconds, limit = max(full, key=lambda each: each[0])
        raise limit.refusal(seconds)


def _sums(rows: Sequence[Row]) -> _Sums:
    sums: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for key, part, amount, _ in rows:
        if part != _ITSELF:
            sums[key][part] = amount
    return sums


def _insert(rows: Sequence[tuple[str, int, int]], otherwise: str) -> Statement:
    values = f"VALUES {groups(len(rows), 3)} ON CONFLICT (key, part) DO UPDATE SET {otherwise}"
    return f"INSERT INTO rate_part (key, part, amount) {values}", [value for row in rows for value in row]


def _sweep(which: str) -> str:
    # What others hold is left alone: nobody is to wait here with something in hand.
    place = f"(SELECT key, part FROM rate_part WHERE {which})"  # noqa: S608 - constants
    return f"DELETE FROM rate_part WHERE (key, part) IN {place} RETURNING key"  # noqa: S608 - as above
