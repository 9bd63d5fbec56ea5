"""What is old goes, nothing that waits does, the books stay right, and only one node at a time does it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from datetime import timedelta

import pytest

from keyrelay import sending
from keyrelay.errors import NotNow
from keyrelay.outbox import forgetting, housekeeping, sweeping
from keyrelay.outbox.books import CONTENT, Books, Turn
from keyrelay.outbox.budget import Limits
from keyrelay.outbox.housekeeping import Housekeeping, Keeping
from keyrelay.outbox.queue import Key
from keyrelay.outbox.steering import Steering
from keyrelay.settings import Settings
from keyrelay.store import sqlite
from keyrelay.store.engine import open_store
from keyrelay.store.schema import migrate_sqlite
from outboxes import (
    LATER,
    NO,
    YES,
    ByHand,
    Time,
    kept,
    letter,
    per,
    policy,
    queue,
    said,
    site,
    states,
    submit,
    tallies,
)
from relaying import run, until

DAY, HOUR, MINUTE = 86_400, 3600, 60
KEEPING = Keeping()
LINE = b"x" * 98 + b"\r\n"


def home(office, keeping=KEEPING):
    return Housekeeping(office, keeping, pause=0)


async def ended(node, desk, reply, number=1, **more):
    """Messages to which the relay has just said this; their ids."""
    ids = await submit(desk, *(letter("ops@example.org", **more) for _ in range(number)))
    for claim in (await node.round()).claims:
        node.settle(claim, said(claim, {"ops@example.org": reply}))
    await node.round(0)
    return ids


async def counted(store, table):
    ((number,),) = await store.rows(f"SELECT COUNT(*) FROM {table}")
    return number


async def content_kept(store):
    return {name for (name,) in await store.rows("SELECT message FROM message_content")}


async def ensure_books_are_right(store):
    tallied = await tallies(store)
    assert tallied.pop(CONTENT, 0) == await counted(store, "message_content")
    assert tallied == await states(store)
    ((octets,),) = await store.rows("SELECT COALESCE(SUM(octets), 0) FROM outbox_tally")
    ((there,),) = await store.rows(
        "SELECT COALESCE(SUM(size), 0) FROM message WHERE id IN (SELECT message FROM message_content)"
    )
    assert int(octets) == int(there)


def test_contents_and_records_go_when_their_days_are_over_each_by_the_state_it_ended_in(fresh_settings):
    async def main():
        time = Time()
        async with site(fresh_settings, time) as here:
            node = ByHand(await here.office(policy=policy(life=timedelta(days=400))))
            desk, house, store = queue(node.office), home(node.office), node.office.store
            (accepted,) = await ended(node, desk, YES)
            (refused,) = await ended(node, desk, NO)
            (deferred,) = await ended(node, desk, LATER)
            assert await house.look() == {}
            was = [(1 * DAY - HOUR, {accepted, refused, deferred}, {accepted, refused, deferred})]
            was.append((1 * DAY + HOUR, {refused, deferred}, {accepted, refused, deferred}))
            was.append((14 * DAY + HOUR, {deferred}, {accepted, refused, deferred}))
            was.append((30 * DAY + HOUR, {deferred}, {refused, deferred}))
            was.append((90 * DAY + HOUR, {deferred}, {deferred}))
            passed = 0
            for at, contents, records in was:
                time.pass_by(at - passed)
                passed = at
                await node.round(0)
                assert await house.look() is not None
                assert await content_kept(store) == contents
                assert set(await kept(store)) == records
                await ensure_books_are_right(store)
            for table in ("attempt", "message_recipient"):
                assert {name for (name,) in await store.rows(f"SELECT message FROM {table}")} == {deferred}

    run(main())


@pytest.mark.parametrize("state", ["queued", "deferred", "outcome_unknown", "held", "sending"])
def test_what_waits_never_goes_however_old_it_is(fresh_settings, state):
    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            store = office.store
            (name,) = await submit(queue(office), letter())
            async with store.change() as change:  # the oldest message there ever was, and one that once had ended
                await change.run("UPDATE message SET state = $1, ended_at = 0", state)
            await Housekeeping(office, Keeping(*[timedelta(0)] * 4, most=1), pause=0).look()
            assert await content_kept(store) == {name}
            assert set(await kept(store)) == {name}

    run(main())


def test_a_message_that_is_sent_again_in_the_last_moment_keeps_its_content(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            node = ByHand(await here.office())
            store = node.office.store
            (name,) = await ended(node, queue(node.office), NO)
            found = await forgetting.contents(store, "", "g")
            async with store.change() as change:
                await change.run("UPDATE message SET state = 'queued', ended_at = NULL")
            old = dict.fromkeys(KEEPING.contents, timedelta(0))
            steps = forgetting.Forgetting(node.office)
            assert found[0].is_old(old, node.office.watch.now)
            for step in (steps.content, steps.record):
                assert (await store.perform(step(found, old))).messages == 0
            assert await content_kept(store) == {name}

    run(main())


def test_nobody_sends_a_message_again_whose_content_is_just_going(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            node, other = ByHand(await here.office()), await here.office("b")
            store = node.office.store
            names = await ended(node, queue(node.office), NO, 60)
            steps, steering = forgetting.Forgetting(node.office), Steering(other)
            old = dict.fromkeys(KEEPING.contents, timedelta(0))
            found = {one.id: one for one in await forgetting.contents(store, "", "g")}

            async def resend(name):
                with suppress(NotNow):
                    await steering.steer(name, "resend")

            for name in names:
                await asyncio.gather(store.perform(steps.content([found[name]], old)), resend(name))
            waiting = {name for name, one in (await kept(store)).items() if one.state == "queued"}
            assert waiting <= await content_kept(store)
            await ensure_books_are_right(store)

    run(main())


def test_many_messages_with_many_recipients_go_in_small_steps_and_all_of_them(fresh_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(forgetting, "_MOST_AT_ONCE", 30)
        monkeypatch.setattr(forgetting, "_MOST_RECIPIENTS", 8_000)
        monkeypatch.setattr(forgetting, "_MOST_OCTETS", 4_000)
        async with site(fresh_settings) as here:
            node = ByHand(await here.office())
            store, desk = node.office.store, queue(node.office)
            many = tuple(f"{each}@Example.org" for each in range(40))
            await submit(desk, *(letter(*many, body=LINE * 5) for _ in range(70)))
            for claim in (await node.round()).claims:
                node.settle(claim, said(claim, dict.fromkeys(many, NO)))
            await node.round(0)
            steps = []
            perform = store.perform

            async def counting(work, **more):
                steps.append(None)
                return await perform(work, **more)

            monkeypatch.setattr(store, "perform", counting)
            went = await Housekeeping(node.office, Keeping(failed=timedelta(0)), pause=0).look()
            assert went["messages"] == 70
            assert len(steps) > 30
            for table in ("message", "message_content", "message_recipient", "attempt"):
                assert await counted(store, table) == 0
            await ensure_books_are_right(store)

    run(main())


def test_a_walk_past_many_that_may_not_go_yet_is_cut_short_and_goes_on_next_time(sqlite_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(forgetting, "_MOST_AT_ONCE", 10)
        monkeypatch.setattr(housekeeping, "_MOST_IN_VAIN", 40)
        time = Time()
        async with site(sqlite_settings, time) as here:
            node = ByHand(await here.office())
            store, desk = node.office.store, queue(node.office)
            await submit(desk, *(letter() for _ in range(100)))
            async with store.change() as change:
                await change.run("UPDATE message SET state = 'held', due_at = NULL")
            time.pass_by(1)
            (last,) = await ended(node, desk, YES)
            time.pass_by(2 * DAY)
            await node.round(0)
            house, looks = home(node.office), 0
            while last in await content_kept(store):
                assert looks < 4
                looks += 1
                time.pass_by(600)
                await node.round(0)
                await house.look()
            assert looks == 3

    run(main())


def test_what_was_accepted_makes_room_when_the_outbox_is_crowded_and_no_more_than_that(fresh_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(forgetting, "_MOST_OCTETS", 1)
        async with site(fresh_settings) as here:
            node = ByHand(await here.office())
            store, desk = node.office.store, queue(node.office)
            await ended(node, desk, NO, 3, body=LINE * 10)
            accepted = await ended(node, desk, YES, 6, body=LINE * 10)
            waiting = await submit(desk, letter(body=LINE * 10))
            ((whole,),) = await store.rows("SELECT SUM(size) FROM message")
            house = home(node.office, Keeping(most=int(whole) + 100))
            assert await house.look() == {"contents": 3, "octets": 3 * whole // 10}
            left = await content_kept(store)
            assert left & set(accepted) == set(sorted(accepted)[3:])
            assert set(waiting) < left
            assert await counted(store, "message") == 10
            await ensure_books_are_right(store)
            assert await house.look() is None  # it is roomy now, and nothing else is due

    run(main())


def test_an_outbox_crowded_with_what_waits_is_not_looked_through_at_every_moment(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as here:
            office = await here.office()
            await submit(queue(office), letter())
            house = home(office, Keeping(most=10))
            assert await house.look() == {}
            assert await house.look() is None

    run(main())


def test_events_minutes_and_idempotency_keys_go_when_they_are_old(fresh_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(sweeping, "_MOST_AT_ONCE", 3)
        time = Time()
        async with site(fresh_settings, time) as here:
            node = ByHand(await here.office())
            store, desk, house = node.office.store, queue(node.office), home(node.office)
            tables = ("outbox_event", "outbox_minute", "submission_key")

            async def left():
                return [await counted(store, table) for table in tables]

            for number in range(8):
                await submit(desk, key=Key(f"key {number}", "digest"))
            assert await left() == [8, 1, 8]
            was = [(4 * MINUTE, [8, 1, 8]), (11 * MINUTE, [0, 1, 8]), (DAY - HOUR, [0, 1, 8])]
            was += [(DAY + HOUR, [0, 1, 0]), (7 * DAY - HOUR, [0, 1, 0]), (7 * DAY + HOUR, [0, 0, 0])]
            passed = 0
            for at, expected in was:
                time.pass_by(at - passed)
                passed = at
                await node.round(0)
                assert await house.look() is not None
                assert await left() == expected
            await ensure_books_are_right(store)

    run(main())


def test_no_event_and_no_minute_tells_of_what_is_only_forgotten(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            node = ByHand(await here.office())
            store = node.office.store
            await ended(node, queue(node.office), YES, 3)

            async def told():
                minutes = await store.rows("SELECT what, SUM(amount) FROM outbox_minute GROUP BY what ORDER BY what")
                return await counted(store, "outbox_event"), [(what, int(amount)) for what, amount in minutes]

            before = await told()
            went = await home(node.office, Keeping(accepted_content=timedelta(0))).look()
            assert went["contents"] == 3
            assert await told() == before

    run(main())


def test_sums_of_limits_go_when_no_window_holds_them_any_more_on_a_node_that_has_no_limits_too(fresh_settings):
    async def main():
        time = Time()
        async with site(fresh_settings, time) as here:
            limits = [*per(60, 100), *per(DAY, recipients=100)]
            node = ByHand(await here.office(limits=Limits(rates=tuple(limits))))
            other = await here.office("b")
            store = node.office.store
            await ended(node, queue(node.office), YES)
            assert await counted(store, "outbox_sum") == 2
            for at, left in ((59, 2), (400, 1), (DAY + HOUR, 0)):
                time.pass_by(at)
                await node.round(0)
                assert await home(other).look() is not None
                assert await counted(store, "outbox_sum") == left

    run(main())


def test_what_nodes_have_counted_that_are_gone_is_put_together(fresh_settings):
    async def main():
        time = Time()
        async with site(fresh_settings, time) as here:
            for number in range(4):
                node = ByHand(await here.office(f"gone{number}"))
                await ended(node, queue(node.office), YES, 2)
                await node.rounds.sign_out()
            alive = ByHand(await here.office("alive"))
            store = alive.office.store
            await ended(alive, queue(alive.office), NO, 2)
            before = await tallies(store)
            assert (await home(alive.office).look())["tallies"] > 8
            assert await tallies(store) == before
            owners = {node.rpartition(".")[0] for (node,) in await store.rows("SELECT DISTINCT node FROM outbox_tally")}
            assert owners == {"", alive.office.node}
            await ensure_books_are_right(store)

    run(main())


def test_a_node_that_was_taken_for_gone_goes_on_counting_while_its_rows_are_put_together(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            office, busy = await here.office("a"), await here.office("b")
            books = Books(busy.node, "in")
            done = asyncio.Event()

            async def count():
                for number in range(60):
                    await busy.store.perform(write([Turn(str(number), None, "queued", content=7)]))
                done.set()

            def write(turns):
                yield from books.entries(turns, busy.watch.clock.wall)

            async def merge():
                while not done.is_set():
                    await office.store.perform(sweeping.tallies(office))

            await asyncio.gather(count(), merge())
            assert await tallies(office.store) == {"queued": 60, CONTENT: 60}
            ((octets,),) = await office.store.rows("SELECT SUM(octets) FROM outbox_tally")
            assert int(octets) == 420

    run(main())


def test_of_several_nodes_one_keeps_house_and_the_others_leave_it_to_it(fresh_settings):
    async def main():
        time = Time()
        async with site(fresh_settings, time) as here:
            offices = [await here.office(name) for name in "abc"]
            homes = [home(office) for office in offices]
            did = [went for went in await asyncio.gather(*(each.look() for each in homes)) if went is not None]
            assert did == [{}]
            time.pass_by(200)
            assert [await each.look() for each in homes] == [None] * 3
            time.pass_by(200)
            assert [await each.look() for each in homes] == [{}, None, None]

    run(main())


def test_a_node_that_stops_half_way_is_replaced_and_does_nothing_more_when_it_comes_back(fresh_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(forgetting, "_MOST_AT_ONCE", 1)
        time = Time()
        async with site(fresh_settings, time) as here:
            node, other = ByHand(await here.office("a")), await here.office("b")
            store, desk = node.office.store, queue(node.office)
            await ended(node, desk, YES, 3)
            time.pass_by(2 * DAY)
            await node.round(0)
            stalled, go_on = asyncio.Event(), asyncio.Event()
            slow = home(node.office)
            look = forgetting.contents

            async def stalling(*given):
                if await counted(store, "message_content") == 2 and not go_on.is_set():
                    stalled.set()
                    await go_on.wait()
                return await look(*given)

            monkeypatch.setattr(forgetting, "contents", stalling)
            first = asyncio.create_task(slow.look())
            await stalled.wait()
            second = home(other)
            assert await second.look() is None
            time.pass_by(61)
            monkeypatch.setattr(forgetting, "contents", look)
            assert (await second.look())["contents"] == 2
            late = await ended(node, desk, YES)
            time.pass_by(2 * DAY)
            before = await store.rows("SELECT * FROM housekeeping")
            go_on.set()
            assert (await first)["contents"] == 1
            assert await store.rows("SELECT * FROM housekeeping") == before
            assert await content_kept(store) == set(late)
            await ensure_books_are_right(store)

    run(main())


def test_the_outbox_keeps_house_by_itself_on_nodes_that_work_only_and_a_failure_ends_nothing(
    sqlite_settings, monkeypatch, caplog
):
    async def main():
        monkeypatch.setattr(housekeeping, "_LOOK_SECONDS", 0.01)
        looks = []

        async def failing(self):
            looks.append(self._office.name)
            raise RuntimeError("of the test")

        monkeypatch.setattr(Housekeeping, "look", failing)
        async with site(sqlite_settings) as here:
            idle, works = await here.outbox("idle"), await here.outbox("works")
            idle.start(works=False)
            works.start(works=True)
            await until(lambda: len(looks) > 2)
        assert set(looks) == {"works"}

    run(main())
    assert "housekeeping failed" in caplog.text


def test_how_long_things_are_kept_comes_from_the_settings():
    chosen = Settings(
        keep_accepted_content_days=2,
        keep_failed_content_days=3,
        keep_accepted_days=4,
        keep_failed_days=5,
        outbox_megabytes=6,
    )
    days = [timedelta(days=number) for number in (2, 3, 4, 5)]
    assert sending.keeping(chosen) == Keeping(*days, most=6 * 1024 * 1024)
    assert sending.keeping(Settings()) == Keeping()


# --- Disk space ----------------------------------------------------------------------------------------------


def size_of(settings):
    return settings.sqlite_file.stat().st_size


def test_the_file_shrinks_when_much_of_it_is_free(sqlite_settings, monkeypatch):
    async def main():
        monkeypatch.setattr(sqlite, "_SPARE_PAGES", 100)
        async with site(sqlite_settings) as here:
            node = ByHand(await here.office())
            store, desk = node.office.store, queue(node.office)
            await ended(node, desk, YES, 20, body=LINE * 2000)
            await submit(desk, letter())
            await store.perform(checkpoint())
            before = size_of(sqlite_settings)
            given, give_back = [], store.give_back

            async def counting():
                given.append(await give_back())
                return given[-1]

            monkeypatch.setattr(store, "give_back", counting)
            went = await home(node.office, Keeping(accepted_content=timedelta(0))).look()
            await store.perform(checkpoint())
            assert before - size_of(sqlite_settings) == pytest.approx(went["disk octets"], abs=300_000)
            assert went["disk octets"] > 3_000_000
            assert len(given) < 10  # a step is a megabyte
            assert await counted(store, "message_content") == 1
            assert await store.rows("PRAGMA integrity_check") == [("ok",)]

    def checkpoint():
        yield "COMMIT", ()
        yield "PRAGMA wal_checkpoint(TRUNCATE)", ()
        yield "BEGIN", ()

    run(main())


def test_a_file_with_little_free_space_is_left_as_it_is(sqlite_settings):
    async def main():
        store = await open_store(sqlite_settings)
        assert await store.give_back() == 0
        await store.close()

    run(main())


def test_a_file_that_was_made_before_can_shrink_from_the_migration_on(tmp_path):
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE of_before (text TEXT)")
        connection.execute("INSERT INTO of_before VALUES ('kept')")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()
    migrate_sqlite(file)
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("SELECT text FROM of_before").fetchone() == ("kept",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_migration_goes_on_when_somebody_uses_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("keyrelay.store.schema._PATIENCE_SECONDS", 0.2)
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE of_before (text TEXT)")
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM of_before").fetchall()
    migrate_sqlite(file)
    reader.close()
    connection.close()
