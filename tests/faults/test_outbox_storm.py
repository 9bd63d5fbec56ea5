"""Nothing lost, nothing invented: messages are handed in while all who have a part in it are killed and stalled.

STORM_MESSAGES, STORM_KILLS and STORM_SEED make it longer, or the same again (``make storm``).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from outbox_storm import Clients, counts, drained, judge, shown
from storm_cast import incidents, play
from storm_stage import LEASE, Signing, Stage

MESSAGES = int(os.environ.get("STORM_MESSAGES") or 2000)
KILLS = int(os.environ.get("STORM_KILLS") or 10)
SEED = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(1, 1_000_000))
STALLS = KILLS // 2
_DRAINED_WITHIN = 120.0
_PATIENCE = 300 + 8 * KILLS + MESSAGES // 10

pytestmark = [pytest.mark.timeout(_PATIENCE), pytest.mark.long]


@pytest.fixture
def stage(tmp_path):
    """Makes the stage, for a way of signing in."""
    made: list[Stage] = []

    def make(signing: Signing) -> Stage:
        made.append(Stage(tmp_path, random.Random(SEED), signing))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_one_node_on_sqlite_loses_nothing_and_invents_nothing(stage: Callable[[Signing], Stage], sqlite_template):
    on = stage("oauth")
    on.relay(chunking=False)
    on.sqlite(sqlite_template)
    on.server("node")
    storm_on(on)


def test_two_nodes_on_postgresql_lose_nothing_and_invent_nothing(stage: Callable[[Signing], Stage], postgres):
    on = stage("password")
    on.relay(chunking=True)
    on.postgresql(postgres)
    on.server("node one")
    on.server("node two")
    storm_on(on)


def test_three_nodes_on_postgresql_lose_nothing_and_invent_nothing(stage: Callable[[Signing], Stage], postgres):
    on = stage("oauth")
    on.relay(chunking=False)
    on.postgresql(postgres)
    on.server("server", "--no-worker")
    on.worker("worker one")
    on.worker("worker two")
    storm_on(on)


def storm_on(on: Stage) -> None:
    began = time.monotonic()
    plan = incidents(on.cast, on.rng, kills=KILLS, stalls=STALLS, lease=LEASE)
    print(f"\nSTORM_SEED={SEED}: {MESSAGES} messages, {KILLS} kills, {STALLS} stalls")
    clients = Clients(on.urls, MESSAGES, plan[-1].at, SEED)
    clients.start()
    play(plan, on.cast, told=print)
    played = time.monotonic() - began
    clients.wait(on.tend)
    handed_in = time.monotonic() - began
    waited = drained(on.urls[0], within=_DRAINED_WITHIN, tend=on.tend)
    verdict = judge(clients.letters, clients.receipts, shown(on.urls[0], clients.receipts), on.taken())
    print(f"{verdict}; answers: {dict(clients.answers)}")
    print(f"played in {played:.0f} s, handed in within {handed_in:.0f} s, nothing waiting {waited:.0f} s after that")
    assert verdict.problems == []
    assert len(clients.letters) == MESSAGES
    assert counts(on.urls[0]) == verdict.messages
    assert on.untimely_ends() == []
    assert on.tracebacks() == []
