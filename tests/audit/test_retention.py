"""What is old is forgotten, and what is left still holds from its sealed beginning on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from trails import DEED, grown, rows, tampered, told, verified, written

from keyrelay import sending
from keyrelay.audit import retention, verifying
from keyrelay.audit.chain import read_head
from keyrelay.audit.model import Operation
from keyrelay.audit.retention import forget, is_due
from keyrelay.audit.verifying import Mark
from keyrelay.errors import TrailBroken
from keyrelay.outbox.housekeeping import Housekeeping, Keeping
from keyrelay.settings import Settings

WEEK = timedelta(days=7)
LATER = datetime.now(UTC) + timedelta(days=30)


async def forgotten(node, now=LATER, age=WEEK):
    """How many entries went, in each bite."""
    signer, gone = await node.journal.signer(node.store), []
    last = (await read_head(node.store)).last
    while one := await node.store.perform(forget(signer, now, age, last), length="long"):
        gone.append(one)
    return gone


@pytest.fixture
def trail(server):
    """A server whose trail has ten entries."""
    server.run(lambda node: grown(node, 10))
    return server


def test_what_is_old_goes_and_the_rest_holds_from_its_sealed_beginning(trail):
    trail.run(forgotten)
    result = trail.run(verified)
    assert (result.broken, result.first, result.entries) == (None, 11, 1)
    trail.run(lambda node: written(node, DEED))
    assert trail.run(verified).entries == 2
    head = trail.run(lambda node: read_head(node.store))
    assert (head.floor, head.last) == (10, 12)


def test_an_entry_says_what_was_forgotten(trail):
    last = trail.run(rows)[-1]
    trail.run(forgotten)
    (entry,) = told(trail, "AuditTrail")
    assert (entry["actor"], entry["operation"]) == ("keyrelay", Operation.DELETED)
    assert entry["details"] == {"first": 1, "last": 10, "until": last[1], "last_hash": last[-2]}


def test_it_is_done_in_bites(trail, monkeypatch):
    monkeypatch.setattr(retention, "_AT_ONCE", 4)
    assert trail.run(forgotten) == [4, 4, 2]
    assert trail.run(verified).broken is None


def test_what_is_not_old_stays_and_leaves_no_entry(trail):
    now = datetime.now(UTC)
    assert not trail.run(lambda node: is_due(node.store, now, WEEK))
    assert trail.run(lambda node: forgotten(node, now)) == []
    assert len(trail.run(rows)) == 10


def test_it_is_done_once_a_day_because_it_leaves_an_entry_itself(trail):
    now = datetime.now(UTC)
    assert not trail.run(lambda node: is_due(node.store, now + WEEK + timedelta(hours=23), WEEK))
    assert trail.run(lambda node: is_due(node.store, now + WEEK + timedelta(hours=25), WEEK))


def test_rows_that_were_deleted_by_hand_are_found_and_so_is_a_beginning_without_its_seal(trail):
    trail.run(lambda node: tampered(node, ("DELETE FROM audit_entry WHERE id <= 3",)))
    assert trail.run(verified).broken == "Entries 1 to 3 are missing."
    hashed = trail.run(rows)[0][-2]
    trail.run(lambda node: tampered(node, ("UPDATE audit_head SET floor = 4, floor_hash = $1", hashed)))
    trail.run(lambda node: tampered(node, ("DELETE FROM audit_entry WHERE id = 4",)))
    assert trail.run(verified).broken.startswith("The head of the trail")


@pytest.mark.parametrize(
    "sql", ["UPDATE audit_entry SET actor = 'x' WHERE id = 4", "DELETE FROM audit_entry WHERE id = 4"]
)
def test_what_somebody_has_changed_is_not_forgotten_but_stays_to_be_found(trail, sql):
    trail.run(lambda node: tampered(node, (sql,)))
    with pytest.raises(TrailBroken, match="Entry 4"):
        trail.run(forgotten)
    assert trail.run(verified).broken.startswith("Entry 4 ")
    assert trail.run(rows)[0][0] == 1


def test_a_left_over_entry_before_the_beginning_is_found(trail):
    first = trail.run(rows)[0]
    trail.run(forgotten)
    marks = ", ".join(f"${number}" for number in range(1, len(first) + 1))
    trail.run(lambda node: tampered(node, (f"INSERT INTO audit_entry VALUES ({marks})", *first)))
    assert trail.run(verified).broken == "Entry 1 stands before the beginning of the trail, which is 11."


def test_an_end_that_was_noted_and_is_forgotten_proves_nothing_any_more(trail):
    early, late = (Mark(row[0], row[-2]) for row in (trail.run(rows)[4], trail.run(rows)[9]))
    trail.run(forgotten)
    assert "forgotten by now" in trail.run(lambda node: verified(node, early)).broken
    assert trail.run(lambda node: verified(node, late)).broken is None  # the beginning itself is known by its hash
    wrong = Mark(late.id, "0" * 64)
    assert "not the one that was noted" in trail.run(lambda node: verified(node, wrong)).broken


def test_what_is_forgotten_while_somebody_verifies_is_no_gap(trail, monkeypatch):
    monkeypatch.setattr(verifying, "_AT_ONCE", 3)

    async def both(node):
        class Meanwhile:
            """The store, on which a part of the trail is forgotten after the first look."""

            looks = 0
            rows = staticmethod(node.store.rows)

            async def survey(self, *given):
                found = await node.store.survey(*given)
                self.looks += 1
                if self.looks == 1:
                    await forgotten(node)
                return found

        signer = await node.journal.signer(node.store)
        return await verifying.verify(Meanwhile(), signer)

    result = trail.run(both)
    assert (result.broken, result.first, result.entries) == (None, 11, 1)


def test_housekeeping_forgets_by_the_setting(trail, monkeypatch):
    keeping = sending.keeping(Settings(keep_audit_days=7))
    assert keeping.audit == WEEK
    assert Keeping().audit == sending.keeping(Settings()).audit == timedelta(days=2557)  # seven years

    async def keep_house(node):
        await node.outbox.office.open()
        house = Housekeeping(node.outbox.office, keeping, pause=0)
        async with node.store.change() as change:
            await change.run("UPDATE housekeeping SET until = 0, node = ''")
        return await house.look()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return LATER

    monkeypatch.setattr("keyrelay.outbox.housekeeping.datetime", Later)
    assert trail.run(keep_house)["audit entries"] == 10
    assert trail.run(verified).broken is None


def test_housekeeping_goes_on_when_the_trail_is_broken(trail, monkeypatch, caplog):
    trail.run(lambda node: tampered(node, ("UPDATE audit_entry SET actor = 'x' WHERE id = 4",)))

    async def keep_house(node):
        await node.outbox.office.open()
        house = Housekeeping(node.outbox.office, Keeping(audit=WEEK), pause=0)
        await tampered(node, ("UPDATE housekeeping SET until = 0, node = ''",))
        return await house.look()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return LATER

    monkeypatch.setattr("keyrelay.outbox.housekeeping.datetime", Later)
    assert "audit entries" not in trail.run(keep_house)
    assert "the audit trail cannot be shortened" in caplog.text
