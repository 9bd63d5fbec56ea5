"""Keys are rotated while messages come in and go out: every content stays readable, and what was handed in."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from types import MethodType
from typing import Any

import pytest
from test_housekeeping import ensure_books_are_right

from keyrelay.outbox import content, rotation
from keyrelay.outbox.housekeeping import Housekeeping, Keeping
from keyrelay.outbox.rotation import reseal
from keyrelay.secrets.rotation import Rotated, rotate
from keyrelay.server import Node
from live import run_keyrelay
from outboxes import YES, ByHand, CountingRelay, letter, queue, said, site, submit, until_all_are
from relaying import run

LINE = b"x" * 98 + b"\r\n"


class Interrupted(Exception):
    """What ends a rotation half-way here; elsewhere it would be a signal or a power cut."""


class InterruptedStore:
    """A store whose transactions fail from the given one on, just before they are committed or just after."""

    def __init__(self, store: Any, *, after: int, committed: bool) -> None:
        self._store = store
        self._left = after
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def change(self, *topics: Any):
        self._left -= 1
        async with self._store.change(*topics) as change:
            yield change
            if self._left < 0 and not self._committed:
                raise Interrupted
        if self._left < 0:
            raise Interrupted

    async def perform(self, work: Any, **more: Any) -> Any:
        self._left -= 1

        def cut():
            result = yield from work
            if self._left < 0 and not self._committed:
                raise Interrupted
            return result

        result = await self._store.perform(cut(), **more)
        if self._left < 0:
            raise Interrupted
        return result


async def handed_in(entrance, number, **more):
    """So many messages: their contents by id."""
    letters = [letter(**more) for _ in range(number)]
    return dict(zip(await submit(entrance, *letters), (bytes(each.content) for each in letters), strict=True))


async def read(office, names):
    return {name: bytes(await content.reveal(office.store, office.keyring, name) or b"") for name in names}


async def keys(store):
    return [number for (number,) in await store.rows("SELECT id FROM data_key ORDER BY id")]


async def used_keys(store):
    return {number for (number,) in await store.rows("SELECT DISTINCT key_id FROM message_content")}


async def rotate_all(office):
    return await rotate(office.store, office.keyring, reseal_contents=reseal)


def test_after_a_rotation_every_content_is_readable_and_the_old_key_is_gone(fresh_settings, monkeypatch):
    monkeypatch.setattr(rotation, "_LOOKED_AT", 20)

    async def main():
        async with site(fresh_settings) as here:
            office, elsewhere = await here.office("a"), await here.office("b")
            contents = await handed_in(queue(office), 50)
            heard = []
            done = await rotate(
                office.store, office.keyring, reseal_contents=lambda store, ring: reseal(store, ring, heard.append)
            )
            assert done == Rotated(2, 0, 0, 1, 50)
            assert heard == [20, 40, 50]
            assert await keys(office.store) == [2]
            assert await read(office, contents) == contents
            assert await read(elsewhere, contents) == contents
            assert await rotate_all(elsewhere) == Rotated(3, 0, 0, 1, 50)

    run(main())


def test_a_group_has_no_more_octets_than_a_short_transaction_can_take(fresh_settings, monkeypatch):
    monkeypatch.setattr(rotation, "_MOST_OCTETS", 25_000)

    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            desk = queue(office)
            contents = await handed_in(desk, 6, body=LINE * 100)  # ten kilobytes each
            contents |= await handed_in(desk, 1, body=LINE * 300)
            heard = []
            await rotate(
                office.store, office.keyring, reseal_contents=lambda store, ring: reseal(store, ring, heard.append)
            )
            assert heard == [2, 4, 6, 7]
            assert await read(office, contents) == contents

    run(main())


def test_a_rotation_that_knows_nothing_of_messages_leaves_them_their_key(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            contents = await handed_in(queue(office), 3)
            assert await rotate(office.store, office.keyring) == Rotated(2, 0, 0, 0)
            assert await keys(office.store) == [1, 2]
            assert await read(office, contents) == contents
            assert await rotate_all(office) == Rotated(3, 0, 0, 2, 3)

    run(main())


@pytest.mark.parametrize("committed", [True, False])
def test_a_rotation_may_be_interrupted_at_every_transaction(fresh_settings, monkeypatch, committed):
    monkeypatch.setattr(rotation, "_LOOKED_AT", 10)

    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            contents = await handed_in(queue(office), 25)
            # A new key, one look for secrets, three groups of messages, the audit trail's key, the old keys dropped.
            for transactions in range(7):
                store = InterruptedStore(office.store, after=transactions, committed=committed)
                with pytest.raises(Interrupted):
                    await rotate(store, await here.keyring(office.store), reseal_contents=reseal)
                assert await read(office, contents) == contents
                assert await read(await here.office(), contents) == contents
                await rotate_all(office)
                assert await used_keys(office.store) == set(await keys(office.store))
            store = InterruptedStore(office.store, after=7, committed=committed)
            await rotate(store, await here.keyring(office.store), reseal_contents=reseal)
            assert await read(office, contents) == contents

    run(main())


def test_a_content_that_cannot_be_opened_holds_up_no_other_and_keeps_its_key(fresh_settings, monkeypatch):
    monkeypatch.setattr(rotation, "_LOOKED_AT", 2)

    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            contents = await handed_in(queue(office), 7)
            damaged = sorted(contents)[3]
            async with office.store.change() as change:
                await change.run("UPDATE message_content SET sealed = $1 WHERE message = $2", b"\0" * 40, damaged)
            assert await rotate_all(office) == Rotated(2, 0, 0, 0, 6)
            assert await keys(office.store) == [1, 2]
            del contents[damaged]
            assert await read(office, contents) == contents

    run(main())


def test_keys_that_are_rotated_several_times_while_a_message_comes_in_do_not_refuse_it(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            office, deaf = await here.office("a"), await here.office("deaf")
            await rotate_all(office)
            reload, times = deaf.keyring.reload, []

            async def overtaken(self, reader):
                await reload(reader)
                if len(times) < 4:
                    times.append(await rotate_all(office))

            deaf.keyring.reload = MethodType(overtaken, deaf.keyring)
            deaf.keyring.refresh = MethodType(lambda *_: asyncio.sleep(0), deaf.keyring)
            contents = await handed_in(queue(deaf), 3)
            assert len(times) == 4
            assert await read(office, contents) == contents

    run(main())


def test_a_node_that_hears_nothing_of_rotations_goes_on_taking_messages_in(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            office, deaf = await here.office("a"), await here.office("deaf")
            reloads = []
            reload = deaf.keyring.reload

            async def counting(self, reader):
                reloads.append(None)
                await reload(reader)

            deaf.keyring.reload = MethodType(counting, deaf.keyring)
            deaf.keyring.refresh = MethodType(lambda *_: asyncio.sleep(0), deaf.keyring)
            entrance, contents = queue(deaf), {}
            done = asyncio.Event()

            async def client():
                while not done.is_set():
                    contents.update(await handed_in(entrance, 2))
                    await asyncio.sleep(0.05)

            clients = [asyncio.create_task(client()) for _ in range(3)]
            dropped = 0
            for _ in range(200):
                dropped += (await rotate_all(office)).dropped
                if len(reloads) >= 3 and len(contents) > 50:
                    break
            done.set()
            await asyncio.gather(*clients)
            assert len(reloads) >= 3, "no key was ever thrown away under a node that still used it"
            assert dropped
            assert await read(office, contents) == contents
            await rotate_all(office)
            assert len(await keys(office.store)) == 1
            assert await read(deaf, contents) == contents
            await ensure_books_are_right(office.store)

    run(main())


def test_a_rotation_whose_key_another_one_has_thrown_away_takes_the_newest(fresh_settings):
    async def main():
        async with site(fresh_settings) as here:
            office = await here.office()
            contents = await handed_in(queue(office), 5)
            deaf = await here.keyring(office.store)
            for _ in range(2):
                async with office.store.change("keys") as change:
                    await deaf.add_key(change)
                if deaf.current == 1:
                    await deaf.refresh(office.store)
            deaf.refresh = MethodType(lambda *_: asyncio.sleep(0), deaf)
            assert deaf.current == 2
            async with office.store.change("keys") as change:
                await change.run("DELETE FROM data_key WHERE id = 2")
            heard = []
            await reseal(office.store, deaf, heard.append)
            assert heard == [5]
            assert await used_keys(office.store) == {3}
            assert await read(office, contents) == contents

    run(main())


def test_what_goes_out_while_contents_are_encrypted_anew_is_what_was_handed_in(fresh_settings, monkeypatch):
    monkeypatch.setattr(rotation, "_LOOKED_AT", 7)

    async def main():
        relay = CountingRelay()
        async with relay.listening(), site(fresh_settings) as here:
            here.aim(relay.port)
            outbox, elsewhere = await here.outbox(), await here.office("b")
            outbox.start(works=True)
            handed, done = {}, asyncio.Event()

            async def client():
                for _ in range(40):
                    handed.update(await handed_in(outbox, 3, body=LINE))
                    await asyncio.sleep(0.01)

            async def rotations():
                number = 0
                while not done.is_set():
                    await rotate_all(elsewhere)
                    number += 1
                return number

            rotating = asyncio.create_task(rotations())
            await asyncio.gather(client(), client())
            await until_all_are(outbox.office.store, "accepted")
            done.set()
            assert await rotating > 1
            assert sorted(taken.content for taken in relay.taken) == sorted(handed.values())
            states = await outbox.office.store.rows("SELECT DISTINCT state, attempts FROM message")
            assert [tuple(row) for row in states] == [("accepted", 1)]

    run(main())


def test_rotations_at_once_and_housekeeping_beside_them_get_in_nobodys_way(fresh_settings, monkeypatch):
    monkeypatch.setattr(rotation, "_LOOKED_AT", 5)

    async def main():
        async with site(fresh_settings) as here:
            node, second = ByHand(await here.office("a")), await here.office("b")
            store, desk = node.office.store, queue(node.office)
            done = await handed_in(desk, 60)
            for claim in (await node.round()).claims:
                node.settle(claim, said(claim, {"ops@example.org": YES}))
            await node.round(0)
            waiting = await handed_in(desk, 30)
            nothing = Keeping(accepted_content=timedelta(0))
            house = Housekeeping(await here.office("c"), nothing, pause=0)
            _, went, _ = await asyncio.gather(rotate_all(node.office), house.look(), rotate_all(second))
            assert went["contents"] == len(done)
            assert await read(second, waiting) == waiting
            await rotate_all(second)
            assert len(await keys(store)) == 1
            assert await read(node.office, waiting) == waiting
            await ensure_books_are_right(store)

    run(main())


def test_the_command_rotates_the_keys_of_messages_and_says_how_many(sqlite_settings):
    async def fill():
        node = await Node.open(sqlite_settings)
        await node.outbox.office.open()
        contents = await handed_in(node.outbox, 5)
        await node.close()
        return contents

    async def look(contents):
        node = await Node.open(sqlite_settings)
        assert await read(node.outbox.office, contents) == contents
        await node.close()

    contents = asyncio.run(fill())
    done = run_keyrelay({"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir)}, "keys", "rotate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "5 messages encrypted anew",
        "Data key 2 is in use; old keys thrown away: 1.",
    ]
    asyncio.run(look(contents))
