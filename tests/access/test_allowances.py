"""How many failures are let through: the counting alone, against a bucket that leaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.access.allowances import Allowance, Used

SECOND = 1_000_000
TEN = Allowance(10, 3.0)


def through(used: Used, allowance: Allowance, now: int, times: int) -> tuple[Used, int]:
    """How many of so many attempts at once get through, all of them wrong."""
    passed = 0
    for _ in range(times):
        if used.seconds_until_one(allowance, now) == 0:
            used, passed = used.failed(allowance, now), passed + 1
    return used, passed


def test_a_burst_gets_through_and_then_there_is_a_wait_that_is_long_enough_and_not_longer():
    now = 1000 * SECOND
    used, passed = through(Used(), TEN, now, 100)
    assert passed == TEN.burst
    assert used.seconds_until_one(TEN, now) == TEN.seconds
    assert through(used, TEN, now + 2 * SECOND, 1)[1] == 0
    assert through(used, TEN, now + 3 * SECOND, 5)[1] == 1


def test_after_a_rest_the_whole_burst_is_there_again():
    used, _ = through(Used(), TEN, 0, 100)
    assert through(used, TEN, 30 * SECOND, 100)[1] == TEN.burst


@pytest.mark.parametrize("back", [1, 20, 30])
def test_a_clock_turned_back_a_little_makes_nobody_wait_longer_than_that(back):
    now = 1000 * SECOND
    used, _ = through(Used(), TEN, now, 100)
    wait = used.seconds_until_one(TEN, now - back * SECOND)
    assert wait == back + TEN.seconds
    assert used.seconds_until_one(TEN, now - back * SECOND + wait * SECOND) == 0


def test_a_clock_turned_back_far_makes_nobody_wait():
    now = 1000 * SECOND
    used, _ = through(Used(), TEN, now, 100)
    assert used.seconds_until_one(TEN, now - 31 * SECOND) == 0


pauses = st.lists(st.integers(0, 5_000_000), max_size=200)


@given(pauses, st.integers(1, 5), st.sampled_from([0.5, 1.0, 3.0]))
def test_in_any_span_no_more_gets_through_than_the_burst_and_what_refilled(pauses, burst, seconds):
    allowance, used, now, passed = Allowance(burst, seconds), Used(), 0, []
    for pause in pauses:
        now += pause
        if used.seconds_until_one(allowance, now) == 0:
            used = used.failed(allowance, now)
            passed.append(now)
    for first, began in enumerate(passed):
        for last, ended in enumerate(passed[first:], 1):
            assert last <= burst + (ended - began) / SECOND / seconds + 0.001


@given(pauses, st.integers(1, 5), st.sampled_from([0.5, 1.0, 3.0]))
def test_whoever_waits_as_long_as_told_gets_through(pauses, burst, seconds):
    allowance, used, now = Allowance(burst, seconds), Used(), 0
    for pause in pauses:
        now += pause
        now += (wait := used.seconds_until_one(allowance, now)) * SECOND
        assert 0 <= wait <= seconds + 1
        assert used.seconds_until_one(allowance, now) == 0
        used = used.failed(allowance, now)
