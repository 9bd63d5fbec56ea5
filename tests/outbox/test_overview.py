"""The overview tells what is in the outbox, how fast it goes and what holds it up, exactly and at once."""

from __future__ import annotations

from datetime import timedelta

from keyrelay import __version__
from keyrelay.outbox.budget import Limits, Load
from keyrelay.outbox.model import STATES
from keyrelay.outbox.overview import HAPPENINGS, overview
from keyrelay.outbox.steering import Steering
from keyrelay.relay.model import Evidence
from outboxes import LATER, NO, ByHand, Time, letter, per, queue, said, site, states, submit
from relaying import run

MINUTE = timedelta(minutes=1)


def test_an_empty_outbox_is_open_and_nothing_happens(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            found = await overview(await place.office())
            assert found.counts == dict.fromkeys(STATES, 0)
            assert (found.octets, found.oldest, found.limits, found.connections) == (0, None, (), 0)
            assert found.pressure.mode == "open"
            assert found.rates == dict.fromkeys(HAPPENINGS, 0.0)
            assert len(found.series) == 60

    run(main())


def test_messages_and_their_octets_are_counted_exactly(fresh_settings):
    async def main():
        async with site(fresh_settings, Time()) as place:
            office = await place.office()
            node, desk = ByHand(office), queue(office)
            letters = [letter(body=b"x" * number + b"\r\n") for number in range(6)]
            await submit(desk, *letters)
            for number, claim in enumerate((await node.round(5)).claims):
                if number < 4:
                    reply = (LATER, NO)[number % 2] if number < 3 else None
                    node.settle(claim, said(claim, {"ops@example.org": reply} if reply else None))
            await node.round(0)
            found = await overview(office)
            assert {state: number for state, number in found.counts.items() if number} == await states(place.store)
            assert found.counts["sending"] == found.counts["queued"] == 1
            assert found.octets == sum(len(one.content) for one in letters)

    run(main())


def test_the_oldest_is_the_one_that_has_waited_longest_and_not_one_for_a_later_time(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            office = await place.office()
            node, desk = ByHand(office), queue(office)
            scheduled = await submit(desk, *(letter() for _ in range(60)), send_after=clocks.wall + timedelta(hours=1))
            clocks.pass_by(60)
            await office.open()
            (first,) = await submit(desk)
            handed_in = clocks.wall
            clocks.pass_by(60)
            await office.open()
            await submit(desk, letter())
            assert (oldest := (await overview(office)).oldest) is not None
            assert (oldest.id, oldest.since) == (first, handed_in)
            for claim in (await node.round()).claims:
                node.settle(claim, said(claim, {"ops@example.org": LATER} if claim.id == first else None))
            await node.round(0)
            assert (oldest := (await overview(office)).oldest) is not None
            assert oldest.id == first  # it waits still
            clocks.pass_by(30)
            await Steering(office).steer(first, "cancel")
            assert (await overview(office)).oldest is None
            clocks.pass_by(3600)
            await node.round(1)
            assert (oldest := (await overview(office)).oldest) is not None
            assert oldest.id in scheduled

    run(main())


def test_rates_and_the_series_tell_when_what_happened(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            office = await place.office()
            node, desk = ByHand(office), queue(office)
            for number in (4, 3, 2):  # from the beginning of a minute on, one each
                await office.open()
                await submit(desk, *(letter() for _ in range(number)))
                for claim in (await node.round()).claims:
                    node.settle(claim, said(claim))
                await node.round(0)
                clocks.pass_by(60)
            await submit(desk)
            found = await overview(office)
            assert [minute.amounts["submitted"] for minute in found.series[-5:]] == [0, 4, 3, 2, 1]
            assert [minute.amounts["accepted"] for minute in found.series[-5:]] == [0, 4, 3, 2, 0]
            assert [later.at - minute.at for minute, later in zip(found.series, found.series[1:], strict=False)] == (
                [MINUTE] * 59
            )
            assert found.series[-1].at == found.at.replace(second=0, microsecond=0)
            assert (found.rates["submitted"], found.rates["accepted"], found.rates["refused"]) == (2.0, 1.8, 0.0)
            clocks.pass_by(150)  # of the first four, half are five minutes old
            assert (await overview(office)).rates["submitted"] == 1.6
            clocks.pass_by(600)
            assert (await overview(office)).rates["submitted"] == 0.0

    run(main())


def test_the_sums_of_all_nodes_are_shown(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            for name in ("a", "b", "c"):
                await submit(queue(await place.office(name)), letter(), letter())
            office = await place.office()
            found = await overview(office)
            assert found.counts["queued"] == 6
            assert sum(minute.amounts["submitted"] for minute in found.series) == 6

    run(main())


def test_the_pressure_is_shown_with_what_the_relay_said_in_times_of_the_wall_clock(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            office = await place.office()
            node = ByHand(office)
            await submit(queue(office))
            (claim,) = (await node.round()).claims
            node.settle(claim, Evidence("connect", "refused"))
            await node.round(0)
            at = clocks.wall
            clocks.pass_by(2)
            clocks.turn(timedelta(hours=3))
            found = (await overview(office)).pressure
            assert (found.mode, found.why) == ("slowed", "unreachable")
            assert found.said is not None
            assert (found.said.stage, found.said.kind) == ("connect", "refused")
            assert found.since == at + timedelta(hours=3)  # as if the clock had always been what it is now
            assert found.trial_at is not None
            assert found.trial_at > clocks.wall

    run(main())


def test_limits_show_how_much_of_them_is_used_and_connections_who_has_them(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            limits = Limits(3, (*per(60, messages=30), *per(86_400, recipients=10_000)))
            office = await place.office("first", limits=limits)
            node = ByHand(office)
            await submit(queue(office), *(letter("a@example.org", "b@example.org") for _ in range(5)))
            claims = (await node.round(4, connections=2)).claims
            for claim in claims[:3]:
                node.settle(claim, said(claim))
            await node.round(0, connections=2)
            found = await overview(office)
            assert [(used.limit.counted, used.limit.most, used.used) for used in found.limits] == [
                ("messages", 30, 4),
                ("recipients", 10_000, 8),
            ]
            assert found.most_connections == 3
            assert found.connections == sum(one.connections for one in found.nodes) > 0
            clocks.pass_by(10)
            (alive,) = (await overview(office)).nodes
            assert (alive.name, alive.version, alive.works, alive.in_hand) == ("first", __version__, True, Load(1, 2))
            assert alive.seen_at == clocks.wall - timedelta(seconds=10)
            clocks.pass_by(85)  # the minute is over for what was settled, and the node has given no sign of life
            later = await overview(office)
            assert [used.used for used in later.limits] == [1, 8]
            assert (later.nodes, later.connections) == ((), 0)

    run(main())
