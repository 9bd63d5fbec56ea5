"""Limits in the store: what several nodes take from them at once, by the database's clock."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right

import pytest

from keyrelay.access.limits import Limit, Meter
from keyrelay.access.rates import Rates, Wish
from keyrelay.errors import StoreUnavailable, TooManyTests
from relaying import run
from turned import turned_nodes


def per_minute(most: int, key: str = "tests") -> Limit:
    return Limit(key, most, "Tests", "KEYRELAY_TESTS_PER_MINUTE", TooManyTests)


def _runner(settings):
    def go(test, nodes: int = 1) -> None:
        async def main() -> None:
            async with turned_nodes(settings, nodes) as clock:
                await test(clock, *(Rates(node.store, node.journal) for node in clock.nodes))

        run(main())

    return go


@pytest.fixture
def on_both(fresh_settings):
    return _runner(fresh_settings)


async def taken(rates, *meters, times=1) -> int:
    """How many of so many pass."""
    passed = 0
    for _ in range(times):
        try:
            await rates.take(*meters)
        except TooManyTests:
            continue
        passed += 1
    return passed


async def kept(clock):
    return sorted(await clock.nodes[0].store.rows("SELECT key, part, amount FROM rate_part"))


def test_nodes_that_take_at_once_get_exactly_the_limit_together(on_both):
    async def test(clock, *all_rates):
        meter = Meter(per_minute(25), "jo")
        passed = await asyncio.gather(*(taken(rates, meter, times=20) for rates in all_rates))
        assert sum(passed) == 25
        assert await asyncio.gather(*(taken(rates, Meter(per_minute(25), "al")) for rates in all_rates)) == [1, 1, 1]

    on_both(test, nodes=3)


def test_after_the_seconds_named_it_passes_on_any_node_and_not_before(on_both):
    async def test(clock, here, there):
        meter = Meter(per_minute(3), "jo")
        for _ in range(3):
            await here.take(meter)
            clock.turn(10)
        with pytest.raises(TooManyTests) as refused:
            await there.take(meter)
        assert 30 <= refused.value.retry_after <= 33
        clock.turn(29)
        assert await taken(there, meter) == 0
        clock.turn(refused.value.retry_after - 29)
        assert await taken(there, meter, times=5) == 1

    on_both(test, nodes=2)


def test_in_no_minute_pass_more_than_the_limit_and_nearly_all_of_it_does(on_both):
    async def test(clock, *all_rates):
        dice, meter, passed = random.Random(7), Meter(per_minute(10), "jo"), []
        began = clock.seconds
        for _ in range(150):
            clock.turn(dice.uniform(0, 4))
            passed += [clock.seconds] * await taken(dice.choice(all_rates), meter)
        in_a_minute = [at + 1 - bisect_right(passed, moment - 60) for at, moment in enumerate(passed)]
        assert max(in_a_minute) == 10
        assert len(passed) >= 0.9 * 10 * (clock.seconds - began) / 60

    on_both(test, nodes=2)


def test_one_of_each_is_taken_or_none_of_any(on_both):
    async def test(clock, rates):
        user, address = Meter(per_minute(5, "user"), "jo"), Meter(per_minute(2, "address"), "192.0.2.1")
        assert await taken(rates, user, address, times=10) == 2
        before = await kept(clock)
        assert await taken(rates, user, address, times=10) == 0
        assert await kept(clock) == before
        assert await taken(rates, user, Meter(per_minute(5, "address"), "192.0.2.2"), times=10) == 3

    on_both(test)


def test_who_is_refused_writes_nothing(on_both, monkeypatch):
    async def test(clock, rates):
        meter = Meter(per_minute(2), "jo")
        assert await taken(rates, meter, times=2) == 2
        monkeypatch.setattr(clock.nodes[0].store, "perform", None)
        assert await taken(rates, meter, times=20) == 0

    on_both(test)


def test_rows_are_forgotten_when_others_come(on_both):
    async def test(clock, rates):
        for number in range(20):
            await rates.take(Meter(per_minute(5), f"user {number}"))
        clock.turn(300)
        for _ in range(3):
            await rates.take(Meter(per_minute(5), "jo"))
        assert len(await kept(clock)) == 2  # of the newest: the sum, and what stands for all of it

    on_both(test)


def test_a_user_who_comes_back_after_being_forgotten_is_counted_as_before(on_both):
    async def test(clock, *all_rates):
        meter = Meter(per_minute(4), "jo")
        for _ in range(4):
            passed = await asyncio.gather(*(taken(rates, meter, times=4) for rates in all_rates))
            assert sum(passed) == 4
            clock.turn(190)  # old enough to be swept, by whoever comes first

    on_both(test, nodes=3)


def test_a_clock_turned_back_or_on_breaks_the_limit_by_one_window_at_most_and_locks_nobody_out(on_both):
    async def test(clock, rates):
        meter = Meter(per_minute(5), "jo")
        for turned in (-3600, 3600, -30, 7200):
            assert await taken(rates, meter, times=10) <= 5
            clock.turn(turned)
        clock.turn(93)
        assert await taken(rates, meter, times=10) == 5

    on_both(test)


def test_the_database_does_not_show_whose_it_is(on_both):
    async def test(clock, rates):
        await rates.take(Meter(per_minute(5), "jo@example.org"), Meter(per_minute(5, "address"), "192.0.2.1"))
        assert "jo" not in str(await kept(clock))
        assert "192.0.2" not in str(await kept(clock))

    on_both(test)


def test_what_is_given_back_can_be_had_again_and_only_while_it_counts(on_both):
    async def test(clock, here, there):
        meter = Meter(per_minute(100), "jo")
        (drawn,) = await here.draw([Wish(meter, 5)])
        assert drawn.amount == 5
        assert await taken(there, meter, times=100) == 95
        await here.draw([Wish(meter, 1, back=5, back_part=drawn.part)])
        assert await taken(there, meter, times=10) == 4
        clock.turn(200)
        await here.draw([Wish(meter, 1, back=4, back_part=drawn.part)])
        assert min(amount for _, _, amount in await kept(clock)) >= 0
        assert await taken(there, meter, times=101) == 99

    on_both(test, nodes=2)


def test_a_store_that_is_away_is_no_refusal(on_both, monkeypatch):
    async def test(clock, rates):
        async def away(*_):
            raise StoreUnavailable("The database does not answer.")

        monkeypatch.setattr(clock.nodes[0].store, "rows", away)
        with pytest.raises(StoreUnavailable):
            await rates.take(Meter(per_minute(2), "jo"))

    on_both(test)
