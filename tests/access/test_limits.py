"""The arithmetic of limits that hold in every minute, against a list of all that passed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keyrelay.access.limits import AHEAD, PART, WINDOW, Limit, Passed, part_of, share
from keyrelay.errors import TooManyTests

SECOND = 1_000_000
START = 1_800_000_000 * SECOND


def limit(most: int) -> Limit:
    return Limit("tests", most, "Tests", "KEYRELAY_TESTS_PER_MINUTE", TooManyTests)


def most_in_a_minute(moments: list[int]) -> int:
    """The most that passed in any minute, of moments in order."""
    return max((at + 1 - bisect_right(moments, moment - WINDOW) for at, moment in enumerate(moments)), default=0)


steps = st.lists(st.tuples(st.integers(0, 20_000_000), st.integers(1, 30)), max_size=100)


@given(steps, st.integers(1, 100), st.integers(0, PART))
def test_in_no_minute_pass_more_than_the_limit(steps, most, offset):
    now, sums, passed = START + offset, Counter(), []
    for pause, wanted in steps:
        now += pause
        amount = min(wanted, Passed(sums).left(most, now))
        sums[part_of(now)] += amount
        passed += [now] * amount
    assert most_in_a_minute(passed) <= most


@given(steps, st.integers(1, 100), st.integers(0, PART), st.data())
def test_in_no_minute_pass_more_than_the_limit_when_it_is_drawn_ahead(steps, most, offset, data):
    now, sums, passed = START + offset, Counter(), []
    for pause, wanted in steps:
        now += pause
        amount = share(limit(most), Passed(sums).left(most, now), wanted)
        sums[part_of(now + AHEAD)] += amount
        passed += [now + data.draw(st.integers(0, AHEAD)) for _ in range(amount)]
    assert most_in_a_minute(sorted(passed)) <= most


@given(st.integers(10, 500), st.integers(0, PART))
def test_whoever_always_wants_more_gets_nine_tenths_of_the_limit_in_any_minutes(most, offset):
    for ahead in (0, AHEAD):
        now, sums, passed = START + offset, Counter(), 0
        for _ in range(10 * 60):
            while amount := Passed(sums).left(most, now):
                drawn = share(limit(most), amount, most) if ahead else amount
                sums[part_of(now + ahead)] += drawn
                passed += drawn
            now += SECOND
        assert passed >= 0.9 * most * 10


@given(steps, st.integers(1, 100), st.integers(0, PART))
def test_after_the_seconds_named_one_more_passes_and_not_a_part_earlier(steps, most, offset):
    now, sums = START + offset, Counter()
    for pause, wanted in steps:
        now += pause
        passed = Passed(sums)
        if passed.left(most, now):
            assert passed.seconds_until_one(most, now) == 0
            sums[part_of(now)] += min(wanted, passed.left(most, now))
        else:
            seconds = passed.seconds_until_one(most, now)
            assert 0 < seconds <= (WINDOW + PART) / SECOND
            free = now + round(seconds * SECOND)
            assert passed.left(most, free) >= 1
            assert passed.left(most, free - 1) == 0


@given(st.integers(1, 100_000), st.integers(0, 100_000), st.integers(1, 100_000))
def test_a_share_is_never_more_than_what_is_left_or_wanted_and_nothing_only_when_nothing_is_left(most, left, wanted):
    left = min(left, most)
    got = share(limit(most), left, wanted)
    assert got <= min(left, wanted)
    assert got <= max(1, most // 20)
    assert (got == 0) == (left == 0)


def test_a_limit_that_was_lowered_holds_from_then_on_and_one_that_was_raised_too():
    passed = Passed({part_of(START): 10})
    assert passed.left(5, START) == 0
    assert passed.left(12, START) == 2


def test_a_clock_turned_back_far_makes_nobody_wait_until_it_is_where_it_was():
    sums = {part_of(START): 10}
    assert Passed(sums).left(10, START - 3600 * SECOND) == 10
    soon = Passed(sums).seconds_until_one(10, START - 30 * SECOND)
    assert soon <= 30 + 63


def test_a_refusal_names_the_limit_the_setting_and_whole_seconds():
    refusal = limit(10).refusal(2.1)
    assert isinstance(refusal, TooManyTests)
    assert refusal.retry_after == math.ceil(2.1)
    assert "10 in any minute" in refusal.message
    assert "KEYRELAY_TESTS_PER_MINUTE" in refusal.advice
    assert limit(10).refusal(0.0001).retry_after == 1
