"""Somebody turns the wall clock by an hour: nothing is lost, nothing stalls, no limit is broken."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from counting_relay import CountingRelay
from keyrelay.outbox.budget import Limits
from outboxes import (
    HOUR,
    SOON,
    UNKNOWN,
    ByHand,
    Time,
    ensure_books_are_right,
    eventually,
    kept,
    letter,
    per,
    policy,
    queue,
    said,
    shown,
    site,
    submit,
    until_all_are,
)
from relaying import run

by_an_hour = pytest.mark.parametrize("turned", [HOUR, -HOUR], ids=["forward", "back"])


def on(settings, test) -> None:
    async def main() -> None:
        clocks = Time()
        async with site(settings, clocks) as made:
            await test(made, clocks)
            await ensure_books_are_right(made.store)

    run(main())


@by_an_hour
def test_whatever_waits_is_tried_when_its_wait_is_over(sqlite_settings, turned):
    async def test(made, clocks):
        (name,) = await submit(queue(await made.office("in")))
        node = ByHand(await made.office())
        (claim,) = (await node.round()).claims
        node.settle(claim, UNKNOWN)
        await node.round()
        clocks.turn(turned)
        clocks.pass_by(40)
        assert (await node.round()).claims == ()
        clocks.pass_by(40)
        assert [one.id for one in (await node.round()).claims] == [name]

    on(sqlite_settings, test)


@by_an_hour
def test_no_lease_and_no_life_ends_early_or_late(fresh_settings, turned):
    async def test(made, clocks):
        short = policy(life=timedelta(minutes=30))
        names = await submit(queue(await made.office("in", policy=short)), letter(), letter())
        one, other = ByHand(await made.office("one", policy=short)), ByHand(await made.office("other", policy=short))
        await other.round(0)
        held = (await one.round(1)).claims[0].id
        (waits,) = {*names} - {held}
        clocks.turn(turned)
        await other.round(0)
        assert (await kept(made.store))[held].lease == one.office.node
        assert (await shown(made.store, waits)).state == "queued"
        for _ in range(4):
            clocks.pass_by(11)
            await other.round(0)
        assert (await kept(made.store))[held].lease is None, "that node is gone"
        clocks.pass_by(1800)
        await other.round()
        assert {(await shown(made.store, name)).state for name in (held, waits)} == {"expired"}

    on(fresh_settings, test)


@by_an_hour
@pytest.mark.parametrize("restarted", [False, True])
def test_a_limit_is_not_broken_by_more_than_a_window(sqlite_settings, turned, restarted):
    """A node that starts just then cannot know that the clock was turned, and may begin one window anew."""

    async def test(made, clocks):
        limits = Limits(rates=per(60, messages=5))
        await submit(queue(await made.office("in")), *(letter() for _ in range(100)))
        node = ByHand(await made.office(limits=limits))
        sent = []
        for second in range(240):
            if second == 100:
                clocks.turn(turned)
                if restarted:
                    await node.rounds.sign_out()
                    node = ByHand(await made.office(limits=limits))
            for claim in (await node.round(3)).claims:
                sent.append(clocks.ticks())
                node.settle(claim, said(claim))
            clocks.pass_by(1)
        most = max(sum(first <= at < first + 60 for at in sent) for first in sent)
        assert most <= (10 if restarted and turned > timedelta(0) else 5)
        assert len(sent) >= 15, "and it goes on"

    on(sqlite_settings, test)


def test_what_is_to_go_at_a_time_of_day_goes_when_the_clock_on_the_wall_says_so(sqlite_settings):
    async def test(made, clocks):
        at = clocks.wall + timedelta(hours=2)
        (name,) = await submit(queue(await made.office("in")), send_after=at)
        node = ByHand(await made.office())
        clocks.pass_by(3700)
        given = await node.round()
        assert given.claims == ()
        clocks.turn(-HOUR)
        clocks.pass_by(3700)
        assert (await node.round()).claims == (), "by the wall it is an hour too early"
        clocks.turn(HOUR)
        assert [one.id for one in (await node.round()).claims] == [name]

    on(sqlite_settings, test)


@by_an_hour
def test_many_recipients_that_were_to_go_later_all_go_when_the_clock_was_turned(sqlite_settings, turned):
    async def test(made, clocks):
        many = [f"r{number}@example.org" for number in range(9)]
        at = clocks.wall + timedelta(minutes=90)
        (name,) = await submit(queue(await made.office("in")), letter(*many), send_after=at)
        node = ByHand(await made.office(limits=Limits(rates=per(60, recipients=4))))
        await node.round()
        clocks.turn(turned)
        clocks.pass_by((at - clocks.wall).total_seconds())
        for _ in range(5):
            for claim in (await node.round()).claims:
                node.settle(claim, said(claim))
            await node.round(0)
            clocks.pass_by(61)
        assert (await shown(made.store, name)).state == "accepted"

    on(sqlite_settings, test)


def test_a_node_that_only_takes_in_lets_nothing_wait_for_an_hour_after_the_clock_was_turned_back(sqlite_settings):
    """No worker was there when it was turned; the first one to start must not live in the past."""

    async def main():
        clocks = Time()
        async with site(sqlite_settings, clocks) as made:
            entrance = await made.outbox("in", lease=timedelta(seconds=0.3))
            entrance.start(works=False)
            (early,) = await submit(entrance)
            clocks.pass_by(7200)
            (late,) = await submit(entrance)
            await asyncio.sleep(0.3)  # signs of life
            clocks.turn(-HOUR)
            await asyncio.sleep(0.3)
            node = ByHand(await made.office())
            assert {claim.id for claim in (await node.round()).claims} == {early, late}

    run(main())


def test_while_mail_goes_out_the_clock_is_turned_again_and_again(fresh_settings):
    async def main():
        clocks = Time(rate=1)
        relay = CountingRelay()
        async with relay.listening(), site(fresh_settings, clocks) as made:
            made.aim(relay.port)
            limits = Limits(2, per(1, messages=40))
            nodes = [await made.outbox(name, policy=SOON, limits=limits) for name in "ab"]
            for node in nodes:
                node.start(works=True)
            for turn in range(12):
                clocks.turn(HOUR if turn % 3 else -2 * HOUR)
                await submit(nodes[turn % 2], letter(), letter())
                await submit(nodes[turn % 2], send_after=clocks.wall + timedelta(seconds=0.2))
                await asyncio.sleep(0.03)

            async def all_sent() -> bool:
                clocks.turn(timedelta(seconds=30))  # back to where the last of them may go
                for node in nodes:
                    node.wake()
                return len(relay.taken) == 36

            clocks.turn(3 * HOUR)
            await eventually(all_sent, "something stalls")
            await until_all_are(made.store, "accepted")
            await ensure_books_are_right(made.store)
        assert len(relay.whole) == 36
        assert relay.most_within(1) <= 40
        assert relay.peak <= 2

    run(main())
