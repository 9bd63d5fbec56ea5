"""Limits that a process pays from its purses: hardly a statement, and no more than the limit for all together."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right

import pytest

from keyrelay.access import purses as module
from keyrelay.access.limits import Limit, Meter
from keyrelay.access.purses import Purses
from keyrelay.access.rates import Rates
from keyrelay.errors import StoreUnavailable, TooManyMessages
from relaying import run
from turned import turned_nodes


class Counted(Rates):
    """Counts how often the store is asked."""

    asked = 0

    async def draw(self, wishes):
        self.asked += 1
        return await super().draw(wishes)


def per_minute(most: int, key: str = "messages of user") -> Limit:
    return Limit(key, most, "Messages", "KEYRELAY_SUBMISSIONS_PER_MINUTE", TooManyMessages)


def _runner(settings):
    def go(test, processes: int = 1) -> None:
        async def main() -> None:
            async with turned_nodes(settings, processes) as clock:
                made = [Purses(Counted(node.store, node.journal), clock) for node in clock.nodes]
                await test(clock, *made)
                for purses in made:
                    await purses.close()

        run(main())

    return go


@pytest.fixture
def on_both(fresh_settings):
    return _runner(fresh_settings)


@pytest.fixture
def on_sqlite(sqlite_settings):
    return _runner(sqlite_settings)


async def taken(purses: Purses, *meters: Meter, times: int = 1, at_once: int = 20) -> int:
    """How many of so many pass."""

    async def one() -> bool:
        try:
            await purses.take(*meters)
        except TooManyMessages:
            return False
        return True

    passed = 0
    while times > 0:
        passed += sum(await asyncio.gather(*(one() for _ in range(min(at_once, times)))))
        times -= at_once
    return passed


def test_a_message_normally_costs_no_statement(on_both):
    async def test(_, purses):
        meters = Meter(per_minute(60_000), "jo"), Meter(per_minute(60_000, "messages from address"), "192.0.2.1")
        assert await taken(purses, *meters, times=5_000) == 5_000
        assert purses._rates.asked <= 12

    on_both(test)


@pytest.mark.parametrize("most", [7, 100, 1000])
def test_processes_that_draw_at_once_let_through_what_the_limit_says(on_both, most):
    async def test(_, *all_purses):
        meter = Meter(per_minute(most), "jo")
        passed = await asyncio.gather(*(taken(purses, meter, times=most) for purses in all_purses))
        assert 0.9 * most <= sum(passed) <= most

    on_both(test, processes=3)


def test_in_no_minute_pass_more_than_the_limit_and_nearly_all_of_it_does(on_both):
    async def test(clock, *all_purses):
        dice, meter, passed, began = random.Random(3), Meter(per_minute(60), "jo"), [], clock.seconds
        for _ in range(400):
            clock.turn(dice.uniform(0, 1.5))
            passed += [clock.seconds] * await taken(dice.choice(all_purses), meter, times=dice.randrange(1, 6))
        in_a_minute = [at + 1 - bisect_right(passed, moment - 60) for at, moment in enumerate(passed)]
        assert max(in_a_minute) <= 60
        assert len(passed) >= 0.9 * 60 * (clock.seconds - began) / 60

    on_both(test, processes=2)


def test_the_seconds_named_are_enough_and_a_refusal_is_not_asked_again_for_each(on_both):
    async def test(clock, purses):
        meter = Meter(per_minute(10), "jo")
        assert await taken(purses, meter, times=40) == 10
        asked = purses._rates.asked
        with pytest.raises(TooManyMessages) as refused:
            await purses.take(meter)
        assert await taken(purses, meter, times=500) == 0
        assert purses._rates.asked == asked
        assert 60 <= refused.value.retry_after <= 66
        clock.turn(refused.value.retry_after)
        assert await taken(purses, meter, times=40) == 10

    on_both(test)


def test_what_lies_in_a_purse_is_worth_nothing_after_seconds_and_goes_back(on_both):
    async def test(clock, purses):
        meter = Meter(per_minute(1000), "jo")
        assert await taken(purses, meter, times=45, at_once=5) == 45
        (purse,) = purses._purses.values()
        assert purse.left > 1
        clock.turn(4)
        assert await taken(purses, meter) == 1
        ((written,),) = await clock.nodes[0].store.rows("SELECT SUM(amount) FROM rate_part WHERE part > 0")
        assert written == 45 + 1 + purse.left

    on_both(test)


def test_one_of_each_is_paid_or_none_of_any(on_sqlite):
    async def test(_, purses):
        user, address = Meter(per_minute(50), "jo"), Meter(per_minute(10, "messages from address"), "192.0.2.1")
        assert await taken(purses, user, address, times=60) == 10
        elsewhere = Meter(per_minute(100, "messages from address"), "192.0.2.2")
        assert await taken(purses, user, elsewhere, times=100) == 40

    on_sqlite(test)


def test_many_users_and_addresses_at_once_are_served_together(on_sqlite):
    async def test(_, purses):
        meters = [
            (Meter(per_minute(100), f"user {number}"), Meter(per_minute(100, "messages from address"), f"{number}"))
            for number in range(150)
        ]
        assert sum(await asyncio.gather(*(taken(purses, *pair, times=3) for pair in meters))) == 450
        assert purses._rates.asked <= 20

    on_sqlite(test)


def test_a_store_that_is_away_is_no_refusal_and_everything_goes_on_when_it_is_back(on_both, monkeypatch):
    async def test(clock, purses):
        meter = Meter(per_minute(100), "jo")

        async def away(*_, **__):
            raise StoreUnavailable("The database does not answer.")

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(clock.nodes[0].store, "perform", away)
            answers = await asyncio.gather(*(purses.take(meter) for _ in range(20)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert await taken(purses, meter, times=200) == 100

    on_both(test)


def test_a_caller_who_goes_away_takes_nothing_and_keeps_nobody_waiting(on_sqlite):
    async def test(_, purses):
        meter = Meter(per_minute(10), "jo")
        gone = [asyncio.create_task(purses.take(meter)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        assert await taken(purses, meter, times=20) == 10
        await asyncio.gather(*gone, return_exceptions=True)

    on_sqlite(test)


def test_there_is_a_bound_to_the_number_of_purses(on_sqlite, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PURSES", 5)

    async def test(_, purses):
        for number in range(20):
            await purses.take(Meter(per_minute(10), f"user {number}"))
        assert len(purses._purses) == 5

    on_sqlite(test)
