"""The backlog of the last hour is what it was, whatever people and the relay did meanwhile."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from steered import desk_at

from keyrelay.outbox.backlog import OPEN, backlog
from keyrelay.outbox.model import ENDED, STATES
from keyrelay.outbox.overview import HAPPENINGS, Minute, overview
from outboxes import BEGINNING, Time, letter, site, submit
from relaying import run


def minutes(*amounts: dict[str, int]) -> list[Minute]:
    nothing = dict.fromkeys(HAPPENINGS, 0)
    return [Minute(BEGINNING + at * timedelta(minutes=1), nothing | each) for at, each in enumerate(amounts)]


def counts(**those: int) -> dict[str, int]:
    return dict.fromkeys(STATES, 0) | those


def test_every_state_is_open_or_ended():
    assert set(OPEN) == {"queued", "sending", "deferred", "outcome_unknown", "held"}
    assert set(OPEN) | ENDED == set(STATES)


def test_it_goes_back_from_what_is_left_now():
    series = minutes({"submitted": 5}, {"accepted": 2, "refused": 1, "deferred": 9}, {"resent": 1, "held": 1})
    assert backlog(counts(queued=1, held=1, deferred=1, accepted=2), series) == (5, 2, 3)


def test_it_is_never_less_than_nothing():
    assert backlog(counts(), minutes({}, {"submitted": 3}, {})) == (0, 0, 0)


_CHANGES = st.lists(
    st.fixed_dictionaries({"submitted": st.integers(0, 50), "ends": st.integers(0, 99), "again": st.integers(0, 99)}),
    min_size=1,
    max_size=60,
)


@given(_CHANGES, st.sampled_from(sorted(ENDED)))
def test_it_is_the_number_that_was_open_at_each_minutes_end(changes, how):
    """Against somebody who counts forwards."""
    waiting = ended = 0
    amounts, was = [], []
    for change in changes:
        again = min(change["again"], ended)
        ends = min(change["ends"], waiting + change["submitted"])
        waiting += change["submitted"] + again - ends
        ended += ends - again
        amounts.append({"submitted": change["submitted"], how: ends, "resent": again})
        was.append(waiting)
    assert backlog(counts(queued=waiting, **{how: ended}), minutes(*amounts)) == tuple(was)


def test_it_is_what_the_outbox_held_while_it_was_worked_and_steered(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            desk = await desk_at(place)
            was = []

            async def minute_ends() -> None:
                found = await overview(desk.office)
                was.append(sum(found.counts[state] for state in OPEN))
                clocks.pass_by(60)
                await desk.office.open()

            await submit(desk.queue, letter(), letter())
            await minute_ends()
            done = {"refused": ("resend", "hold"), "accepted": (), "deferred": ("hold",), "cancelled": ("resend",)}
            for state, actions in done.items():
                name = await desk.bring(state, clocks)
                await minute_ends()
                for action in actions:
                    await desk.steering.steer(name, action)
                    await minute_ends()
            await desk.steering.resend_failed(clocks.wall - timedelta(days=1))
            found = await overview(desk.office)
            assert backlog(found.counts, found.series)[-len(was) - 1 : -1] == tuple(was)
            assert len(set(was)) > 3

    run(main())
