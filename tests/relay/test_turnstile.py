"""How many tests run at once in a process, and how many may be started on all nodes together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from keyrelay.access.rates import Rates
from keyrelay.errors import StoreUnavailable, TooManyTests
from keyrelay.relay.turnstile import Turnstile
from relaying import run
from turned import turned_nodes

HOME, AWAY = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def with_turnstile(sqlite_settings):
    """Run a test with a turnstile that has these limits, and the database's clock."""

    def go(test, *, at_once: int = 10, per_user: int = 100, per_address: int = 100) -> None:
        async def main() -> None:
            async with turned_nodes(sqlite_settings) as clock:
                (node,) = clock.nodes
                rates = Rates(node.store, node.journal)
                await test(Turnstile(rates, at_once=at_once, per_user=per_user, per_address=per_address), clock)

        run(main())

    return go


async def take(turns: Turnstile, user: str, address: str = HOME, times: int = 1) -> None:
    for _ in range(times):
        async with turns.turn(user, address):
            pass


async def refused(turns: Turnstile, user: str, address: str = HOME) -> TooManyTests:
    with pytest.raises(TooManyTests) as problem:
        await take(turns, user, address)
    return problem.value


def test_as_many_turns_as_allowed_are_under_way_at_once_whoever_takes_them(with_turnstile):
    async def test(turns, _):
        async with turns.turn("ann", HOME), turns.turn("ben", AWAY):
            refusal = await refused(turns, "cleo")
            assert refusal.retry_after >= 1
            assert "2 tests are under way" in refusal.message
        await take(turns, "cleo")

    with_turnstile(test, at_once=2)


def test_of_many_that_come_together_no_more_get_in_than_there_is_room_for(with_turnstile):
    async def test(turns, _):
        leave = asyncio.Event()

        async def stay() -> bool:
            try:
                async with turns.turn("ann", HOME):
                    await leave.wait()
            except TooManyTests:
                return False
            return True

        tests = [asyncio.create_task(stay()) for _ in range(20)]
        while sum(task.done() for task in tests) < 17:  # noqa: ASYNC110 - the others stay until they are told
            await asyncio.sleep(0.01)
        leave.set()
        assert sum(await asyncio.gather(*tests)) == 3
        await take(turns, "ann", times=2)  # and who found no room has used nothing up
        await refused(turns, "ann")

    with_turnstile(test, at_once=3, per_user=5)


def test_a_turn_ends_however_the_test_ends(with_turnstile):
    async def test(turns, _):
        for error in (ValueError, asyncio.CancelledError, GeneratorExit):
            with pytest.raises(error):
                async with turns.turn("ann", HOME):
                    raise error
        await take(turns, "ann")

    with_turnstile(test, at_once=1)


def test_a_user_starts_so_many_in_any_minute_and_waits_for_the_seconds_named(with_turnstile):
    async def test(turns, clock):
        await take(turns, "ann", times=3)
        refusal = await refused(turns, "ann", AWAY)
        assert "Tests of one user: no more than 3" in refusal.message
        assert "KEYRELAY_TESTS_PER_MINUTE" in refusal.advice
        clock.turn(refusal.retry_after)
        await take(turns, "ann")

    with_turnstile(test, per_user=3)


def test_an_address_starts_so_many_in_any_minute_whoever_asks(with_turnstile):
    async def test(turns, clock):
        for user in ("ann", "ben", "cleo"):
            await take(turns, user)
        refusal = await refused(turns, "dora")
        assert "Tests from one address: no more than 3" in refusal.message
        assert "KEYRELAY_ADDRESS_TESTS_PER_MINUTE" in refusal.advice
        await take(turns, "dora", AWAY)
        clock.turn(refusal.retry_after)
        await take(turns, "dora")

    with_turnstile(test, per_address=3)


def test_users_do_not_share_a_rate(with_turnstile):
    async def test(turns, _):
        for user in ("ann", "ben"):
            await take(turns, user, times=2)
            await refused(turns, user)

    with_turnstile(test, per_user=2)


def test_who_is_turned_away_has_not_started_a_test(with_turnstile):
    async def test(turns, clock):
        async with turns.turn("ben", HOME):
            for _ in range(10):
                await refused(turns, "ann")
        await take(turns, "ann", times=2)
        for _ in range(10):  # nor does asking again and again make the wait longer
            await refused(turns, "ann")
        clock.turn(63)
        await take(turns, "ann", times=2)

    with_turnstile(test, at_once=1, per_user=2)


def test_who_is_turned_away_does_not_free_a_place(with_turnstile):
    async def test(turns, _):
        async with AsyncExitStack() as inside:
            await inside.enter_async_context(turns.turn("ann", HOME))
            await inside.enter_async_context(turns.turn("ann", HOME))
            for _ in range(3):
                await refused(turns, "ben")

    with_turnstile(test, at_once=2)


def test_while_the_database_is_away_nobody_is_told_that_there_were_too_many(with_turnstile, monkeypatch):
    async def test(turns, clock):
        async def away(*_):
            await asyncio.sleep(0.05)
            raise StoreUnavailable("The database does not answer.")

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(clock.nodes[0].store, "rows", away)
            answers = await asyncio.gather(*(take(turns, "ann") for _ in range(5)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
        await take(turns, "ann", times=5)

    with_turnstile(test, at_once=1, per_user=5)
