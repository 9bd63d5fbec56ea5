"""Slowing down guessers: the counting alone, with a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.access import throttle as module
from keyrelay.access.throttle import PER_ADDRESS, PER_USER, PER_USER_AND_ADDRESS, Throttle

HOME, AWAY = "192.0.2.1", "192.0.2.2"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock)


def failures(throttle, user, address, number):
    """How many of so many attempts get through to the password, all of them wrong."""
    return sum(throttle.take(user, address) == 0 for _ in range(number))


def sign_in(throttle, user, address) -> bool:
    if throttle.take(user, address):
        return False
    throttle.succeeded(user, address)
    return True


def test_a_burst_of_failures_gets_through_and_then_there_is_a_wait(throttle, clock):
    assert failures(throttle, "admin", AWAY, 100) == PER_USER_AND_ADDRESS.burst
    wait = throttle.take("admin", AWAY)
    assert 0 < wait <= PER_USER_AND_ADDRESS.seconds
    clock.now += wait
    assert throttle.take("admin", AWAY) == 0
    assert throttle.take("admin", AWAY) > 0


def test_after_a_rest_the_whole_burst_is_there_again(throttle, clock):
    failures(throttle, "admin", AWAY, 100)
    clock.now += PER_USER_AND_ADDRESS.burst * PER_USER_AND_ADDRESS.seconds
    assert failures(throttle, "admin", AWAY, 100) == PER_USER_AND_ADDRESS.burst


def test_refused_attempts_do_not_prolong_the_wait(throttle):
    failures(throttle, "admin", AWAY, 20)
    wait = throttle.take("admin", AWAY)
    assert failures(throttle, "admin", AWAY, 1000) == 0
    assert throttle.take("admin", AWAY) == wait


def test_successes_use_nothing_up(throttle):
    assert all(sign_in(throttle, "admin", HOME) for _ in range(1000))
    assert failures(throttle, "admin", HOME, 100) == PER_USER_AND_ADDRESS.burst


def test_a_few_slips_before_the_right_password_are_forgiven(throttle):
    failures(throttle, "admin", HOME, PER_USER_AND_ADDRESS.burst - 1)
    assert sign_in(throttle, "admin", HOME)


def test_one_address_that_tries_many_users_is_slowed_down(throttle):
    tried = sum(failures(throttle, f"user {number}", AWAY, 1) for number in range(1000))
    assert tried == PER_ADDRESS.burst


def test_many_addresses_that_try_one_user_are_slowed_down(throttle):
    tried = sum(failures(throttle, "admin", f"198.51.100.{number}", 5) for number in range(200))
    assert tried == PER_USER.burst


def test_one_address_does_not_keep_another_out(throttle):
    failures(throttle, "admin", AWAY, 1000)
    assert sign_in(throttle, "admin", HOME)


def test_a_crowd_does_not_keep_the_owner_out_where_the_owner_has_been_before(throttle, clock):
    assert sign_in(throttle, "admin", HOME)
    for number in range(500):
        failures(throttle, "admin", f"198.51.100.{number}", 5)
        clock.now += 0.1
        assert sign_in(throttle, "admin", HOME)


def test_knowing_an_address_is_no_leave_to_guess_from_it(throttle):
    assert sign_in(throttle, "admin", AWAY)
    assert failures(throttle, "admin", AWAY, 1000) == PER_USER_AND_ADDRESS.burst
    assert sum(failures(throttle, f"user {number}", AWAY, 1) for number in range(1000)) < PER_ADDRESS.burst


def test_attempts_at_once_cannot_slip_through(throttle):
    """An attempt is taken before its password is looked at."""
    assert [throttle.take("admin", AWAY) for _ in range(30)].count(0) == PER_USER_AND_ADDRESS.burst


def test_its_memory_has_a_bound(throttle, monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 50)
    for number in range(1000):
        sign_in(throttle, f"user {number}", f"address {number}")
        throttle.take(f"other {number}", f"address {number}")
    assert len(throttle._used) <= 50
    assert len(throttle._known) <= 50


steps = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([HOME, AWAY]), st.booleans(), st.floats(0, 5)))


@given(steps)
def test_nobody_ever_waits_longer_than_an_allowance_takes_to_refill_by_one(steps):
    clock = Clock()
    throttle = Throttle(clock)
    longest = max(limit.seconds for limit in (PER_ADDRESS, PER_USER, PER_USER_AND_ADDRESS))
    for user, address, right, pause in steps * 3:
        clock.now += pause
        wait = throttle.take(user, address)
        assert 0 <= wait <= longest
        if wait == 0 and right:
            throttle.succeeded(user, address)
