"""Those that failed since a time are sent again, many at once: each once, and no others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from steered import desk_at

from keyrelay.outbox import steering
from keyrelay.outbox.steering import Resent, Steering
from outboxes import (
    LATER,
    NO,
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
)
from relaying import run

DAY = timedelta(days=1)


def test_those_that_failed_since_a_time_are_sent_again_and_no_others(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place, policy=policy(life=DAY))
            early = await desk.bring("refused", clocks)
            (slow,) = await submit(desk.queue, letter("slow@example.org"))  # taken in before, refused after
            clocks.pass_by(600)
            await desk.office.open()
            since = clocks.wall
            clocks.pass_by(1)
            (claim,) = (await desk.node.round()).claims
            await desk.settle(claim, NO)
            late = [await desk.bring(state, clocks) for state in ("refused", "cancelled", "accepted", "held")]
            expired = await desk.bring("expired", clocks)
            told = []
            done = await desk.steering.resend_failed(since, progress=told.append)
            assert done == Resent(3, 0)
            assert told[-1] == done
            waiting = {name for name, one in (await kept(place.store)).items() if one.state == "queued"}
            assert waiting == {slow, late[0], expired}
            assert (await recipients(place.store, early))[0].state == "refused"
            await ensure_books_are_right(place.store)

    run(main())


def test_only_recipients_that_failed_get_it_again(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            (name,) = await submit(desk.queue, letter("a@example.org", "b@example.org", "c@example.org"))
            (claim,) = (await desk.node.round()).claims
            desk.node.settle(claim, said(claim, {"b@example.org": LATER, "c@example.org": NO}))
            await desk.node.round(0)
            await desk.steering.steer(name, "cancel")
            assert await desk.steering.resend_failed(clocks.wall - DAY) == Resent(1, 0)
            assert [one.state for one in await recipients(place.store, name)] == ["accepted", "cancelled", "queued"]

    run(main())


@pytest.mark.parametrize("states_wanted", [{"expired"}, {"refused"}])
def test_one_kind_of_failure_alone_can_be_sent_again(fresh_settings, states_wanted):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            names = {state: await desk.bring(state, clocks) for state in ("accepted", "refused", "expired")}
            done = await desk.steering.resend_failed(clocks.wall - 30 * DAY, {*states_wanted, "accepted"})
            assert done.messages == 1
            (wanted,) = states_wanted
            assert (await kept(place.store))[names[wanted]].state == "queued"

    run(main())


def test_very_many_go_in_small_transactions_each_once(fresh_settings, monkeypatch):
    monkeypatch.setattr(steering, "_BATCH", 20)

    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            await submit(desk.queue, *(letter() for _ in range(110)))
            while claims := (await desk.node.round()).claims:
                for claim in claims:
                    desk.node.settle(claim, said(claim, {"ops@example.org": NO}))
                await desk.node.round(0)
            told = []
            first, second = await asyncio.gather(
                desk.steering.resend_failed(clocks.wall - DAY, progress=told.append),
                Steering(await place.office("b")).resend_failed(clocks.wall - DAY),
            )
            assert first.messages + second.messages == 110
            assert len(told) >= 6
            assert dict(await states(place.store)) == {"queued": 110}
            await ensure_books_are_right(place.store)

    run(main())


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_failures_since_a_time_that_is_far_away_are_all_or_none(fresh_settings, year):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            await desk.bring("refused", clocks)
            clocks.pass_by(1)
            await desk.office.open()
            done = await desk.steering.resend_failed(datetime(year, 12, 31, tzinfo=UTC))
            assert done.messages == (0 if year == 9999 else 1)

    run(main())


def test_a_failure_is_found_by_when_it_was_although_the_clock_was_turned(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            await desk.bring("refused", clocks)
            clocks.pass_by(60)
            clocks.turn(-timedelta(hours=1))
            await desk.node.round(0)
            assert (await desk.steering.resend_failed(clocks.wall - timedelta(seconds=30))).messages == 0
            assert (await desk.steering.resend_failed(clocks.wall - timedelta(seconds=90))).messages == 1

    run(main())
