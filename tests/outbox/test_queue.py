"""Taking in: durable when ``submit`` returns, many with one commit, and what is answered when something is wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from keyrelay.errors import KeyReused, OutboxFull, StoreUnavailable
from keyrelay.outbox.queue import PRIORITIES, Key, Order
from keyrelay.outbox.records import moment
from keyrelay.secrets.rotation import rotate
from outboxes import Time, ensure_books_are_right, eventually, kept, letter, octets_of, queue, shown, site, submit
from relaying import run


class Counting:
    """A store that counts its transactions, and fails or waits as a test says."""

    def __init__(self, store) -> None:
        self._perform = store.perform
        self.transactions = 0
        self.lengths: list[str | None] = []
        self.failing = False
        self.gate: asyncio.Event | None = None
        self.ending: asyncio.Event | None = None
        store.perform = self.perform

    async def perform(self, work, **more):
        self.transactions += 1
        self.lengths.append(more.get("length"))
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise StoreUnavailable("away")
        result = await self._perform(work, **more)
        if self.ending is not None:
            await self.ending.wait()
        return result


@pytest.fixture
def on_site(sqlite_settings):
    return _runner(sqlite_settings)


@pytest.fixture
def on_both(fresh_settings):
    return _runner(fresh_settings)


def _runner(settings):
    def go(test, clocks: Time | None = None) -> None:
        async def main() -> None:
            async with site(settings, clocks) as made:
                await test(made)
                await ensure_books_are_right(made.store)

        run(main())

    return go


def keyed(text: str, digest: str = "same", by: str = "me") -> Order:
    return Order(by, key=Key(text, digest))


def test_what_was_taken_in_is_kept_as_it_was_and_encrypted(on_both):
    async def test(made):
        office = await made.office()
        one = letter("Ada@example.org", "bob@example.org", body=b"the secret word\r\n", needs_8bit=True)
        (name,) = await submit(queue(office), one, priority=PRIORITIES["high"])
        found = await shown(made.store, name)
        assert (found.message_id, found.sender, found.submitted_by) == (one.message_id, "pki@example.org", "me")
        assert (found.size, found.priority, found.needs_8bit, found.state) == (len(one.content), 1, True, "queued")
        assert [each.address for each in found.recipients] == ["Ada@example.org", "bob@example.org"]
        assert await octets_of(office, name) == one.content
        rows = await made.store.rows("SELECT sealed FROM message_content")
        assert b"secret word" not in bytes(rows[0][0])
        rows = await made.store.rows("SELECT address FROM message_recipient ORDER BY address")
        assert [address for (address,) in rows] == ["ada@example.org", "bob@example.org"]

    on_both(test)


def test_many_who_come_together_share_few_transactions(on_both):
    async def test(made):
        office = await made.office()
        told: list[None] = []
        counting = Counting(office.store)
        counting.gate = asyncio.Event()
        desk = queue(office, taken_in=lambda: told.append(None))
        letters = [letter() for _ in range(300)]
        async with asyncio.TaskGroup() as group:
            handing_in = group.create_task(submit(desk, *letters))
            # Until all have come, some into the first transaction.
            while desk._octets < sum(len(one.content) for one in letters):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.002)
            counting.gate.set()
        names = handing_in.result()
        assert len(set(names)) == 300
        assert set(await kept(made.store)) == set(names)
        assert 3 <= counting.transactions == len(told) <= 4, "128 at once, and perhaps one for the first alone"

    on_both(test)


def test_large_messages_do_not_share_a_transaction_without_end(on_site):
    async def test(made):
        office = await made.office()
        counting = Counting(office.store)
        line = b"x" * 98 + b"\r\n"
        await submit(queue(office), *(letter(body=line * 60_000) for _ in range(6)))
        assert counting.transactions == 3

    on_site(test)


def test_recipients_take_room_in_a_transaction_as_well(on_site):
    async def test(made):
        office = await made.office()
        counting = Counting(office.store)
        many = [f"r{number}@example.org" for number in range(6_000)]
        await submit(queue(office), *(letter(*many) for _ in range(6)))
        assert counting.transactions == 3
        assert counting.lengths == ["long"] * 3

    on_site(test)


def test_others_have_their_turn_between_two_transactions(on_site):
    async def test(made):
        office = await made.office()
        desk, turns, at = queue(office), [0], []

        def turn() -> None:
            turns[0] += 1
            asyncio.get_running_loop().call_soon(turn)

        turn()
        perform = office.store.perform

        async def noted(work, **more):
            at.append(turns[0])
            return await perform(work, **more)

        office.store.perform = noted
        await submit(desk, *(letter() for _ in range(400)))
        assert len(at) == len(set(at)) >= 3

    on_site(test)


def test_whoever_comes_while_a_transaction_is_under_way_shares_the_next_one(on_both):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.ending = asyncio.Event()
        first = asyncio.create_task(submit(desk))
        await eventually(lambda: _true(counting.transactions == 1), "it waits for company")
        await eventually(lambda: _are_kept(made.store, 1), "it waits for company")
        others = [asyncio.create_task(submit(desk)) for _ in range(20)]
        await asyncio.sleep(0.05)
        counting.ending.set()
        await asyncio.gather(first, *others)
        assert counting.transactions == 2

    on_both(test)


def test_whoever_comes_while_another_process_writes_shares_the_transaction_that_waits(on_site, sqlite_settings):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        with closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.create_task(submit(desk))
            await eventually(lambda: _true(counting.transactions == 1), "it waits for company")
            others = [asyncio.create_task(submit(desk)) for _ in range(20)]
            await asyncio.sleep(0.05)
            other.execute("COMMIT")
        names = await asyncio.gather(first, *others)
        assert counting.transactions == 1
        assert set(await kept(made.store)) == {name for (name,) in names}
        assert len(set(await kept(made.store))) == 21

    on_site(test)


async def _are_kept(store, number: int) -> bool:
    return len(await kept(store)) == number


async def _true(value: bool) -> bool:
    return value


def test_a_database_that_fails_tells_every_caller_and_the_next_ones_are_taken_in(on_both):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.failing = True
        answers = await asyncio.gather(*(submit(desk) for _ in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
        assert await kept(made.store) == {}
        counting.failing = False
        (name,) = await submit(desk)
        assert set(await kept(made.store)) == {name}

    on_both(test)


def test_the_message_of_a_caller_who_went_away_is_taken_in(on_site):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.gate = asyncio.Event()
        gone, stays = asyncio.create_task(submit(desk)), asyncio.create_task(submit(desk))
        await eventually(lambda: _true(counting.transactions == 1), "nothing is committed")
        gone.cancel()
        await asyncio.sleep(0)
        counting.gate.set()
        (name,) = await stays
        with pytest.raises(asyncio.CancelledError):
            await gone
        await desk.close()
        found = await kept(made.store)
        assert len(found) == 2
        assert name in found

    on_site(test)


def test_close_returns_when_everything_that_was_handed_in_is_committed(on_site):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.gate = asyncio.Event()
        handed_in = [asyncio.create_task(submit(desk)) for _ in range(200)]
        await eventually(lambda: _true(counting.transactions == 1), "nothing is committed")
        closing = asyncio.create_task(desk.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        counting.gate.set()
        await closing
        assert len(await kept(made.store)) == 200
        await asyncio.gather(*handed_in)

    on_site(test)


# --- Idempotency-Key -----------------------------------------------------------------------------------------


def test_the_same_key_and_submission_again_gets_the_first_answer(on_both):
    async def test(made):
        desk = queue(await made.office())
        first = await desk.submit(letter(), keyed("k"))
        again = await desk.submit(letter(), keyed("k"))
        assert (first.repeated, again.repeated, again.id) == (False, True, first.id)
        assert len(await kept(made.store)) == 1

    on_both(test)


def test_the_same_key_for_another_submission_is_refused_and_stops_nobody(on_both):
    async def test(made):
        desk = queue(await made.office())
        await desk.submit(letter(), keyed("k"))
        one, two, three = await asyncio.gather(
            desk.submit(letter(), keyed("k", "other")),
            desk.submit(letter(), keyed("k", by="you")),
            desk.submit(letter(), keyed("l")),
            return_exceptions=True,
        )
        assert isinstance(one, KeyReused)
        assert not two.repeated, "a key is the caller's own"
        assert not three.repeated
        assert len(await kept(made.store)) == 3

    on_both(test)


def test_one_key_that_comes_twice_at_once_is_taken_in_once_on_whatever_node(on_both):
    async def test(made):
        desks = [queue(await made.office(name)) for name in "ab"]
        answers = await asyncio.gather(
            *(desk.submit(letter(), keyed(f"k{number % 10}")) for number in range(40) for desk in desks)
        )
        assert len({answer.id for answer in answers}) == 10
        assert sum(not answer.repeated for answer in answers) == 10
        assert set(await kept(made.store)) == {answer.id for answer in answers}

    on_both(test)


def test_a_key_whose_transaction_failed_is_free(on_site):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.failing = True
        with pytest.raises(StoreUnavailable):
            await desk.submit(letter(), keyed("k"))
        counting.failing = False
        assert not (await desk.submit(letter(), keyed("k", "other"))).repeated

    on_site(test)


# --- Encryption, room, time ----------------------------------------------------------------------------------


def test_a_data_key_that_is_thrown_away_between_sealing_and_committing_is_replaced_by_the_new_one(on_both):
    async def test(made):
        office = await made.office()
        desk, counting = queue(office), Counting(office.store)
        counting.gate = asyncio.Event()
        submitting = asyncio.create_task(submit(desk, letter(), letter()))
        await eventually(lambda: _true(counting.transactions == 1), "nothing is committed")
        other = await made.another_store()
        await rotate(other, await made.keyring(other))
        ((newest, number),) = await other.rows("SELECT MAX(id), COUNT(*) FROM data_key")
        assert number == 1, "the old key is gone"
        counting.gate.set()
        for name in await submitting:
            assert (await octets_of(office, name)).startswith(b"Message-ID")
        assert {key for (key,) in await other.rows("SELECT key_id FROM message_content")} == {newest}

    on_both(test)


def test_an_outbox_that_is_full_refuses_early_and_keeps_what_it_has(on_site):
    async def test(made):
        office = await made.office()
        size = len(letter().content)
        desk = queue(office, most=size * 10)
        answers = await asyncio.gather(*(submit(desk) for _ in range(15)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {type(answer) for answer in refused} == {OutboxFull}
        assert len(await kept(made.store)) == 15 - len(refused)
        assert 8 <= 15 - len(refused) <= 10

    on_site(test)


def test_what_is_to_go_later_is_not_due_before(on_site):
    clocks = Time()

    async def test(made):
        desk = queue(await made.office())
        later = clocks.wall + timedelta(hours=3)
        await submit(desk, send_after=later)
        await submit(desk, send_after=clocks.wall - timedelta(hours=3))
        rows = await made.store.rows("SELECT due_at, release_at FROM message ORDER BY release_at IS NULL, id")
        (first, second) = rows
        assert (first[0], moment(first[1])) == (None, later)
        assert (moment(second[0]), second[1]) == (clocks.wall, None)

    on_site(test, clocks)
