"""Slowing down guessers: what the store holds of failures, and what several nodes make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from keyrelay.access import throttle as module
from keyrelay.access.throttle import PER_ADDRESS, PER_USER, PER_USER_AND_ADDRESS, Throttle
from keyrelay.errors import StoreUnavailable, TooManyAttempts
from relaying import run
from turned import DatabaseClock, turned_nodes

HOME, AWAY = "192.0.2.1", "192.0.2.2"
DAY = 24 * 3600


class Throttles(list):
    """One for each node, and the clock of their database."""

    clock: DatabaseClock

    @property
    def store(self):
        return self.clock.nodes[0].store

    async def rows(self, table: str):
        return await self.store.rows(f"SELECT * FROM {table}")


def _runner(settings):
    def go(test: Callable[..., Awaitable[None]], nodes: int = 1) -> None:
        async def main() -> None:
            async with turned_nodes(settings, nodes) as clock:
                made = Throttles(Throttle(node.store, node.journal, clock) for node in clock.nodes)
                made.clock = clock
                await test(made)

        run(main())

    return go


@pytest.fixture
def on_both(fresh_settings):
    return _runner(fresh_settings)


@pytest.fixture
def on_sqlite(sqlite_settings):
    return _runner(sqlite_settings)


async def wait(throttle, user, address) -> int:
    """The seconds to wait before an attempt; 0 when it is let through, and then it comes to nothing."""
    try:
        await throttle.attempt(address, user)
    except TooManyAttempts as refused:
        return refused.retry_after
    return 0


async def failures(throttle, user, address, number) -> int:
    """How many of so many attempts get through to the password, all of them wrong."""
    passed = 0
    for _ in range(number):
        try:
            attempt = await throttle.attempt(address, user)
        except TooManyAttempts:
            continue
        await throttle.failed(attempt)
        passed += 1
    return passed


async def sign_in(throttle, user, address) -> bool:
    try:
        attempt = await throttle.attempt(address, user)
    except TooManyAttempts:
        return False
    await throttle.succeeded(attempt)
    return True


def test_a_burst_of_failures_gets_through_and_after_the_seconds_named_one_more(on_both):
    async def test(throttles):
        (throttle,) = throttles
        assert await failures(throttle, "admin", AWAY, 40) == PER_USER_AND_ADDRESS.burst
        seconds = await wait(throttle, "admin", AWAY)
        assert 0 < seconds <= PER_USER_AND_ADDRESS.seconds
        throttles.clock.turn(seconds)
        assert await failures(throttle, "admin", AWAY, 5) == 1
        throttles.clock.turn(PER_USER_AND_ADDRESS.burst * PER_USER_AND_ADDRESS.seconds)
        assert await failures(throttle, "admin", AWAY, 40) == PER_USER_AND_ADDRESS.burst

    on_both(test)


def test_what_one_node_has_counted_binds_the_others_and_those_that_start_later(on_both):
    async def test(throttles):
        here, there = throttles
        assert await failures(here, "admin", AWAY, 6) == 6
        assert await failures(there, "admin", AWAY, 20) == PER_USER_AND_ADDRESS.burst - 6
        assert await failures(here, "admin", AWAY, 20) == 0
        node = throttles.clock.nodes[0]
        assert await failures(Throttle(node.store, node.journal), "admin", AWAY, 20) == 0

    on_both(test, nodes=2)


def test_attempts_on_all_nodes_at_once_get_through_by_no_more_than_one_for_each_other_node(on_both):
    async def test(throttles):
        passed = await asyncio.gather(*(failures(throttle, "admin", AWAY, 30) for throttle in throttles))
        assert PER_USER_AND_ADDRESS.burst <= sum(passed) <= PER_USER_AND_ADDRESS.burst + len(throttles) - 1

    on_both(test, nodes=3)


def test_many_nodes_that_write_the_same_rows_at_once_do_not_get_in_each_others_way(on_both):
    async def test(throttles):
        attempts = [(one, await one.attempt(f"192.0.2.{number % 3}", "jo")) for one in throttles for number in range(8)]
        await asyncio.gather(*(throttle.failed(attempt) for throttle, attempt in attempts))
        used = sum(row[1] for row in await throttles.rows("sign_in_failure"))
        assert used == pytest.approx(3 * len(attempts))

    on_both(test, nodes=3)


def test_a_crowd_does_not_keep_the_owner_out_where_the_owner_has_been_before_whatever_the_node(on_both):
    async def test(throttles):
        here, there = throttles
        assert await sign_in(here, "admin", HOME)
        for number in range(60):
            await failures(here, "admin", f"198.51.100.{number}", 3)
        assert await wait(there, "admin", "198.51.100.99") > 0
        assert await sign_in(there, "admin", HOME)
        assert await sign_in(here, "admin", HOME)

    on_both(test, nodes=2)


def test_refused_attempts_do_not_prolong_the_wait_and_write_nothing(on_both, monkeypatch):
    async def test(throttles):
        (throttle,) = throttles
        await failures(throttle, "admin", AWAY, 20)
        seconds, before = await wait(throttle, "admin", AWAY), await throttles.rows("sign_in_failure")
        with monkeypatch.context() as closed:
            closed.setattr(throttles.store, "perform", None)
            assert await failures(throttle, "admin", AWAY, 100) == 0
            fresh = Throttle(throttles.store, throttles.clock.nodes[0].journal, throttles.clock)
            assert await failures(fresh, "admin", AWAY, 100) == 0
        assert await throttles.rows("sign_in_failure") == before
        assert await wait(throttle, "admin", AWAY) == seconds

    on_both(test)


def test_a_flood_of_attempts_asks_the_database_once(on_sqlite, monkeypatch):
    async def test(throttles):
        (throttle,) = throttles
        await failures(throttle, "admin", AWAY, PER_USER_AND_ADDRESS.burst)
        asked, look = [], throttle._look

        async def counted(*given):
            asked.append(given)
            return await look(*given)

        monkeypatch.setattr(throttle, "_look", counted)
        assert await failures(throttle, "admin", AWAY, 1000) == 0
        assert len(asked) == 1

    on_sqlite(test)


def test_successes_use_nothing_up_and_only_the_first_from_an_address_is_written(on_both, monkeypatch):
    async def test(throttles):
        (throttle,) = throttles
        assert await sign_in(throttle, "admin", HOME)
        with monkeypatch.context() as closed:
            closed.setattr(throttles.store, "perform", None)
            assert all([await sign_in(throttle, "admin", HOME) for _ in range(100)])
        assert await throttles.rows("sign_in_failure") == []
        assert len(await throttles.rows("sign_in_known")) == 1
        assert await failures(throttle, "admin", HOME, 40) == PER_USER_AND_ADDRESS.burst

    on_both(test)


def test_a_few_slips_before_the_right_password_are_forgiven(on_sqlite):
    async def test(throttles):
        await failures(throttles[0], "admin", HOME, PER_USER_AND_ADDRESS.burst - 1)
        assert await sign_in(throttles[0], "admin", HOME)

    on_sqlite(test)


def test_one_address_that_tries_many_users_is_slowed_down(on_sqlite):
    async def test(throttles):
        assert sum([await failures(throttles[0], f"user {number}", AWAY, 1) for number in range(100)]) == 30
        assert PER_ADDRESS.burst == 30

    on_sqlite(test)


def test_many_addresses_that_try_one_user_are_slowed_down(on_sqlite):
    async def test(throttles):
        tried = [await failures(throttles[0], "admin", f"198.51.100.{number}", 5) for number in range(40)]
        assert sum(tried) == PER_USER.burst

    on_sqlite(test)


def test_one_address_does_not_keep_another_out(on_sqlite):
    async def test(throttles):
        await failures(throttles[0], "admin", AWAY, 100)
        assert await sign_in(throttles[0], "admin", HOME)

    on_sqlite(test)


def test_knowing_an_address_is_no_leave_to_guess_from_it(on_sqlite):
    async def test(throttles):
        (throttle,) = throttles
        assert await sign_in(throttle, "admin", AWAY)
        assert await failures(throttle, "admin", AWAY, 100) == PER_USER_AND_ADDRESS.burst
        assert sum([await failures(throttle, f"user {number}", AWAY, 1) for number in range(40)]) == 20

    on_sqlite(test)


def test_credentials_that_name_no_user_count_against_their_address_alone(on_both):
    async def test(throttles):
        (throttle,) = throttles
        assert await failures(throttle, None, AWAY, 50) == PER_ADDRESS.burst
        assert len(await throttles.rows("sign_in_failure")) == 1
        assert await wait(throttle, "admin", AWAY) > 0
        assert await sign_in(throttle, "admin", HOME)
        throttles.clock.turn(await wait(throttle, None, AWAY))
        assert await sign_in(throttle, None, AWAY)

    on_both(test)


async def set_own(throttle, user="jo") -> int:
    """The seconds to wait before a user may set another password; 0 when it is set."""
    try:
        await throttle.own_password(user)
    except TooManyAttempts as refused:
        return refused.retry_after
    return 0


def test_somebody_sets_five_passwords_at_once_on_all_nodes_together_and_then_one_every_twelve_minutes(on_both):
    async def test(throttles):
        one, other = throttles
        assert [await set_own(each) for each in (one, other, one, other, one)] == [0] * 5
        waits = [await set_own(each) for each in (other, one)]
        assert all(700 < seconds <= 720 for seconds in waits)
        assert await set_own(one, "somebody else") == 0
        assert await sign_in(one, "jo", HOME)  # it keeps nobody out
        throttles.clock.turn(waits[0])
        assert await set_own(other) == 0
        assert await set_own(one) > 700

    on_both(test, nodes=2)


def test_old_failures_are_forgotten_when_new_ones_come(on_both):
    async def test(throttles):
        (throttle,) = throttles
        for number in range(15):
            await failures(throttle, f"user {number}", f"198.51.100.{number}", 1)
        throttles.clock.turn(3601)
        for number in range(3):
            await failures(throttle, "admin", f"203.0.113.{number}", 1)
        assert len(await throttles.rows("sign_in_failure")) == 2 * 3 + 1

    on_both(test)


def test_an_address_stays_known_for_ninety_days_after_the_last_sign_in(on_both):
    async def test(throttles):
        (throttle,) = throttles
        for _ in range(3):  # days on which it is used are written down again
            assert await sign_in(throttle, "admin", HOME)
            throttles.clock.turn(60 * DAY)
        for number in range(20):
            await failures(throttle, "admin", f"198.51.100.{number}", 5)
        assert await wait(throttle, "admin", HOME) == 0
        throttles.clock.turn(31 * DAY)
        for number in range(20):
            await failures(throttle, "admin", f"198.51.100.{number}", 5)
        assert await wait(throttle, "admin", HOME) > 0
        assert await sign_in(throttle, "jo", HOME)
        assert len(await throttles.rows("sign_in_known")) == 1

    on_both(test)


def test_the_database_does_not_show_who_tried_from_where(on_both):
    """People type their password where the user name belongs."""

    async def test(throttles):
        await failures(throttles[0], "hunter2 typed in the wrong field", AWAY, 1)
        await sign_in(throttles[0], "jo", HOME)
        shown = str([await throttles.rows(table) for table in ("sign_in_failure", "sign_in_known")])
        assert not [word for word in ("hunter2", AWAY, HOME, "jo") if word in shown]

    on_both(test)


def test_while_failures_cannot_be_written_down_nobody_may_guess(on_both, monkeypatch):
    async def test(throttles):
        (throttle,) = throttles
        attempt = await throttle.attempt(AWAY, "admin")

        async def full(*_, **__):
            raise StoreUnavailable("The disk is full.")

        with monkeypatch.context() as closed:
            closed.setattr(throttles.store, "perform", full)
            with pytest.raises(StoreUnavailable):
                await throttle.failed(attempt)
            for _ in range(20):
                with pytest.raises(StoreUnavailable):
                    await throttle.attempt(AWAY, "admin")
        # None of these was a guess, and the one that was is counted.
        assert await failures(throttle, "admin", AWAY, 40) == PER_USER_AND_ADDRESS.burst - 1

    on_both(test)


def test_an_address_that_cannot_be_noted_as_known_does_not_keep_its_user_out(on_sqlite, monkeypatch):
    async def test(throttles):
        async def full(*_, **__):
            raise StoreUnavailable("The disk is full.")

        monkeypatch.setattr(throttles.store, "perform", full)
        assert await sign_in(throttles[0], "admin", HOME)

    on_sqlite(test)


def test_its_memory_of_refusals_has_a_bound(on_sqlite, monkeypatch):
    monkeypatch.setattr(module, "_MOST_REFUSED", 5)

    async def test(throttles):
        (throttle,) = throttles
        for number in range(8):
            await failures(throttle, "admin", f"198.51.100.{number}", 8 * PER_USER_AND_ADDRESS.burst)
        assert len(throttle._refused) == 5

    on_sqlite(test)
