"""The trail is searched, sorted and paged by the database, and both databases find the same."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from functools import partial
from itertools import count

import pytest
from trails import DEED, rows, tampered, written

from keyrelay.api.lists import _matcher
from keyrelay.audit import reading
from keyrelay.audit.model import Category, Deed, Kind, Level, Operation
from keyrelay.audit.reading import FIELDS, SORTABLE, Search
from keyrelay.errors import BadInput, StoreUnavailable
from keyrelay.query_language import parse
from keyrelay.store import sqlite_survey

NAMES = [
    *("Vault", "vault", "VAULT of Azure", "100%", "100_", "back\\slash", "Größe", "GRÖßE", "größe", "ÅNGSTRÖM", None),
    *("Ελλάδα", "ΕΛΛΆΔΑ", "quote'd", 'quote"d', "", "щяю", "ЩЯЮ", "naïve", "NAÏVE", "x" * 900, "İstanbul"),
]
OBJECTS = ["1", "2", "10", "707662", None, "ABC", "abc"]


@pytest.fixture
def trail(server):
    """A server whose trail tells of its first user, and of things with these names."""
    deeds = [
        Deed(
            list(Category)[place % len(Category)],
            list(Operation)[place % len(Operation)],
            list(Kind)[place % 5],
            name,
            OBJECTS[place % len(OBJECTS)],
            list(Level)[place % 3],
        )
        for place, name in enumerate(NAMES)
    ]
    server.run(lambda node: written(node, *deeds))
    server.run(lambda node: written(node, DEED, by="EXAMPLE\\jsmith"))
    return server


def found(server, query="", **more):
    search = Search(parse(query, FIELDS), **more | {"limit": more.get("limit", 1000)})
    return server.run(lambda node: reading.find(node.store, search))


def ids(server, query="", **more):
    return [entry.id for entry in found(server, query, **more)]


VALUES = [
    "vault",
    "VAULT",
    "100%",
    "100_",
    "\\",
    "größe",
    "GRÖßE",
    "ö",
    "Å",
    "ελλάδα",
    "щЯю",
    "ï",
    "'",
    "%",
    "_",
    "",
]
QUERIES = [
    *(f'AuditIdentifier {operator} "{value.replace(chr(92), chr(92) * 2)}"'
      for operator in ("-eq", "-ne", "-contains", "-notcontains", "-startswith", "-endswith") for value in VALUES),
    *("AuditIdentifier -eq NULL", "AuditIdentifier -ne NULL", "Id -ge 3 AND Id -lt 9", "Id -eq 99999999999999"),
    'Id -gt 5 AND (AuditIdentifier -contains "a" OR ImmutableIdentifier -eq 10) AND Id -ne 7',
    *("ImmutableIdentifier -eq 707662", "ImmutableIdentifier -ne 707662", 'ImmutableIdentifier -eq "ABC"'),
    *("Level -ge 1", "Level -ne 0", "Level -eq -5", 'User -eq "JO"', 'User -eq "example\\jsmith"'),
    *('EntityType -contains "pam"', 'Timestamp -ge "2026-01-01"', 'Timestamp -lt "2026-01-01T00:00:00Z"'),
]  # fmt: skip


@pytest.mark.parametrize("fresh_settings", ["sqlite", "postgresql"], indirect=True)
def test_the_database_finds_what_every_other_list_would_find(trail):
    entries = found(trail)
    assert [entry.name for entry in entries] == ["admin", *NAMES, DEED.name]

    def values(entry):
        fields = {"Id": entry.id, "Level": entry.level, "User": entry.actor.name, "EntityType": entry.kind}
        fields |= {"Timestamp": datetime.fromisoformat(entry.at), "AuditIdentifier": entry.name}
        return fields | {"ImmutableIdentifier": entry.object}

    for query in QUERIES:
        meets = _matcher(parse(query, FIELDS))
        wanted = [entry.id for entry in entries if meets(partial(dict.__getitem__, values(entry)))]
        assert ids(trail, query) == wanted, query


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("category -eq 2100", {Category.SMTP}),
        ("category -eq smtp", {Category.SMTP}),
        ('Category -contains "SMTP"', {Category.SMTP}),
        ('category -contains "role"', {Category.SECURITY_ROLE}),
        ("category -startswith 210", {one for one in Category if one >= 2100}),
        ("category -ne smtp", set(Category) - {Category.SMTP}),
        ("category -notcontains s", {one for one in Category if "s" not in one.title.lower()}),
        ("category -eq 9", set()),
        ("category -ne 9", set(Category)),
        ("category -eq NULL", set()),
        ('category -contains "Agent"', set()),
    ],
)
def test_categories_are_found_by_number_and_by_name(trail, query, wanted):
    assert {entry.category for entry in found(trail, query)} == wanted & {entry.category for entry in found(trail)}


def test_operations_are_found_by_number_and_by_name(trail):
    for query in ("operation -eq 5", "operation -eq DENIED", 'operation -contains "enie"'):
        assert {entry.operation for entry in found(trail, query)} == {5}
    assert {entry.operation for entry in found(trail, 'operation -eq "removed from hold"')} == {14}


def test_a_text_that_looks_like_sql_finds_nothing_and_harms_nothing(trail):
    for text in ("' OR 1=1 --", "%' OR '1'='1", "\\' OR 1=1", "$1", "?1"):
        query = f'User -contains "{text.replace(chr(92), chr(92) * 2)}"'
        assert ids(trail, query) == []
    with pytest.raises(BadInput):
        parse("1=1 -eq 1", FIELDS)


@pytest.mark.parametrize("field", sorted({*SORTABLE, "Id"}))
def test_it_can_be_sorted_by_each_field_that_is_published_both_ways(trail, field):
    columns = {
        "Id": "id",
        "Category": "category",
        "ImmutableIdentifier": "object",
        "Level": "level",
        "Operation": "operation",
        "Timestamp": "at",
    }

    def place(entry):
        value = getattr(entry, columns[field])
        return value is not None, value, entry.id

    up = sorted(found(trail), key=place)
    assert [entry.id for entry in up] == ids(trail, sort_field=field)
    assert [entry.id for entry in up][::-1] == ids(trail, sort_field=field, descending=True)


def test_pages_follow_each_other(trail):
    whole = ids(trail)
    pages = [ids(trail, page=page, limit=5) for page in range(1, 7)]
    assert [number for page in pages for number in page] == whole
    assert ids(trail, page=2**31 - 1, limit=10_000) == []


def test_related_entries_are_about_the_same_things(trail):
    search = Search(parse('AuditIdentifier -eq "100%"', FIELDS), "Timestamp", limit=100)
    (entry,) = found(trail, 'AuditIdentifier -eq "100%"')
    related = trail.run(lambda node: reading.related(node.store, search))
    everything = found(trail)
    assert [one.id for one in related] == [
        one.id for one in everything if (one.kind, one.object) == (entry.kind, entry.object)
    ]
    no_object = Search(parse("ImmutableIdentifier -eq NULL", FIELDS), "Timestamp", limit=100)
    assert trail.run(lambda node: reading.related(node.store, no_object)) == []


def test_an_entry_that_somebody_has_spoilt_is_shown_all_the_same(trail):
    spoilt = "UPDATE audit_entry SET category = 9999, operation = 77, level = 9, kind = 'x', details = '{' WHERE id = 3"
    everything = ids(trail)
    trail.run(lambda node: tampered(node, (spoilt,)))
    entry = trail.run(lambda node: reading.one(node.store, 3))
    assert (entry.category_title, entry.operation_title, entry.level_title) == ("9999", "77", "9")
    assert entry.details == {"unreadable": "{"}
    assert ids(trail) == everything


# --- However long it is --------------------------------------------------------------------------------------

_numbers = count()


async def filled(store, number):
    """Entries until there are so many, as fast as the database makes them; nothing about them holds."""
    numbers = f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {number})"
    padded = "substr('000000' || CAST(n AS TEXT), -6)"
    if store.dialect.lock:
        numbers = f"WITH n AS (SELECT n FROM generate_series(1, {number}) AS n)"
        padded = "lpad(CAST(n AS TEXT), 6, '0')"
    details = json.dumps({"details": {}, "changes": {"host": {"before": "a" * 50, "after": "b" * 50}}})
    async with store.change() as change:
        await change.run(
            f"INSERT INTO audit_entry {numbers} SELECT n, '2026-01-01T00:00:00.' || {padded} || '+00:00',"
            f" CASE WHEN n % 1000 = 0 THEN 2012 ELSE 2100 END, 1 + n % 3, CASE WHEN n % 500 = 0 THEN 1 ELSE 0 END,"
            f" 'user' || CAST(n % 50 AS TEXT), '127.0.0.1', 'SmtpProfile', 'SMTP profile', CAST(n % 5000 AS TEXT),"
            f" '{details}', 'h', 's' FROM n WHERE n > (SELECT MAX(id) FROM audit_entry)"
        )
        await change.rows("ANALYZE")


async def plan(store, sql, *values):
    if not store.dialect.lock:
        return "\n".join(row[3] for row in await store.rows(f"EXPLAIN QUERY PLAN {sql}", *values))
    name = f"looked_{next(_numbers)}"
    async with store.change() as change:
        await change.rows("SET LOCAL plan_cache_mode = force_generic_plan")
        await change.rows(f"PREPARE {name} AS {sql}")
        given = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in values)
        steps = await change.rows(f"EXPLAIN EXECUTE {name}({given})")
    return "\n".join(row[0] for row in steps)


@pytest.fixture
def long_trail(server):
    server.run(lambda node: filled(node.store, 100_000))
    return server


def test_every_order_goes_along_an_index_and_sorts_nothing(long_trail):
    for field in sorted({*SORTABLE, "Id"}):
        for descending in (False, True):
            search = Search(sort_field=field, descending=descending)
            statement = reading.statement(search, reading._where(None))
            steps = long_trail.run(lambda node, statement=statement: plan(node.store, *statement))
            for bad in ("Seq Scan", "Sort", "TEMP B-TREE"):
                assert bad not in steps, f"{field}: {steps}"


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("Id -gt 99000", "Id"),
        ('Timestamp -ge "2026-01-01T00:00:00.099Z"', "Timestamp"),
        ("ImmutableIdentifier -eq 4711", "Id"),
        ("category -eq AuthorizationFailure", "Id"),
    ],
)
def test_what_names_a_time_a_number_or_a_thing_is_looked_up(long_trail, query, order):
    statement = reading.statement(
        Search(sort_field=order), reading._where(parse(query, FIELDS)), "SELECT id FROM audit_entry"
    )
    steps = long_trail.run(lambda node: plan(node.store, *statement))
    assert "Seq Scan" not in steps, steps
    assert "SCAN audit_entry" not in steps.replace("SCAN audit_entry USING INDEX", ""), steps


def test_lists_over_a_hundred_thousand_entries_answer_in_bounded_time(long_trail):
    began = time.perf_counter()
    assert len(ids(long_trail, limit=50, descending=True)) == 50
    assert len(ids(long_trail, "category -eq AuthorizationFailure", limit=50)) == 50
    assert len(ids(long_trail, 'user -eq "USER7"', limit=50, descending=True)) == 50
    assert len(ids(long_trail, "level -ge 1", sort_field="Timestamp", limit=50)) == 50
    assert ids(long_trail, 'AuditIdentifier -contains "ö"', limit=50) == []  # looks at all of them
    search = Search(parse("ImmutableIdentifier -eq 4711", FIELDS), "Timestamp")
    assert len(long_trail.run(lambda node: reading.related(node.store, search))) == 20
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("fresh_settings", ["sqlite"], indirect=True)
def test_a_long_search_holds_up_nobody_and_is_given_up_in_the_end(long_trail, monkeypatch):
    search = Search(parse(" OR ".join(f'User -contains "{each}äöü"' for each in range(8)), FIELDS))

    async def both(node):
        turns, task = 0, asyncio.create_task(reading.find(node.store, search))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert await task == []
        return turns

    assert long_trail.run(both) > 100
    monkeypatch.setattr(sqlite_survey, "_SECONDS", 0.01)
    with pytest.raises(StoreUnavailable, match="too long"):
        long_trail.run(lambda node: reading.find(node.store, search))
    monkeypatch.undo()
    assert len(ids(long_trail, limit=5)) == 5


def test_all_entries_can_be_read_however_many_there_are(long_trail):
    async def read(node):
        seen = 0
        async for entry in reading.every(node.store, parse("Id -le 5000", FIELDS)):
            seen += 1
            assert entry.id == seen
        return seen

    assert long_trail.run(read) == 5000


def test_what_is_read_is_what_was_written(trail):
    first = trail.run(lambda node: reading.one(node.store, 1))
    (row, *_) = trail.run(rows)
    assert (first.id, first.at, first.name, first.hash) == (row[0], row[1], row[8], row[-2])
    assert first.timestamp == row[1].replace("+00:00", "Z")
    assert trail.run(lambda node: reading.one(node.store, 0)) is None
    assert trail.run(lambda node: reading.one(node.store, 2**40)) is None
