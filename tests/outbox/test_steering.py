"""What people do by hand: to messages that nobody is sending, to those that failed, and to the whole outbox."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from steered import desk_at

from keyrelay.errors import NotNow, Unexpected, UnknownName
from keyrelay.outbox import forgetting
from keyrelay.outbox.forgetting import Forgetting
from keyrelay.outbox.model import ACTIONS, STATES
from keyrelay.outbox.steering import Resent, Steering
from outboxes import (
    LATER,
    NO,
    YES,
    Time,
    ensure_books_are_right,
    kept,
    letter,
    policy,
    recipients,
    said,
    site,
    states,
    submit,
    tallies,
)
from relaying import run

DAY = timedelta(days=1)
# --- One message ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_what_may_be_done_depends_on_the_state_and_nothing_else_is_done(fresh_settings, state):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            for action, (allowed, after) in ACTIONS.items():
                await desk.steering.resume()  # several unknown outcomes in a row slow it down
                name = await desk.bring(state, clocks)
                before = (await kept(place.store))[name]
                if state in allowed:
                    changed = await desk.steering.steer(name, action)
                    assert changed.state == after
                    assert (await kept(place.store))[name] == changed
                else:
                    with pytest.raises(NotNow, match="being sent" if state == "sending" else state.replace("_", " ")):
                        await desk.steering.steer(name, action)
                    assert (await kept(place.store))[name] == before
                await ensure_books_are_right(place.store)

    run(main())


def test_each_recipient_is_steered_by_its_own_state(fresh_settings):
    async def main():
        async with site(fresh_settings, Time()) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue, letter("a@example.org", "b@example.org", "c@example.org"))
            (claim,) = (await desk.node.round()).claims
            desk.node.settle(claim, said(claim, {"b@example.org": LATER, "c@example.org": NO}))
            await desk.node.round(0)
            await desk.steering.steer(name, "cancel")
            assert [one.state for one in await recipients(place.store, name)] == ["accepted", "cancelled", "refused"]
            await desk.steering.steer(name, "resend")
            again = await recipients(place.store, name)
            assert [one.state for one in again] == ["accepted", "queued", "queued"]
            assert [one.tries for one in again] == [1, 0, 0]
            (claim,) = (await desk.node.round()).claims
            assert [one.address for one in claim.recipients] == ["b@example.org", "c@example.org"]
            desk.node.settle(claim, said(claim))
            await desk.node.round(0)
            assert dict(await states(place.store)) == {"accepted": 1}
            await ensure_books_are_right(place.store)

    run(main())


def test_a_message_that_is_resent_has_a_whole_life_again(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place, policy=policy(life=DAY))
            name = await desk.bring("expired", clocks)
            await desk.steering.steer(name, "resend")
            for _ in range(2):
                (claim,) = (await desk.node.round()).claims
                await desk.settle(claim, LATER)
                clocks.pass_by(3600)
            assert (await recipients(place.store, name))[0].state == "deferred"

    run(main())


def test_a_message_for_a_later_time_is_cancelled_for_good_and_goes_at_once_when_it_is_resent(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue, send_after=clocks.wall + timedelta(hours=2))
            await desk.steering.steer(name, "cancel")
            clocks.pass_by(3 * 3600)
            assert (await desk.node.round()).claims == ()
            await desk.steering.steer(name, "resend")
            assert [claim.id for claim in (await desk.node.round()).claims] == [name]
            await ensure_books_are_right(place.store)

    run(main())


@pytest.mark.parametrize("state", ["queued", "deferred", "outcome_unknown"])
def test_a_message_that_is_held_by_hand_is_neither_sent_nor_ends_until_it_is_released(fresh_settings, state):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place, policy=policy(life=DAY))
            name = await desk.bring(state, clocks)
            await desk.steering.steer(name, "hold")
            clocks.pass_by(3 * DAY.total_seconds())
            assert (await desk.node.round()).claims == ()
            assert dict(await states(place.store)) == {"held": 1}
            await desk.steering.steer(name, "release")
            assert [claim.id for claim in (await desk.node.round()).claims] == [name]
            await ensure_books_are_right(place.store)

    run(main())


def test_only_the_recipients_that_wait_are_held(fresh_settings):
    async def main():
        async with site(fresh_settings, Time()) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue, letter("a@example.org", "b@example.org", "c@example.org"))
            (claim,) = (await desk.node.round()).claims
            desk.node.settle(claim, said(claim, {"b@example.org": LATER, "c@example.org": NO}))
            await desk.node.round(0)
            await desk.steering.steer(name, "hold")
            assert [one.state for one in await recipients(place.store, name)] == ["accepted", "held", "refused"]

    run(main())


def test_a_message_that_was_resent_before_its_time_is_not_claimed_twice(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue, send_after=clocks.wall + timedelta(hours=2))
            for action in ("cancel", "resend"):
                await desk.steering.steer(name, action)
            (claim,) = (await desk.node.round()).claims
            await desk.settle(claim, YES)
            clocks.pass_by(3 * 3600)
            assert (await desk.node.round()).claims == ()

    run(main())


def test_what_is_not_kept_any_more_cannot_be_sent_again(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            name = await desk.bring("refused", clocks)
            found = await forgetting.contents(place.store, "", "g")
            await place.store.perform(Forgetting(desk.office).content(found, dict.fromkeys(STATES, timedelta(0))))
            with pytest.raises(NotNow, match="content"):
                await desk.steering.steer(name, "resend")
            assert await desk.steering.resend_failed(clocks.wall - 60 * DAY) == Resent(0, 1)
            assert dict(await states(place.store)) == {"refused": 1}

    run(main())


@pytest.mark.parametrize("name", ["", "x", "\0", "00000000-0000-7000-8000-000000000000", "\ud800" * 36])
def test_what_there_is_not_cannot_be_steered(fresh_settings, name):
    async def main():
        async with site(fresh_settings) as place:
            desk = await desk_at(place)
            for action in ACTIONS:
                with pytest.raises(UnknownName):
                    await desk.steering.steer(name, action)
            assert desk.changes == 0

    run(main())


def test_of_many_who_steer_one_message_each_sees_what_the_other_did(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = await desk_at(place)
            others = [Steering(await place.office(f"n{number}")) for number in range(3)]
            names = await submit(desk.queue, *(letter() for _ in range(10)))

            async def cancel(by: Steering, name: str) -> bool:
                try:
                    await by.steer(name, "cancel")
                except NotNow:
                    return False
                return True

            took = await asyncio.gather(*(cancel(by, name) for name in names for by in (*others, desk.steering)))
            assert sum(took) == 10
            assert dict(await states(place.store)) == {"cancelled": 10}
            await ensure_books_are_right(place.store)

    run(main())


def test_steering_and_rounds_at_once_never_lose_a_message(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = await desk_at(place)
            names = await submit(desk.queue, *(letter() for _ in range(60)))
            refusals = 0
            steered = asyncio.Event()

            async def steer() -> None:
                nonlocal refusals
                for name in names:
                    for action in ("cancel", "resend"):
                        try:
                            await desk.steering.steer(name, action)
                            steered.set()
                        except NotNow:
                            refusals += 1

            async def work() -> None:
                await steered.wait()  # or all may be accepted before anybody comes to steer
                while (await tallies(place.store))["accepted"] < 60:
                    for claim in (await desk.node.round(5)).claims:
                        desk.node.settle(claim, said(claim))
                    await asyncio.sleep(0)

            await asyncio.gather(steer(), work())
            assert dict(await states(place.store)) == {"accepted": 60}
            assert refusals < 120
            await ensure_books_are_right(place.store)

    run(main())


def test_each_change_is_made_known_and_told_to_other_processes(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = await desk_at(place)
            other = await place.another_store()
            (name,) = await submit(desk.queue)
            await other.news(None, 0)
            for what in (
                desk.steering.steer(name, "cancel"),
                desk.steering.steer(name, "resend"),
                desk.steering.pause(),
            ):
                seen = await other.news(None, 0)
                changes = desk.changes
                await what
                assert desk.changes == changes + 1
                assert await other.news(seen, 5) != seen

    run(main())


# --- The whole outbox ----------------------------------------------------------------------------------------


def test_nothing_goes_out_while_it_is_paused_by_hand_and_everything_after(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            await submit(desk.queue)
            paused = await desk.steering.pause()
            assert (paused.mode, paused.why, paused.trial_at) == ("paused", "operator", None)
            clocks.pass_by(10 * DAY.total_seconds() / 24)
            given = await desk.node.round()
            assert (given.claims, given.probe) == ((), False)
            assert given.pressure == paused
            assert (await desk.steering.resume()).mode == "open"
            assert len((await desk.node.round()).claims) == 1

    run(main())


def test_pausing_twice_keeps_when_it_began(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            first = await desk.steering.pause()
            clocks.pass_by(60)
            assert await desk.steering.pause() == first

    run(main())


def test_a_person_resumes_what_was_paused_for_any_reason(fresh_settings):
    async def main():
        async with site(fresh_settings, Time()) as place:
            desk = await desk_at(place)
            await submit(desk.queue)
            (claim,) = (await desk.node.round()).claims
            refused = said(claim)
            desk.node.settle(claim, refused.__class__(NO.__class__(535, ("5.7.8 no",))))
            assert (await desk.node.round()).pressure.why == "sign_in"
            await desk.steering.resume()
            given = await desk.node.round()
            assert given.pressure.mode == "open"
            assert len(given.claims) == 1

    run(main())


def test_a_row_that_cannot_be_read_is_not_steered_and_not_changed(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue)
            with closing(sqlite3.connect(sqlite_settings.sqlite_file)) as broken, broken:
                broken.execute("UPDATE message SET recipients = '[{'")
            with pytest.raises(Unexpected):
                await desk.steering.steer(name, "cancel")
            assert await desk.steering.resend_failed(datetime(2026, 1, 1, tzinfo=UTC), STATES) == Resent(0, 0)
            assert await place.store.rows("SELECT state FROM message") == [("queued",)]

    run(main())
