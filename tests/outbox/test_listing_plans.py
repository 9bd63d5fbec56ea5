"""Every search for submissions goes along an index, however many there are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

from keyrelay.outbox import listing
from keyrelay.outbox.listing import Search
from keyrelay.store.model import Store
from many_messages import filled
from outboxes import site
from relaying import run

SEARCHES = {
    "all": Search(),
    "a state": Search(frozenset({"accepted"})),
    "an empty state": Search(frozenset({"held"})),
    "states": Search(frozenset({"queued", "refused", "accepted"})),
    "since": Search(since=datetime(2025, 1, 1, tzinfo=UTC)),
    "a state since": Search(frozenset({"accepted"}), since=datetime(2025, 1, 1, tzinfo=UTC)),
    "until": Search(until=datetime(2030, 1, 1, tzinfo=UTC)),
}


_numbers = count()


async def plan(store: Store, sql: str, values) -> str:
    if not store.dialect.lock:
        rows = await store.rows(f"EXPLAIN QUERY PLAN {sql}", *values)
        return "\n".join(row[3] for row in rows)
    # What is kept prepared is planned without its values.
    name = f"looked_{next(_numbers)}"
    async with store.change() as change:
        await change.rows("SET LOCAL plan_cache_mode = force_generic_plan")
        for at, value in enumerate(values, 1):
            sql = sql.replace(f"${at}", f"${at}::{'bigint' if isinstance(value, int) else 'text'}")
        await change.rows(f"PREPARE {name} AS {sql}")
        given = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in values)
        rows = await change.rows(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE {name}({given})")
    return "\n".join(row[0] for row in rows)


def test_every_search_goes_along_an_index_and_sorts_nothing(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            await filled(place.store, 20_000)
            for title, search in SEARCHES.items():
                sql, values = listing._newest(search, None, 51)
                steps = await plan(place.store, sql, values)
                assert "Seq Scan" not in steps, f"{title}: {steps}"
                assert "SCAN message" not in steps.replace("SCAN message USING INDEX", ""), f"{title}: {steps}"
                if len(search.states) < 2:  # those of several states are merged: at most 51 of each
                    assert "Sort" not in steps, f"{title}: {steps}"
                    assert "TEMP B-TREE" not in steps, f"{title}: {steps}"

    run(main())


def test_a_recipients_messages_are_found_along_an_index(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            await filled(place.store, 20_000)
            page = await listing.find(place.store, Search(frozenset({"refused"}), "ops@example.org"))
            assert len(page.submissions) == 5  # of 5000 looked at, one in a thousand
            search = Search(frozenset({"refused"}), "ops@example.org")
            conditions, values = listing._between(search, None, "message")
            for sql, given in (
                (listing._FLOOR, ["ops@example.org", "g"]),
                listing._look(search, conditions, values, "ops@example.org", page.next, 51),
            ):
                steps = await plan(place.store, sql, given)
                assert "Seq Scan" not in steps, steps
                assert "SCAN message" not in steps.replace("SCAN message USING INDEX", ""), steps

    run(main())
