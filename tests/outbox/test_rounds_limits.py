"""Rounds on real databases: limits, the outbox under pressure, and who may have how many connections."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyrelay.outbox.budget import Limits
from keyrelay.relay.model import Evidence, Reply
from outboxes import (
    by_hand,
    handed_in,
    kept,
    letter,
    per,
    policy,
    queue,
    recipients,
    said,
    shown,
    submit,
)

AWAY = Evidence("connect", "timeout")
THREE = ("ada@example.org", "bob@example.org", "cyd@example.org")


# --- Limits and pressure -------------------------------------------------------------------------------------


def test_more_is_claimed_only_when_the_limit_has_room_again(on_site, clocks):
    async def test(made):
        await handed_in(made, *(letter() for _ in range(5)))
        node = await by_hand(made, limits=Limits(rates=per(60, messages=2)))
        given = await node.round()
        assert len(given.claims) == 2
        for claim in given.claims:
            node.settle(claim, said(claim))
        given = await node.round()
        assert given.claims == ()
        clocks.pass_by((given.again - node.office.watch.now).total_seconds() - 0.01)
        assert (await node.round()).claims == ()
        clocks.pass_by(0.02)
        assert len((await node.round()).claims) == 2
        assert clocks.ticks() <= 62, "one part of the window more than the window, at most"

    on_site(test)


def test_a_message_with_more_recipients_than_fit_goes_out_in_several_turns(on_both, clocks):
    async def test(made):
        (name,) = await handed_in(made, letter(*(f"r{number}@example.org" for number in range(25))))
        node = await by_hand(made, limits=Limits(rates=per(60, recipients=10)))
        turns = []
        for _ in range(6):
            for claim in (await node.round()).claims:
                turns.append(len(claim.recipients))
                node.settle(claim, said(claim))
            await node.round(0)
            clocks.pass_by(31)
        assert turns == [10, 10, 5]
        assert (await shown(made.store, name)).state == "accepted"

    on_both(test)


def test_what_a_dead_node_had_in_hand_counts_for_a_whole_window_after_it_was_taken_over(on_site, clocks):
    async def test(made):
        await handed_in(made, *(letter() for _ in range(4)))
        limits = Limits(rates=per(600, messages=2))
        dead, living = await by_hand(made, "dead", limits=limits), await by_hand(made, "living", limits=limits)
        await living.round(0)
        assert len((await dead.round()).claims) == 2
        claimed = []
        for _ in range(60):
            clocks.pass_by(20)
            for claim in (await living.round()).claims:
                claimed.append(clocks.ticks())
                living.settle(claim, said(claim))
        assert claimed
        assert claimed[0] > 630, "the two may have reached the relay at the last moment of the lease"

    on_site(test)


def test_what_never_reached_the_relay_uses_up_no_limit(on_site, clocks):
    """A night without a connection must not cost the day's recipients."""

    async def test(made):
        (name,) = await handed_in(made, letter(*THREE))
        node = await by_hand(made, limits=Limits(rates=per(86400, recipients=3)))
        (claim,) = (await node.round()).claims
        node.settle(claim, AWAY)
        await node.round()
        clocks.pass_by(30)
        (claim,) = (await node.round()).claims
        node.settle(claim, said(claim))
        await node.round()
        assert (await shown(made.store, name)).state == "accepted"

    on_site(test)


def test_a_storm_costs_few_messages_a_try_and_slows_all_down(on_site, clocks):
    async def test(made):
        names = await handed_in(made, *(letter() for _ in range(30)))
        node = await by_hand(made)
        busy = Evidence("sender", "reply", Reply(450, ("4.3.2 try again later",)))
        sent = 0
        for _ in range(10):
            given = await node.round(8)
            sent += len(given.claims)
            for claim in given.claims:
                node.settle(claim, busy)
            clocks.pass_by(1)
        await node.round(0)
        tried = [one.tries for name in names for one in await recipients(made.store, name)]
        assert sent <= 16
        assert sum(tried) <= 2, "two may look like messages with a trouble of their own"

    on_site(test)


@pytest.mark.parametrize("outcome", ["accepted", "not_begun"])
def test_an_outbox_that_comes_back_slowly_waits_for_nobody_who_is_done(on_site, clocks, outcome):
    """One at a time is allowed: the next may go in the round in which the last was settled."""

    async def test(made):
        await handed_in(made, *(letter() for _ in range(4)))
        node = await by_hand(made)
        (claim,) = (await node.round(1)).claims
        node.settle(claim, AWAY)
        assert (await node.round(8)).claims == (), "slowed down"
        clocks.pass_by(10)
        (claim,) = (await node.round(8)).claims
        if outcome == "accepted":
            node.settle(claim, said(claim))
            assert len((await node.round(8)).claims) == 2
        else:
            node.settle(claim, AWAY, "not_begun")
            assert len((await node.round(8)).claims) == 1

    on_site(test)


def test_a_refusal_to_sign_in_pauses_everything_until_the_profile_is_another(on_site, clocks):
    async def test(made):
        await handed_in(made, letter(), letter())
        node = await by_hand(made)
        (claim,) = (await node.round(1)).claims
        node.settle(claim, Evidence("auth", "reply", Reply(535, ("5.7.8 wrong password",))))
        given = await node.round()
        assert (given.claims, given.pressure.mode, given.pressure.why) == ((), "paused", "sign_in")
        assert given.pressure.said.text == "5.7.8 wrong password"
        clocks.pass_by(60)
        assert len((await node.round(revision=2)).claims) == 2
        assert all(one.tries == 0 for each in (await kept(made.store)).values() for one in each.submission.recipients)

    on_site(test)


def test_only_one_node_probes_and_the_others_sleep_until_it_must_be_over(on_site, clocks):
    async def test(made):
        await handed_in(made)
        one, two = await by_hand(made, "one"), await by_hand(made, "two")
        (claim,) = (await one.round()).claims
        one.settle(claim, Evidence("tls", "expired"))
        await one.round()
        clocks.pass_by(61)
        given = [await one.round(), await two.round(), await one.round()]
        assert [each.probe for each in given] == [True, False, False]
        assert all(each.again > one.office.watch.now + timedelta(seconds=30) for each in given), "no loop meanwhile"

    on_site(test)


def test_a_life_that_ends_while_the_outbox_is_paused_ends_all_the_same(on_site, clocks):
    async def test(made):
        short = {"policy": policy(life=timedelta(hours=1))}
        first, second = await submit(queue(await made.office("in", **short)), letter(), letter())
        node = await by_hand(made, **short)
        (claim,) = (await node.round(1)).claims
        node.settle(claim, Evidence("auth", "reply", Reply(535, ("5.7.8 wrong password",))))
        await node.round()
        clocks.pass_by(4000)
        await node.round()
        assert [(await shown(made.store, name)).state for name in (first, second)] == ["expired"] * 2

    on_site(test)


# --- Connections ---------------------------------------------------------------------------------------------


def test_connections_are_shared_and_never_promised_twice(on_site):
    async def test(made):
        limits = Limits(3)
        one, two, three = [await by_hand(made, name, limits=limits) for name in ("one", "two", "three")]
        assert (await one.round(connections=0)).connections == 3
        assert (await two.round()).connections == 0, "the first may have opened all three"
        assert (await one.round(connections=3)).connections in {1, 2}
        assert (await two.round()).connections == 0, "and they are open"
        share = (await one.round(connections=1)).connections
        granted = [share, (await two.round()).connections, (await three.round()).connections]
        assert sum(granted) <= 3
        for node in (one, two, three):
            await node.round(connections=1)
        granted = [(await node.round(connections=1)).connections for node in (one, two, three)]
        assert granted == [1, 1, 1]

    on_site(test)


def test_the_connections_of_a_dead_node_come_back_after_its_lease(on_site, clocks):
    async def test(made):
        limits = Limits(2)
        dead, living = [await by_hand(made, name, limits=limits) for name in ("dead", "living")]
        await dead.round(connections=2)
        assert (await living.round()).connections == 0
        clocks.pass_by(20)
        assert (await living.round()).connections == 0
        clocks.pass_by(20)
        await living.round()
        assert (await living.round()).connections == 2

    on_site(test)


def test_who_signs_out_leaves_its_connections_to_the_others_at_once(on_site):
    async def test(made):
        limits = Limits(2)
        leaving, staying = [await by_hand(made, name, limits=limits) for name in ("leaving", "staying")]
        await leaving.round(connections=2)
        assert (await staying.round()).connections == 0
        await leaving.rounds.sign_out()
        assert (await staying.round()).connections == 2

    on_site(test)
