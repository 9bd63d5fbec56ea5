"""Whatever somebody does to the trail who can write to the database and has no key, is found and named."""

from __future__ import annotations

import asyncio

import pytest
from trails import DEED, grown, rows, tampered, verified, written

from keyrelay.audit import verifying
from keyrelay.audit.chain import COLUMNS, Signer, hash_of, read_head
from keyrelay.audit.verifying import Mark, holds
from keyrelay.errors import TrailBroken, UnknownName
from keyrelay.secrets.model import SecretText

FORGER = Signer(SecretText("a key that somebody made up"))
OTHER = {
    "at": "2020-01-01T00:00:00.000000+00:00",
    "category": 2101,
    "operation": 3,
    "level": 2,
    "actor": "somebody else",
    "address": "192.0.2.1",
    "kind": "Role",
    "name": "another",
    "object": "2",
    "details": "{}",
    "hash": "0" * 64,
    "signature": "0" * 64,
}


@pytest.fixture
def trail(server):
    """A server whose trail has ten entries."""
    server.run(lambda node: grown(node, 9))
    server.run(lambda node: written(node, DEED, by="al"))
    assert server.run(verified).broken is None
    return server


def found(server, *statements, since=None):
    """The place that is broken after these."""
    if statements:
        server.run(lambda node: tampered(node, *statements))
    return server.run(lambda node: verified(node, since)).broken


def test_a_trail_that_nobody_has_touched_holds_and_says_where_it_ends(trail):
    result = trail.run(verified)
    assert (result.entries, result.first, result.broken) == (10, 1, None)
    head = trail.run(lambda node: read_head(node.store))
    assert result.end == Mark(10, head.hash)
    assert trail.run(lambda node: verified(node, result.end)).broken is None


def test_a_trail_without_entries_holds(server):
    assert server.run(verified).broken is None


@pytest.mark.parametrize("field", [*COLUMNS[1:], "hash", "signature"])
def test_an_entry_of_which_any_field_was_edited_is_named(trail, field):
    broken = found(trail, (f"UPDATE audit_entry SET {field} = $1 WHERE id = 4", OTHER[field]))
    assert broken.startswith("Entry 4 was ")


@pytest.mark.parametrize("field", ["address", "name", "object"])
def test_an_entry_that_has_lost_a_field_is_named(trail, field):
    assert found(trail, (f"UPDATE audit_entry SET {field} = NULL WHERE id = 4",)).startswith("Entry 4 was changed")


def test_an_entry_that_was_deleted_is_named(trail):
    assert found(trail, ("DELETE FROM audit_entry WHERE id = 4",)) == "Entry 4 is missing."


def test_entries_that_were_deleted_are_named(trail):
    assert found(trail, ("DELETE FROM audit_entry WHERE id BETWEEN 4 AND 6",)) == "Entries 4 to 6 are missing."


def test_an_entry_that_was_deleted_and_the_gap_closed_is_found(trail):
    closed = [(f"UPDATE audit_entry SET id = {number - 1} WHERE id = {number}",) for number in range(5, 11)]
    broken = found(trail, ("DELETE FROM audit_entry WHERE id = 4",), *closed)
    assert broken.startswith("Entry 4 was changed")


def test_an_entry_that_was_inserted_is_named(trail):
    moved = [(f"UPDATE audit_entry SET id = {number + 1} WHERE id = {number}",) for number in range(10, 3, -1)]
    copied = (
        f"INSERT INTO audit_entry SELECT 4, {', '.join(COLUMNS[1:])}, hash, signature FROM audit_entry WHERE id = 9"
    )
    assert found(trail, *moved, (copied,)).startswith("Entry 4 was changed")


def test_an_entry_that_was_inserted_with_right_hashes_is_found_by_its_signature(trail):
    original = trail.run(rows)
    values, before, statements = list(original[3][:-2]), original[2][-2], []
    values[COLUMNS.index("actor")] = "somebody else"
    statements.append(("UPDATE audit_entry SET actor = $1 WHERE id = 4", "somebody else"))
    for number in range(4, 11):
        before = hash_of(before, values)
        statement = "UPDATE audit_entry SET hash = $1, signature = $2 WHERE id = $3"
        statements.append((statement, before, FORGER.signature(before), number))
        values = list(original[min(number, 9)][:-2])
    assert found(trail, *statements) == "Entry 4 was not written by keyrelay: its signature does not hold."


def test_entries_that_changed_places_are_named(trail):
    places = ((4, 99), (5, 4), (99, 5))
    swapped = [(f"UPDATE audit_entry SET id = {after} WHERE id = {before}",) for before, after in places]
    assert found(trail, *swapped).startswith("Entry 4 was changed, or does not belong")


def test_entries_that_changed_places_with_all_but_their_numbers_are_named(trail):
    assert trail.run(rows)[8][5] == "jo"
    names = ", ".join((*COLUMNS[1:], "hash", "signature"))
    copied = f"INSERT INTO audit_entry SELECT {{}}, {names} FROM audit_entry WHERE id = {{}}"
    swapped = [(copied.format(99, 9),), ("DELETE FROM audit_entry WHERE id = 9",), (copied.format(9, 10),)]
    swapped += [("DELETE FROM audit_entry WHERE id = 10",), ("UPDATE audit_entry SET id = 10 WHERE id = 99",)]
    assert found(trail, *swapped).startswith("Entry 9 was changed")


def test_a_trail_that_was_cut_off_is_found(trail):
    broken = found(trail, ("DELETE FROM audit_entry WHERE id > 7",))
    assert broken == "The trail is cut off: entries 8 to 10 are missing at its end."


def test_a_trail_that_was_cut_off_together_with_its_head_is_found(trail):
    hashed = trail.run(rows)[6][-2]
    broken = found(
        trail,
        ("DELETE FROM audit_entry WHERE id > 7",),
        ("UPDATE audit_head SET last = 7, hash = $1", hashed),
    )
    assert broken.startswith("The head of the trail")


def test_a_trail_that_was_emptied_is_found(trail):
    assert found(trail, ("DELETE FROM audit_entry",)).startswith("The trail is cut off: entries 1 to 10")
    assert found(trail, ("UPDATE audit_head SET last = 0, hash = ''",)).startswith("The head of the trail")


def test_an_entry_that_was_added_behind_the_end_is_named(trail):
    last = trail.run(rows)[-1]
    values = [11, *last[1:-2]]
    hashed = hash_of(last[-2], values)
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 3))
    added = (f"INSERT INTO audit_entry VALUES ({marks})", *values, hashed, FORGER.signature(hashed))
    assert found(trail, added).startswith("Entry 11 was not written by keyrelay")


def test_a_real_entry_that_is_left_over_behind_the_end_is_named(trail):
    head = trail.run(lambda node: read_head(node.store))
    trail.run(lambda node: written(node, DEED))
    broken = found(trail, ("UPDATE audit_head SET last = $1, hash = $2, seal = $3", head.last, head.hash, head.seal))
    assert broken == "Entry 11 stands behind the end of the trail, which is 10."


@pytest.mark.parametrize(
    "change", ["last = last + 1", "hash = 'x'", "floor = 3", "floor_hash = 'x'", "seal = 'x'", "seal = ''"]
)
def test_a_head_that_was_changed_is_found(trail, change):
    assert found(trail, (f"UPDATE audit_head SET {change}",)) is not None


def test_a_beginning_that_was_made_up_is_found(trail):
    hashed = trail.run(rows)[2][-2]
    broken = found(
        trail,
        ("DELETE FROM audit_entry WHERE id <= 3",),
        ("UPDATE audit_head SET floor = 3, floor_hash = $1", hashed),
    )
    assert broken.startswith("The head of the trail")


@pytest.mark.parametrize("fresh_settings", ["sqlite"], indirect=True)
def test_what_is_no_text_of_any_language_is_named_and_not_stumbled_over(trail):
    assert found(trail, ("UPDATE audit_entry SET actor = CAST(X'FFFE' AS TEXT) WHERE id = 4",)) is not None
    assert found(trail).startswith("Entry 4 was changed")
    assert found(trail, ("UPDATE audit_entry SET actor = X'00' WHERE id = 3",)).startswith("Entry 3 was changed")


# --- An end that was noted -----------------------------------------------------------------------------------


def test_a_trail_that_was_set_back_is_found_by_an_end_that_was_noted(trail):
    earlier = trail.run(lambda node: read_head(node.store))
    trail.run(lambda node: written(node, DEED, DEED))
    noted = trail.run(verified).end
    back = ("UPDATE audit_head SET last = $1, hash = $2, seal = $3", earlier.last, earlier.hash, earlier.seal)
    assert (
        found(trail, ("DELETE FROM audit_entry WHERE id > 10",), back) is None
    )  # with all it had then, it looks right
    assert found(trail, since=noted) == "The trail ends at 10, before the end that was noted, 12: it was set back."
    trail.run(lambda node: written(node, DEED, DEED, DEED, by="al"))
    assert found(trail) is None
    assert found(trail, since=noted).startswith("Entry 12 is not the one that was noted")
    assert found(trail, since=Mark(10, earlier.hash)) is None


# --- While it grows ------------------------------------------------------------------------------------------


def test_a_trail_that_grows_meanwhile_holds(trail, monkeypatch):
    monkeypatch.setattr(verifying, "_AT_ONCE", 3)

    async def both(node):
        results = []

        async def write() -> None:
            for _ in range(40):
                await written(node, DEED)

        async def look() -> None:
            while not writing.done():
                results.append(await verified(node))

        writing = asyncio.create_task(write())
        await look()
        await writing
        return results

    results = trail.run(both)
    assert [result.broken for result in results] == [None] * len(results)
    assert trail.run(verified).entries == 50


def test_it_is_read_in_pieces_and_tells_how_far_it_has_come(trail, monkeypatch):
    monkeypatch.setattr(verifying, "_AT_ONCE", 3)
    seen = []

    async def look(node):
        signer = await node.journal.signer(node.store)
        await verifying.verify(node.store, signer, progress=lambda *told: seen.append(told))

    trail.run(look)
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10)]


# --- One entry -----------------------------------------------------------------------------------------------


def test_one_entry_holds_by_itself_and_not_when_it_or_the_one_before_was_changed(trail):
    async def which(node):
        signer = await node.journal.signer(node.store)
        return [number for number in range(1, 11) if await holds(node.store, signer, number)]

    assert trail.run(which) == list(range(1, 11))
    trail.run(lambda node: tampered(node, ("UPDATE audit_entry SET actor = 'x' WHERE id = 4",)))
    assert trail.run(which) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    trail.run(lambda node: tampered(node, ("UPDATE audit_entry SET hash = 'x' WHERE id = 7",)))
    assert trail.run(which) == [1, 2, 3, 5, 6, 9, 10]


@pytest.mark.parametrize("number", [0, 11, -1, 2**31, 2**70])
def test_an_entry_that_there_is_not_cannot_be_validated(trail, number):
    async def look(node):
        await holds(node.store, await node.journal.signer(node.store), number)

    with pytest.raises(UnknownName):
        trail.run(look)


# --- Nothing is covered up -----------------------------------------------------------------------------------


def test_nothing_is_written_behind_an_end_that_somebody_has_moved(trail):
    hashed = trail.run(rows)[6][-2]
    cut = [("DELETE FROM audit_entry WHERE id > 7",), ("UPDATE audit_head SET last = 7, hash = $1", hashed)]
    trail.run(lambda node: tampered(node, *cut))
    with pytest.raises(TrailBroken):
        trail.run(lambda node: written(node, DEED))
    answer = trail.put_v2({"Host": "h.example.org", "Port": 25, "SenderAccount": "a@example.org", "SenderName": "a"})
    assert answer.status_code == 500
    assert "audit trail" in answer.json()["Message"]
    assert trail.get_v2()["Host"] is None
    assert found(trail).startswith("The head of the trail")
