"""Limits in every sliding window, seen from the relay, whatever the nodes do at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.outbox.budget import PRESETS, Ledger, Limit, Limits, Load, charges, fair_share, room
from keyrelay.outbox.schedule import OutboxClock

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)


def most_in_a_window(arrivals: list[tuple[timedelta, int]], window: timedelta) -> int:
    """Counted as strictly as a relay may count: in each window that ends with an arrival, both ends in it."""
    return max((sum(n for at, n in arrivals if end - window <= at <= end) for end, _ in arrivals), default=0)


class Storeful:
    """Nodes that claim, hand over at any moment, and settle; one ledger; a wall clock that somebody turns."""

    def __init__(self, limits: Limits, nodes: int) -> None:
        self.limits, self.ledger = limits, Ledger()
        self.true, self.turned = timedelta(0), timedelta(0)
        self.clock = OutboxClock(NOON, NOON)
        self.seen = [(NOON, timedelta(0))] * nodes
        self.underway: list[tuple[timedelta, Load]] = []
        self.arrived: list[tuple[timedelta, Load]] = []

    def now(self, node: int) -> datetime:
        then, true = self.seen[node]
        self.clock = self.clock.looked_at(NOON + self.true + self.turned, then + (self.true - true))
        self.seen[node] = self.clock.now, self.true
        return self.clock.now

    def claim(self, node: int, load: Load) -> bool:
        if not room(self.limits, self.ledger, self.now(node)).holds(load):
            return False
        self.ledger = self.ledger.claimed(load)
        self.underway.append((self.true, load))
        return True

    def settle(self, node: int, which: int, part: float, *, reached: bool = True) -> None:
        """``part``: when within the attempt the relay saw the message."""
        since, load = self.underway.pop(which % len(self.underway))
        if reached:
            self.arrived.append((since + part * (self.true - since), load))
        now = self.now(node)
        self.ledger = self.ledger.settled(load, load if reached else Load(), self.limits, now)

    def worst(self, limit: Limit) -> int:
        return most_in_a_window([(at, load.of(limit.counted)) for at, load in self.arrived], limit.window)


limits = st.builds(
    Limit,
    st.sampled_from(["messages", "recipients"]),
    st.integers(1, 8),
    st.sampled_from([SECOND, MINUTE, timedelta(seconds=7, microseconds=13), HOUR, DAY]),
)


@given(st.lists(limits, min_size=1, max_size=3), st.integers(1, 3), st.data())
def test_no_sliding_window_is_ever_exceeded_by_any_interleaving_of_nodes(rates, nodes, data):
    store = Storeful(Limits(rates=tuple(rates)), nodes)
    window = rates[0].window
    for _ in range(data.draw(st.integers(1, 60))):
        store.true += data.draw(st.sampled_from([0, 0, 0, 0.001, 0.02, 0.3, 0.5, 0.98, 1.0])) * window
        if data.draw(st.integers(0, 9)) == 0:
            store.turned += data.draw(st.sampled_from([HOUR, -HOUR]))
        node = data.draw(st.integers(0, nodes - 1))
        if store.underway and data.draw(st.booleans()):
            part, reached = data.draw(st.sampled_from([0, 0.5, 1])), data.draw(st.booleans())
            store.settle(node, data.draw(st.integers(0, 9)), part, reached=reached)
        else:
            store.claim(node, Load(1, data.draw(st.integers(1, 3))))
        if data.draw(st.booleans()):
            store.ledger = store.ledger.swept(store.limits, store.clock.now)
    while store.underway:
        store.settle(0, 0, 1)
    for limit in rates:
        assert store.worst(limit) <= limit.most


@pytest.mark.parametrize("jump", [None, HOUR, -HOUR])
def test_three_nodes_send_thirty_a_minute_and_not_much_less(jump):
    """As fast as they may, one message a node at a time, a fifth of a second each."""
    store = Storeful(PRESETS["office365"].limits, 3)
    minute = store.limits.rates[0]
    for tick in range(5 * 600):
        store.true = tick * timedelta(milliseconds=100)
        if jump and tick == 1000:
            store.turned += jump
        if jump and tick == 2000:
            store.turned -= jump
        node = tick % 3
        if len(store.underway) < 3:
            store.claim(node, Load(1, 1))
        elif store.underway:
            store.settle(node, 0, 0.5)
        if store.underway and store.true - store.underway[0][0] > timedelta(milliseconds=200):
            store.settle(node, 0, 1)
    assert store.worst(minute) == 30
    assert len(store.arrived) >= 0.95 * 5 * 30
    assert len(store.ledger.swept(store.limits, store.clock.now).sums) < 2 * 70


def test_what_is_claimed_counts_until_a_window_after_it_was_settled():
    """Thirty that were claimed at once and arrive late are the trap of a window that begins at the claim."""
    limit = Limit("messages", 30, MINUTE)
    store = Storeful(Limits(rates=(limit,)), 1)
    for _ in range(30):
        assert store.claim(0, Load(1, 1))
    store.true += 50 * SECOND
    assert not store.claim(0, Load(1, 1))
    for _ in range(30):
        store.settle(0, 0, 1)
    store.true += 59 * SECOND
    assert not store.claim(0, Load(1, 1))
    store.true += 3 * SECOND
    assert store.claim(0, Load(1, 1))


def test_what_did_not_reach_the_relay_is_given_back_at_once():
    store = Storeful(Limits(rates=(Limit("messages", 1, DAY),)), 1)
    assert store.claim(0, Load(1, 5))
    store.settle(0, 0, 0, reached=False)
    assert store.ledger == Ledger()
    assert store.claim(0, Load(1, 5))


@given(limits, st.integers(0, 10**15))
def test_a_part_of_time_ends_a_window_later_and_at_most_a_sixtieth_after_that(limit, microseconds):
    moment = NOON + timedelta(microseconds=microseconds)
    late = limit.counts_until(limit.part_of(moment)) - (moment + limit.window)
    assert timedelta(0) < late <= limit.window / 60


@given(st.lists(st.tuples(st.timedeltas(timedelta(0), MINUTE), st.integers(1, 4)), max_size=20), st.integers(1, 30))
def test_room_is_there_when_it_was_said_to_be_there(settled, wanted):
    limit = Limit("messages", 25, MINUTE)
    limits, ledger, now = Limits(rates=(limit,)), Ledger(), NOON
    for pause, messages in settled:
        now += pause
        ledger = ledger.settled(Load(), Load(messages), limits, now)
    at = ledger.room_at(limit, wanted, now)
    if wanted > limit.most:
        assert at is None
        return
    assert room(limits, ledger, at).holds(Load(wanted))
    assert at == now or not room(limits, ledger, at - timedelta(microseconds=1)).holds(Load(wanted))
    assert ledger.claimed(Load(30)).room_at(limit, wanted, now) is None


def test_the_smallest_room_counts_and_no_limit_is_any_number():
    limits = Limits(rates=(Limit("messages", 30, MINUTE), Limit("messages", 100, HOUR)))
    ledger = Ledger().settled(Load(), Load(95, 95), limits, NOON)
    later = room(limits, ledger, NOON + 2 * MINUTE)
    assert (later.messages, later.recipients) == (5, None)
    assert later.holds(Load(5, 10**6))
    assert room(limits, ledger, NOON).messages == 0


def test_a_limit_may_be_lowered_while_it_is_used():
    limits = Limits(rates=(Limit("messages", 30, MINUTE),))
    ledger = Ledger().settled(Load(), Load(20, 20), limits, NOON)
    lowered = Limits(rates=(replace(limits.rates[0], most=10),))
    assert room(lowered, ledger, NOON).messages == 0
    assert ledger.used(lowered.rates[0], NOON) == 20


def test_one_window_with_two_figures_is_charged_once():
    figures = Limits(rates=(Limit("messages", 30, MINUTE), Limit("messages", 20, MINUTE)))
    assert [one.amount for one in charges(Load(1, 1), figures, NOON)] == [1]


def test_ten_thousand_recipients_a_day_need_few_rows():
    limits = Limits(rates=(Limit("recipients", 10_000, DAY),))
    ledger, now = Ledger(), NOON
    for _ in range(3000):
        now += MINUTE
        ledger = ledger.settled(Load(), Load(1, 3), limits, now).swept(limits, now)
    assert len(ledger.sums) <= 62
    assert ledger.used(limits.rates[0], now) == pytest.approx(3 * 24 * 60, rel=0.02)


@pytest.mark.parametrize("wrong", [("messages", 0, MINUTE), ("messages", 1, timedelta(0))])
def test_a_limit_that_lets_nothing_through_is_refused(wrong):
    with pytest.raises(ValueError, match="at least one"):
        Limit(*wrong)


def test_exchange_online_allows_what_its_documentation_says():
    preset = PRESETS["office365"].limits
    assert preset.connections == 3
    assert {(limit.counted, limit.most, limit.window) for limit in preset.rates} == {
        ("messages", 30, MINUTE),
        ("recipients", 10_000, DAY),
    }
    assert all(preset.source.startswith("https://") for preset in PRESETS.values())


# --- Connections ---------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 30))
def test_shares_are_even_and_make_the_whole(limit, nodes):
    shares = [fair_share(limit, nodes, rank) for rank in range(nodes)]
    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1
