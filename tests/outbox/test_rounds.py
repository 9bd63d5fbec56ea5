"""Rounds on real databases: what is claimed, settled and taken over, and what is said of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyrelay.outbox.rounds import Wish
from keyrelay.relay.model import Evidence
from outboxes import (
    LATER,
    NO,
    UNKNOWN,
    attempts,
    by_hand,
    handed_in,
    kept,
    letter,
    policy,
    queue,
    recipients,
    said,
    shown,
    submit,
)

AWAY = Evidence("connect", "timeout")
THREE = ("ada@example.org", "bob@example.org", "cyd@example.org")


def test_each_recipient_goes_the_way_of_what_the_relay_said_to_it(on_both, clocks):
    async def test(made):
        (name,) = await handed_in(made, letter(*THREE))
        node = await by_hand(made)
        (claim,) = (await node.round()).claims
        assert (await shown(made.store, name)).state == "sending"
        node.settle(claim, said(claim, {THREE[1]: NO, THREE[2]: LATER}))
        assert (await node.round()).claims == ()
        assert [one.state for one in await recipients(made.store, name)] == ["accepted", "refused", "deferred"]
        clocks.pass_by(80)
        (claim,) = (await node.round()).claims
        assert [one.address for one in claim.recipients] == [THREE[2]]
        node.settle(claim, said(claim))
        await node.round()
        assert [one.state for one in await recipients(made.store, name)] == ["accepted", "refused", "accepted"]
        assert await attempts(made.store, name) == [(1, "a"), (2, "a")]

    on_both(test)


def test_a_message_is_claimed_by_one_node_only(on_both):
    async def test(made):
        names = await handed_in(made, *(letter() for _ in range(20)))
        nodes = [await by_hand(made, name) for name in "abc"]
        got = [claim.id for node in nodes for claim in (await node.round(8)).claims]
        assert sorted(got) == sorted(names)

    on_both(test)


def test_higher_priority_goes_first_and_then_whoever_waits_longest(on_both, clocks):
    async def test(made):
        (low,) = await handed_in(made, priority=-1)
        (early,) = await handed_in(made)
        clocks.pass_by(5)
        (late,) = await handed_in(made)
        (high,) = await handed_in(made, priority=1)
        node = await by_hand(made)
        claims = [claim.id for _ in range(4) for claim in (await node.round(1)).claims]
        assert claims == [high, early, late, low]

    on_both(test)


def test_what_a_dead_node_had_in_hand_is_taken_over_after_its_lease_and_not_before(on_both, clocks):
    async def test(made):
        (name,) = await handed_in(made)
        dead, living = await by_hand(made, "dead"), await by_hand(made, "living")
        await living.round(0)
        await dead.round()
        for _ in range(2):
            clocks.pass_by(14)
            await living.round()
            assert (await kept(made.store))[name].lease == dead.office.node
        clocks.pass_by(14)
        await living.round()
        (one,) = await recipients(made.store, name)
        assert (one.state, one.unknown) == ("outcome_unknown", 1)
        assert await attempts(made.store, name) == [(1, "dead")]
        assert await made.store.rows("SELECT id FROM node WHERE id = $1", dead.office.node) == []

    on_both(test)


def test_a_node_that_gives_signs_of_life_keeps_what_it_has_in_hand(on_site, clocks):
    async def test(made):
        (name,) = await handed_in(made)
        slow, other = await by_hand(made, "slow"), await by_hand(made, "other")
        (claim,) = (await slow.round()).claims
        for _ in range(20):
            clocks.pass_by(10)
            await slow.round()
            assert (await other.round()).claims == ()
        slow.settle(claim, said(claim))
        await slow.round()
        assert (await shown(made.store, name)).state == "accepted"
        assert await attempts(made.store, name) == [(1, "slow")]

    on_site(test)


def test_what_a_node_says_of_a_message_that_was_taken_from_it_does_not_count(on_both, clocks):
    async def test(made):
        (name,) = await handed_in(made)
        stalled, other = await by_hand(made, "stalled"), await by_hand(made, "other")
        (late,) = (await stalled.round()).claims
        await other.round(0)
        clocks.pass_by(20)
        await other.round(0)
        clocks.pass_by(20)
        await other.round(0)
        stalled.settle(late, said(late, {"ops@example.org": NO}))
        await stalled.round(0)
        assert (await shown(made.store, name)).state == "outcome_unknown"
        clocks.pass_by(100)
        await other.round(0)
        (again,) = (await other.round()).claims
        stalled.settle(late, said(late, {"ops@example.org": NO}))
        await stalled.round(0)
        assert (await kept(made.store))[name].lease == other.office.node
        other.settle(again, said(again))
        await other.round()
        assert (await shown(made.store, name)).state == "accepted"
        assert await attempts(made.store, name) == [(1, "stalled"), (2, "other")]

    on_both(test)


def test_two_attempts_at_one_message_that_end_together_stop_nobody(on_both, clocks):
    """A node was taken over while it was still sending, has claimed the message again, and hears of both at once."""

    async def test(made):
        (name,) = await handed_in(made)
        stalled, other = await by_hand(made, "stalled"), await by_hand(made, "other")
        (first,) = (await stalled.round()).claims
        for _ in range(3):
            clocks.pass_by(20)
            await other.round(0)
        clocks.pass_by(100)
        await other.round(0)
        await stalled.round(0)
        (second,) = (await stalled.round()).claims
        stalled.settle(first, said(first, {"ops@example.org": NO}))
        stalled.settle(second, said(second))
        await stalled.round()
        assert (await shown(made.store, name)).state == "accepted"
        assert await attempts(made.store, name) == [(1, "stalled"), (2, "stalled")]

    on_both(test)


def test_after_the_database_was_away_for_longer_than_a_lease_the_living_still_settle_what_they_had(on_both, clocks):
    async def test(made):
        (name,) = await handed_in(made)
        first, second = await by_hand(made, "first"), await by_hand(made, "second")
        (claim,) = (await first.round()).claims
        await second.round(0)
        clocks.pass_by(45)  # nobody could give a sign of life
        await second.round(0)
        clocks.pass_by(0.2)  # the second one has a lot to do, and is back at once
        await second.round(0)
        first.settle(claim, said(claim))
        await first.round(0)
        assert (await recipients(made.store, name))[0].unknown == 0
        assert (await shown(made.store, name)).state == "accepted"

    on_both(test)


def test_a_claim_whose_answer_was_lost_is_given_back_and_no_attempt_is_counted(on_both):
    async def test(made):
        (name,) = await handed_in(made)
        node = await by_hand(made)
        lost = await node.rounds.round(Wish(1, capacity=10))
        assert [claim.id for claim in lost.claims] == [name]
        given = await node.round(recover=True)
        assert [claim.id for claim in given.claims] == [name], "given back, and claimed anew"
        node.settle(given.claims[0], said(given.claims[0]))
        await node.round()
        assert (await recipients(made.store, name))[0].tries == 1, "the second one alone"
        assert await attempts(made.store, name) == [(2, "a")]

    on_both(test)


def test_what_is_still_in_hand_is_not_given_back(on_site):
    async def test(made):
        (name,) = await handed_in(made)
        node = await by_hand(made)
        await node.round()
        assert (await node.round(recover=True)).claims == ()
        assert (await kept(made.store))[name].lease == node.office.node

    on_site(test)


@pytest.mark.parametrize("unknown", ["retry", "hold"])
def test_an_unknown_outcome_is_tried_again_or_held_as_the_policy_says(on_site, clocks, unknown):
    async def test(made):
        (name,) = await handed_in(made)
        node = await by_hand(made, policy=policy(unknown=unknown))
        states = []
        for _ in range(5):
            for claim in (await node.round()).claims:
                node.settle(claim, UNKNOWN)
            await node.round(0)
            states.append((await shown(made.store, name)).state)
            clocks.pass_by(2000)
        assert states == (["outcome_unknown"] * 2 + ["held"] * 3 if unknown == "retry" else ["held"] * 5)

    on_site(test)


def test_a_message_that_could_not_be_begun_goes_back_as_if_nothing_had_been(on_site):
    async def test(made):
        (name,) = await handed_in(made)
        node = await by_hand(made)
        (claim,) = (await node.round()).claims
        node.settle(claim, AWAY, "not_begun")
        await node.round(0)
        (one,) = await recipients(made.store, name)
        assert (one.state, one.tries) == ("queued", 0)
        assert await attempts(made.store, name) == []

    on_site(test)


def test_a_message_whose_life_is_over_expires_and_is_not_sent(on_both, clocks):
    async def test(made):
        short = {"policy": policy(life=timedelta(hours=1))}
        (name,) = await submit(queue(await made.office("in", **short)))
        node = await by_hand(made, **short)
        clocks.pass_by(3601)
        assert (await node.round()).claims == ()
        assert (await shown(made.store, name)).state == "expired"

    on_both(test)


def test_a_message_without_a_readable_row_is_held_and_the_others_go_on(on_both):
    async def test(made):
        bad, good = await handed_in(made, letter(), letter())
        async with made.store.change() as change:  # nothing of ours makes such a row
            await change.run("UPDATE message SET recipients = 'torn' WHERE id = $1", bad)
        node = await by_hand(made)
        assert [claim.id for claim in (await node.round()).claims] == [good]
        rows = await made.store.rows("SELECT state, due_at FROM message WHERE id = $1", bad)
        assert [tuple(row) for row in rows] == [("held", None)]
        async with made.store.change() as change:  # so that the books can be looked at
            rows = await change.rows("SELECT recipients FROM message WHERE id = $1", good)
            mended = rows[0][0].replace('"queued"', '"held"')
            await change.run("UPDATE message SET recipients = $1 WHERE id = $2", mended, bad)

    on_both(test)
