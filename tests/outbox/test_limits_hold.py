"""Limits that hold for all nodes together, measured where they matter: at the relay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from counting_relay import CountingRelay
from keyrelay.outbox.budget import PRESETS, Limits
from keyrelay.profile.model import Anonymous, SmtpProfile
from keyrelay.server import Node
from live import clean_environment, keyrelay
from outboxes import (
    SOON,
    ByHand,
    Time,
    ensure_books_are_right,
    eventually,
    everybody,
    kept,
    letter,
    per,
    site,
    submit,
    tallies,
    until_all_are,
)
from relaying import run

on_postgresql = pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)


async def _true(value: bool) -> bool:
    return value


@asynccontextmanager
async def three_nodes(settings, relay: CountingRelay, clocks: Time | None = None, **more):
    async with relay.listening(), site(settings, clocks) as made:
        made.aim(relay.port)
        nodes = [await made.outbox(name, **{"policy": SOON} | more) for name in ("one", "two", "three")]
        for node in nodes:
            node.start(works=True)
        yield made, nodes
        for node in nodes:
            await node.close()
        await ensure_books_are_right(made.store)


@on_postgresql
def test_three_nodes_keep_the_limits_in_every_sliding_window(fresh_settings):
    async def main():
        relay = CountingRelay()
        limits = Limits(3, per(2, messages=30))
        async with three_nodes(fresh_settings, relay, limits=limits) as (made, nodes):
            for at in range(100):
                await submit(nodes[at % 3])
            await until_all_are(made.store, "accepted", 30)
        assert len(relay.whole) == 100
        assert relay.most_within(2) <= 30
        assert relay.peak <= 3
        took = relay.whole[-1].at - relay.whole[0].at
        assert took < 3 * 2 + 4, "three windows have to go by, and no more"

    run(main())


@on_postgresql
def test_the_figures_of_a_preset_hold_on_three_nodes(fresh_settings):
    """On clocks that run twenty times as fast: several of its minutes in a test."""

    async def main():
        clocks = Time(rate=20)
        relay = CountingRelay(now=clocks.ticks)
        limits = PRESETS["office365"].limits
        async with three_nodes(fresh_settings, relay, clocks, limits=limits, lease=timedelta(minutes=10)) as (
            made,
            nodes,
        ):
            await submit(nodes[0], *(letter() for _ in range(110)))
            deadline = time.monotonic() + 30
            while (await tallies(made.store)).get("accepted", 0) < 75:
                assert time.monotonic() < deadline
                for node in nodes:
                    node.wake()
                await asyncio.sleep(0.05)
        assert relay.most_within(60) <= 30
        assert relay.peak <= 3

    run(main())


@on_postgresql
def test_many_recipients_of_one_message_are_counted_one_by_one(fresh_settings):
    async def main():
        relay = CountingRelay()
        limits = Limits(rates=per(1, recipients=20))
        async with three_nodes(fresh_settings, relay, limits=limits) as (made, nodes):
            many = [f"r{number}@example.org" for number in range(50)]
            await submit(nodes[0], letter(*many), letter(), letter("a@example.org", "b@example.org"))
            await until_all_are(made.store, "accepted")
        got = sorted(to for one in relay.whole for to in one.recipients)
        assert got == sorted([*many, "ops@example.org", "a@example.org", "b@example.org"])
        assert relay.most_within(1, lambda one: len(one.recipients)) <= 20

    run(main())


def test_connections_are_never_more_while_nodes_come_and_go(fresh_settings):
    async def main():
        async def slowly():
            await asyncio.sleep(0.01)

        relay = CountingRelay(lambda stage, _: slowly() if stage in {"body", "quit"} else None)
        limits = Limits(3)
        async with three_nodes(fresh_settings, relay, limits=limits, lease=timedelta(seconds=3)) as (made, nodes):
            handed_in = 0
            for turn in range(6):
                another = await made.outbox(f"guest-{turn}", policy=SOON, limits=limits, lease=timedelta(seconds=3))
                another.start(works=True)
                handed_in += len(await submit(nodes[turn % 3], *(letter() for _ in range(15))))
                await asyncio.sleep(0.15)
                await another.close()
            await until_all_are(made.store, "accepted", 40)
            assert {one.unknown for one in await everybody(made.store)} == {0}
        assert relay.peak <= 3
        assert len(relay.whole) == handed_in

    run(main())


def test_a_node_closes_its_connections_before_it_leaves_them_to_others(sqlite_settings):
    async def main():
        slow = [False]

        async def slowly():
            await asyncio.sleep(0.8)

        relay = CountingRelay(lambda stage, _: slowly() if stage == "quit" and slow[0] else None)
        limits = Limits(1)
        async with relay.listening(), site(sqlite_settings) as made:
            made.aim(relay.port)
            leaving = await made.outbox("leaving", limits=limits, policy=SOON)
            leaving.start(works=True)
            await submit(leaving)
            await until_all_are(made.store, "accepted")
            assert relay.open == 1
            staying = await made.outbox("staying", limits=limits, policy=SOON)
            staying.start(works=True)
            slow[0] = True
            closing = asyncio.create_task(leaving.close())
            await submit(staying)
            while not closing.done():
                staying.wake()
                await asyncio.sleep(0.02)
            await until_all_are(made.store, "accepted")
            assert relay.peak == 1

    run(main())


def test_what_a_node_opens_while_it_learns_that_it_may_have_fewer_is_counted(sqlite_settings):
    async def main():
        go_on, opened = asyncio.Event(), asyncio.Event()

        async def never():
            await opened.wait()

        relay = CountingRelay(lambda stage, _: never() if stage == "body" else None)
        limits = Limits(3)
        async with relay.listening(), site(sqlite_settings) as made:
            made.aim(relay.port)
            first = await made.outbox("first", limits=limits, policy=SOON)

            async def at_last():
                await go_on.wait()
                return made.snapshot

            first.mailer._snapshot = at_last  # its attempts are slow to begin
            first.start(works=True)
            await submit(first, *(letter() for _ in range(3)))
            await eventually(lambda: _true(len(first._worker._in_hand) == 3), "nothing is claimed")
            second = ByHand(await made.office("second", limits=limits))
            assert (await second.round()).connections == 0
            store = first.office.store
            perform, granted = store.perform, []

            async def slow(work, **more):
                given = await perform(work, **more)
                go_on.set()
                await eventually(lambda: _true(relay.open == 3), "they are not opened")
                granted.append((await second.round()).connections)
                return given

            store.perform = slow
            first.wake()
            await eventually(lambda: _true(bool(granted)), "no round")
            assert granted[0] + relay.open <= 3
            store.perform = perform
            opened.set()
            await until_all_are(made.store, "accepted")

    run(main())


def test_a_node_that_may_have_no_connection_any_more_gives_back_what_it_has_not_begun(sqlite_settings):
    async def main():
        go_on = asyncio.Event()

        async def at_last():
            await go_on.wait()

        relay = CountingRelay(lambda stage, _: at_last() if stage == "body" else None)
        limits = Limits(1)
        async with relay.listening(), site(sqlite_settings) as made:
            made.aim(relay.port)
            had = await made.outbox("z", limits=limits, policy=SOON)
            had._worker._rate = 1000.0  # it was busy, and claims ahead
            had.start(works=True)
            await submit(had, *(letter() for _ in range(5)))
            await eventually(lambda: _true(len(relay.whole) == 1), "nothing arrives")
            assert len(had._worker._in_hand) > 1
            gets = await made.outbox("a", limits=limits, policy=SOON)
            gets.start(works=True)
            await asyncio.sleep(0.1)
            had.wake()
            await asyncio.sleep(0.1)
            go_on.set()

            async def done() -> bool:
                had.wake()
                gets.wake()
                return (await tallies(made.store)).get("accepted") == 5

            await eventually(done, "some are stranded with a node that may not send them", 8)
            assert relay.peak == 1
            assert len(relay.whole) == 5

    run(main())


def _worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([keyrelay(), "worker"], env=environment, stdout=subprocess.DEVNULL)


@on_postgresql
def test_a_killed_worker_gives_its_connection_back_after_its_lease(fresh_settings):
    """Real processes, one connection for all, and SIGKILL for the one that has it."""

    async def main():
        hanging = [True]
        never = asyncio.Event()
        relay = CountingRelay(lambda stage, _: never.wait() if stage == "body" and hanging[0] else None)
        node = await Node.open(fresh_settings)
        workers: list[subprocess.Popen[bytes]] = []
        environment = clean_environment() | {
            "KEYRELAY_DATA_DIR": str(fresh_settings.data_dir),
            "KEYRELAY_DATABASE_URL": fresh_settings.database_url,
            "KEYRELAY_NAME_SERVERS": "",
            "KEYRELAY_RELAY_CONNECTIONS": "1",
            "KEYRELAY_LEASE_SECONDS": "5",
            "KEYRELAY_RETRY_WAITS": "1",
        }
        try:
            async with relay.listening():
                profile = SmtpProfile("127.0.0.1", relay.port, False, "pki@example.org", "PKI", Anonymous())
                await node.keeper.replace(profile, by="me")
                await submit(node.outbox, letter(), letter())
                workers += [_worker(environment), _worker(environment)]
                await eventually(lambda: _true(len(relay.whole) == 1), "nothing arrives")
                hanging[0] = False
                (owner,) = {one.lease for one in (await kept(node.store)).values() if one.lease}
                names = await node.store.rows("SELECT name FROM node WHERE id = $1", owner)
                os.kill(int(names[0][0].rpartition(":")[2]), signal.SIGKILL)
                killed = time.monotonic()
                never.set()
                await until_all_are(node.store, "accepted", 40)
                assert relay.whole[1].at - killed > 3, "before its lease was over"
                assert relay.peak == 1
                assert sorted(one.unknown for one in await everybody(node.store)) == [0, 1]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            await node.close()

    run(main())
