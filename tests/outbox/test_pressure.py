"""Trouble that is everybody's: the outbox slows down or pauses, spares the messages, and comes back by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.outbox import pressure as module
from keyrelay.outbox.model import Said
from keyrelay.outbox.pressure import (
    PAUSING,
    STORM,
    Pressure,
    blame,
    felt,
    paused_by_operator,
    probed,
    profile_changed,
    relieved,
    resumed_by_operator,
)
from keyrelay.outbox.schedule import RetryPolicy, Schedule, enqueued, settle_attempt
from keyrelay.relay.model import STAGES, Evidence, Reply

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONGEST = timedelta(hours=1)
OPEN = Pressure()

BUSY = Said("recipient", code=450, enhanced="4.7.1", text="4.7.1 Try again later")
CLOSING = Said("data", code=421, text="closing")
CONNECTIONS = Said("data", code=432, enhanced="4.3.2", text="4.3.2 Concurrent connections limit exceeded")
WRONG_PASSWORD = Said("auth", code=535, enhanced="5.7.8", text="5.7.8 No")
EXPIRED = Said("tls", "expired")
DOWN = Said("connect", "refused")


def storm(said: Said = BUSY, now: datetime = NOON, *, busy: int = 1) -> Pressure:
    pressure = OPEN
    for _ in range(STORM):
        pressure = felt(pressure, said, now, busy=busy).pressure
    return pressure


# --- Whose trouble it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (WRONG_PASSWORD, "sign_in"),
        (Said("auth", code=454), "throttled"),
        (Said("auth", "no_mechanism"), "sign_in"),
        (Said("auth", "insecure"), "certificate"),
        (Said("auth", "timeout"), "unreachable"),
        (Said("sender", code=530, enhanced="5.7.57"), "sign_in"),
        (Said("data", code=550, enhanced="5.7.57", text="5.7.57 Client not authenticated"), "sign_in"),
        (Said("token", "status", code=401), "sign_in"),
        (Said("token", "status", code=429), "unreachable"),
        (Said("token", "status", code=503), "unreachable"),
        (Said("token", "no_token"), "credential"),
        (Said("token", "timeout"), "unreachable"),
        (Said("token", "unknown_issuer"), "certificate"),
        (Said("vault", "denied"), "credential"),
        (Said("vault", "sealed"), "unreachable"),
        (EXPIRED, "certificate"),
        (Said("tls", "name_mismatch"), "certificate"),
        (Said("tls", "not_offered"), "certificate"),
        (Said("tls", "timeout"), "unreachable"),
        (Said("tls", code=454), "throttled"),
        (DOWN, "unreachable"),
        (Said("resolve", "name_unknown"), "unreachable"),
        (Said("greeting", code=421), "throttled"),
        (Said("greeting", code=554), "throttled"),
        (CONNECTIONS, "throttled"),
        (Said("data", code=454, text="Throttling failure: Maximum sending rate exceeded."), "throttled"),
        (Said("data", code=554, enhanced="5.2.0", text="5.2.0 SubmissionQuotaExceededException"), "quota"),
        (Said("data", code=554, enhanced="5.2.2", text="5.2.2 mailbox full; STOREDRV.Submission"), "quota"),
        (Said("data", code=550, enhanced="5.4.5", text="5.4.5 Daily user sending limit exceeded"), "quota"),
    ],
)
def test_this_is_the_trouble_of_all(said, why):
    assert blame(said).why == why
    assert blame(said).certain


def test_the_catalogue_still_has_the_causes_that_are_named_here():
    assert {cause.id for cause, _ in module._BY_WORDS} == set(module._KNOWN_BY_WORDS)


@pytest.mark.parametrize("code", [421, 450, 451, 452])
@pytest.mark.parametrize("stage", ["sender", "recipient", "data"])
def test_this_may_be_the_trouble_of_all(stage, code):
    assert (blame(Said(stage, code=code)).why, blame(Said(stage, code=code)).certain) == ("throttled", False)


@pytest.mark.parametrize(
    "said",
    [
        Said("recipient", code=550, enhanced="5.1.1", text="5.1.1 User unknown"),
        Said("recipient", code=452, enhanced="4.2.2", text="4.2.2 The mailbox has exceeded its mail quota"),
        Said("recipient", code=450, enhanced="4.2.0", text="4.2.0 Greylisted"),
        Said("data", code=554, text="spam"),
        Said("sender", "too_large"),
        Said("sender", "not_offered"),
    ],
)
def test_this_is_one_messages_trouble_however_often_it_comes(said):
    assert blame(said) is None
    assert storm(said) == OPEN


# --- Storms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [BUSY, CLOSING, Said("data", "closed"), Said("data", "outcome_unknown")])
def test_one_doubtful_answer_slows_nothing_and_a_storm_of_them_does(said):
    once = felt(OPEN, said, NOON)
    assert once.pressure.at_once(NOON) is None
    assert not once.spares(said)
    pressure = storm(said)
    assert (pressure.mode, pressure.at_once(NOON)) == ("slowed", 0)
    assert pressure.said == said


def test_doubtful_answers_between_acceptances_are_no_storm():
    pressure = OPEN
    for _ in range(50):
        for _ in range(STORM - 1):
            pressure = felt(pressure, BUSY, NOON).pressure
        pressure = relieved(pressure, NOON)
    assert pressure == OPEN


@pytest.mark.parametrize("said", [CONNECTIONS, DOWN, Said("greeting", code=421)])
def test_what_is_certain_slows_the_outbox_at_once_and_spares_the_message(said):
    reading = felt(OPEN, said, NOON)
    assert reading.pressure.at_once(NOON) == 0
    assert reading.spares(said)


def test_a_storm_burns_no_attempts():
    """A thousand messages during six hours in which the relay says no more than 450."""
    schedule = Schedule(RetryPolicy(jitter=0), "x")
    answer = Evidence("recipient", "reply", Reply(450, ("4.7.1 Busy",)))
    waiting = [enqueued(f"{number}@example.org", schedule.policy, NOON) for number in range(1000)]
    pressure, now = OPEN, NOON
    while now < NOON + timedelta(hours=6):
        due = sorted((one for one in waiting if one.next_at <= now), key=lambda one: one.next_at)
        taken = due if (width := pressure.at_once(now)) is None else due[:width]
        for one in taken[:20]:
            outcome = settle_attempt([one.to("sending")], answer, pressure, schedule, now, busy=20)
            waiting[waiting.index(one)], pressure = outcome.recipients[0], outcome.pressure
        now += SECOND
    assert sum(one.tries for one in waiting) < 60
    assert max(one.tries for one in waiting) == 1
    pressure, later = relieved(pressure, pressure.trial_at), pressure.trial_at
    assert pressure.at_once(later) > 0


def test_the_message_of_a_trial_makes_room_for_another_one():
    """Or a message that the relay never likes would be every trial, and hold up all others."""
    pressure = storm()
    trial = felt(pressure, BUSY, pressure.trial_at)
    assert not trial.spares(BUSY)
    assert trial.pressure.at_once(pressure.trial_at) == 0


def test_answers_to_what_was_under_way_make_nothing_worse():
    pressure = storm()
    late = felt(pressure, BUSY, NOON + SECOND)
    assert late.pressure == pressure
    assert late.spares(BUSY)
    assert relieved(pressure, NOON + SECOND) == pressure


def test_trials_come_later_and_later_but_never_later_than_a_bound():
    pressure, waits = storm(), []
    now = NOON
    for _ in range(12):
        waits.append(pressure.trial_at - now)
        now = pressure.trial_at
        assert pressure.at_once(now) == 1
        pressure = felt(pressure, CONNECTIONS, now).pressure
    assert waits == sorted(waits)
    assert waits[0] <= timedelta(seconds=15)
    assert waits[-1] == timedelta(minutes=15)


def test_after_a_trial_that_went_well_the_outbox_widens_until_it_is_open():
    pressure = storm()
    widths = []
    while (width := pressure.at_once(now := pressure.trial_at or NOON + LONGEST)) is not None:
        widths.append(width)
        pressure = relieved(pressure, now)
    assert widths == list(range(1, len(widths) + 1))
    assert pressure == OPEN


def test_too_many_connections_halve_what_is_under_way():
    pressure = felt(OPEN, CONNECTIONS, NOON, busy=8).pressure
    assert pressure.at_once(pressure.trial_at) == 4
    assert felt(pressure, CONNECTIONS, pressure.trial_at, busy=4).pressure.width == 2


def test_one_poison_message_does_not_slow_the_others_down():
    """It kills each session it comes into; the rest is accepted."""
    pressure = OPEN
    for _ in range(20):
        pressure = relieved(felt(pressure, Said("data", "closed"), NOON).pressure, NOON)
        assert pressure.at_once(NOON) is None


# --- Pauses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [WRONG_PASSWORD, EXPIRED, Said("vault", "denied")])
def test_credentials_and_certificates_pause_the_outbox_at_the_first_failure(said):
    reading = felt(OPEN, said, NOON)
    assert reading.spares(said)
    assert (reading.pressure.mode, reading.pressure.said, reading.pressure.since) == ("paused", said, NOON)
    assert reading.pressure.at_once(NOON + timedelta(days=1)) == 0


def test_a_wrong_password_is_tried_seldom_enough_to_lock_no_account():
    pressure, probes = felt(OPEN, WRONG_PASSWORD, NOON).pressure, 0
    for minute in range(24 * 60):
        now = NOON + timedelta(minutes=minute)
        for _ in range(5):  # what else was under way says the same
            probes += pressure.probe_due(now)
            pressure = felt(pressure, WRONG_PASSWORD, now).pressure
    assert 20 <= probes <= 30


def test_a_successful_probe_resumes_with_one_message_first():
    paused = felt(OPEN, EXPIRED, NOON).pressure
    assert not paused.probe_due(NOON)
    assert paused.probe_due(paused.trial_at)
    resumed = probed(paused, paused.trial_at)
    assert (resumed.mode, resumed.at_once(paused.trial_at)) == ("slowed", 1)
    assert probed(OPEN, NOON) == OPEN


def test_a_probe_that_fails_otherwise_keeps_the_pause():
    paused = felt(OPEN, EXPIRED, NOON).pressure
    still = felt(paused, DOWN, paused.trial_at).pressure
    assert (still.mode, still.why, still.level) == ("paused", "certificate", 1)
    other = felt(paused, WRONG_PASSWORD, paused.trial_at).pressure
    assert (other.mode, other.why) == ("paused", "sign_in")


def test_a_changed_profile_resumes_at_once():
    for pressure in (felt(OPEN, WRONG_PASSWORD, NOON).pressure, storm(), felt(OPEN, DOWN, NOON).pressure):
        assert profile_changed(pressure) == OPEN


def test_what_a_person_paused_only_a_person_resumes():
    paused = paused_by_operator(OPEN, NOON)
    assert not paused.probe_due(NOON + timedelta(days=9))
    for after in (
        profile_changed(paused),
        probed(paused, NOON),
        relieved(paused, NOON),
        *(felt(paused, said, NOON).pressure for said in (BUSY, DOWN, EXPIRED, WRONG_PASSWORD)),
    ):
        assert after == paused
    assert resumed_by_operator() == OPEN


# --- Whatever happens ----------------------------------------------------------------------------------------

TROUBLE = st.sampled_from(
    [BUSY, CLOSING, CONNECTIONS, WRONG_PASSWORD, EXPIRED, DOWN, Said("data", code=554, text="daily mail limit")]
)
events = st.lists(st.tuples(TROUBLE | st.none(), st.timedeltas(timedelta(0), LONGEST), st.integers(1, 20)), max_size=40)


@given(events)
def test_the_outbox_always_comes_back_within_hours_once_the_relay_is_well(events):
    pressure, now = OPEN, NOON
    for said, pause, busy in events:
        now += pause
        pressure = relieved(pressure, now) if said is None else felt(pressure, said, now, busy=busy).pressure
        assert (pressure.mode == "paused") == (pressure.why in PAUSING)
        assert pressure.trial_at is None or pressure.trial_at - now <= LONGEST
        assert pressure.mode != "paused" or pressure.trial_at is not None
    end = now + 2 * LONGEST
    while pressure.mode != "open":
        now = max(now, pressure.trial_at or now)
        assert now <= end
        if pressure.mode == "paused":
            assert pressure.probe_due(now)
            pressure = probed(pressure, now)
        else:
            assert pressure.at_once(now) > 0
            pressure = relieved(pressure, now)


def test_no_stage_that_fails_before_the_message_leaves_the_outbox_open():
    for stage in STAGES[: STAGES.index("sender")]:
        for kind in ("reply", "closed", "timeout", "expired", "not_smtp", "bad_key", "status"):
            assert felt(OPEN, Said(stage, kind, code=500), NOON).pressure.mode != "open"


def test_a_pressure_is_a_value():
    assert replace(storm(), streak=0) != storm()
    assert storm() == storm()
