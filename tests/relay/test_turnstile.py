"""How many tests run at once, and how many each caller may start in a minute."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from keyrelay.errors import TooManyTests
from keyrelay.relay import turnstile
from keyrelay.relay.turnstile import Turnstile


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def take(turns: Turnstile, caller: str, times: int = 1) -> None:
    for _ in range(times):
        with turns.turn(caller):
            pass


def test_as_many_turns_as_allowed_are_under_way_at_once_whoever_takes_them(clock):
    turns = Turnstile(at_once=2, per_minute=100, clock=clock)
    with turns.turn("ann"), turns.turn("ben"):
        with pytest.raises(TooManyTests) as refused:
            take(turns, "cleo")
        assert refused.value.retry_after >= 1
        assert "2 tests are under way" in refused.value.message
    take(turns, "cleo")


def test_a_turn_ends_however_the_test_ends(clock):
    turns = Turnstile(at_once=1, per_minute=100, clock=clock)
    for error in (ValueError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), turns.turn("ann"):
            raise error
    take(turns, "ann")


def test_a_caller_starts_so_many_in_any_minute_and_waits_for_the_seconds_named(clock):
    turns = Turnstile(at_once=10, per_minute=3, clock=clock)
    for _ in range(3):
        take(turns, "ann")
        clock.now += 10.5
    with pytest.raises(TooManyTests) as refused:
        take(turns, "ann")
    assert refused.value.retry_after == 29  # the first was 31.5 seconds ago
    assert "ann has started 3 tests" in refused.value.message
    clock.now += refused.value.retry_after - 1
    with pytest.raises(TooManyTests):
        take(turns, "ann")
    clock.now += 1
    take(turns, "ann")
    with pytest.raises(TooManyTests) as refused:
        take(turns, "ann")
    assert 1 <= refused.value.retry_after <= 60


def test_callers_do_not_share_a_rate(clock):
    turns = Turnstile(at_once=10, per_minute=2, clock=clock)
    take(turns, "ann", 2)
    take(turns, "ben", 2)
    for caller in ("ann", "ben"):
        with pytest.raises(TooManyTests):
            take(turns, caller)


def test_who_is_turned_away_has_not_started_a_test(clock):
    turns = Turnstile(at_once=1, per_minute=2, clock=clock)
    with turns.turn("ben"):
        for _ in range(10):
            with pytest.raises(TooManyTests):
                take(turns, "ann")
    take(turns, "ann", 2)
    for _ in range(10):  # nor does asking again and again make the wait longer
        with pytest.raises(TooManyTests):
            take(turns, "ann")
    clock.now += 60
    take(turns, "ann", 2)


def test_who_is_turned_away_does_not_free_a_place(clock):
    turns = Turnstile(at_once=2, per_minute=3, clock=clock)
    with ExitStack() as inside:
        inside.enter_context(turns.turn("ann"))
        inside.enter_context(turns.turn("ann"))
        for _ in range(3):
            with pytest.raises(TooManyTests):
                take(turns, "ben")


def test_the_memory_of_callers_has_a_bound(clock, monkeypatch):
    monkeypatch.setattr(turnstile, "_CALLERS", 10)
    turns = Turnstile(at_once=1, per_minute=1, clock=clock)
    for number in range(100):
        take(turns, f"caller {number}")
    assert len(turns._started) == 10
    with pytest.raises(TooManyTests):
        take(turns, "caller 99")
