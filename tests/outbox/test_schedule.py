"""What attempts make of a recipient, when it is tried again, and what a clock that is turned does to that: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from keyrelay.outbox.model import ACTIONS, ENDED, NEXT, STATES, WAITING, NotAllowed, Recipient, Said, state_of
from keyrelay.outbox.pressure import Pressure
from keyrelay.outbox.schedule import (
    OutboxClock,
    RetryPolicy,
    Schedule,
    enqueued,
    is_due,
    overdue,
    settle,
    settle_attempt,
    steered,
    taken_over,
    verdict,
)
from keyrelay.relay.model import STAGES, Evidence, Kind, Reply
from keyrelay.relay.session import Delivery

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
POLICY = RetryPolicy()
SCHEDULE = Schedule(POLICY, "a submission")
OK, LATER, NO = Reply(250, ("2.0.0 Ok",)), Reply(450, ("4.2.0 Greylisted",)), Reply(550, ("5.1.1 Nobody",))


def kinds(union=Kind):
    for argument in get_args(union):
        yield from kinds(argument) if get_args(argument) else [argument]


KINDS = tuple(kinds())
replies = st.builds(
    lambda code, text: Reply(code, (text,)),
    st.sampled_from([250, 251, 354, 421, 432, 450, 451, 452, 454, 530, 535, 550, 552, 554, 99, 600]),
    st.sampled_from(["", "4.2.2 Full", "4.5.3 Too many", "5.7.57 Sign in", "Daily message quota exceeded", "4.3.2 x"]),
)
evidences = st.one_of(
    st.builds(Evidence, st.sampled_from(STAGES), st.just("reply"), replies),
    st.builds(Evidence, st.sampled_from(STAGES), st.sampled_from([kind for kind in KINDS if kind != "reply"])),
)
sayings = st.builds(Said.by, evidences)
policies = st.builds(
    RetryPolicy,
    waits=st.lists(st.timedeltas(SECOND, 8 * HOUR), min_size=1, max_size=5).map(tuple),
    life=st.timedeltas(MINUTE, timedelta(days=3)),
    jitter=st.floats(0, 0.9),
    unknown=st.sampled_from(["retry", "hold"]),
)


def sending(**changes) -> Recipient:
    return replace(enqueued("ada@example.org", POLICY, NOON).to("sending"), **changes)


def delivery(*said: tuple[str, Reply], data: Reply | None = OK, sender: Reply = OK) -> Delivery:
    return Delivery(sender, said, data)


# --- The diagram ---------------------------------------------------------------------------------------------


def test_the_diagram_names_every_state_and_no_other():
    assert set().union(*NEXT.values()) <= set(STATES) == set(NEXT)
    assert NEXT["accepted"] == frozenset()
    assert {state for state in STATES if "sending" in NEXT[state]} == WAITING
    assert {state for _, state in ACTIONS.values()} == {"queued", "cancelled", "held"}
    assert all(to in NEXT[state] for states, to in ACTIONS.values() for state in states)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("wanted", STATES)
def test_a_state_follows_only_where_the_diagram_has_an_arrow(state, wanted):
    recipient, next_at = sending(state=state), NOON if wanted in WAITING else None
    if wanted in NEXT[state]:
        assert recipient.to(wanted, next_at=next_at).state == wanted
    else:
        with pytest.raises(NotAllowed, match=f"{wanted} cannot follow {state}"):
            recipient.to(wanted, next_at=next_at)


def test_a_state_that_waits_has_a_time_and_no_other_has():
    with pytest.raises(ValueError, match="needs"):
        sending().to("deferred")
    with pytest.raises(ValueError, match="has no"):
        sending().to("accepted", next_at=NOON)


@given(policies, st.lists(st.tuples(sayings, st.booleans(), st.timedeltas(timedelta(0), 9 * HOUR)), max_size=30))
def test_whatever_the_relay_says_no_state_is_outside_the_diagram(policy, answers):
    schedule = Schedule(policy, "x")
    recipient, now = enqueued("ada@example.org", policy, NOON), NOON
    for said, spared, pause in answers:
        if recipient.state not in WAITING:
            break
        recipient = recipient.to("sending")
        before, now = recipient, now + pause
        recipient = settle(recipient, said, schedule, now, spared=spared)
        assert (recipient.next_at is not None) == (recipient.state in WAITING)
        assert 0 <= recipient.tries - before.tries <= 1
        assert 0 <= recipient.unknown - before.unknown <= 1
        assert recipient.next_at is None or now <= recipient.next_at <= recipient.expires_at
        assert recipient.state not in WAITING or now < recipient.expires_at
        if recipient.state == "accepted":
            assert (said.stage, said.kind, (said.code or 0) // 100) == ("data", "reply", 2)


@given(sayings, st.sampled_from(STATES))
def test_only_what_is_being_sent_can_be_settled(said, state):
    recipient = sending(state=state)
    if state == "sending":
        assert settle(recipient, said, SCHEDULE, NOON).state != "sending"
        return
    with pytest.raises(NotAllowed):  # a node that comes too late must not be believed
        settle(recipient, said, SCHEDULE, NOON)


@given(policies, st.data())
def test_every_recipient_has_ended_or_is_held_when_its_life_time_is_over(policy, data):
    schedule = Schedule(policy, "x")
    recipient = enqueued("ada@example.org", policy, NOON)
    now = NOON
    for _ in range(200):
        now = max(now, recipient.next_at)
        if overdue(recipient, now):
            recipient = recipient.to("expired")
        else:
            assert is_due(recipient, now)
            recipient = recipient.to("sending")
            now += data.draw(st.sampled_from([SECOND, MINUTE]))
            recipient = settle(recipient, data.draw(sayings), schedule, now, spared=data.draw(st.booleans()))
        if recipient.state not in WAITING:
            break
        # What is given back waits for the outbox.
        now += data.draw(st.sampled_from([timedelta(0), 5 * SECOND, HOUR]))
    # 200 rounds do not always reach the end of a long life; sweeping does, whatever state it waits in.
    end = max(now, recipient.expires_at)
    if recipient.state in WAITING:
        assert overdue(recipient, end)
        recipient = recipient.to("expired")
    assert recipient.state in ENDED | {"held"}
    assert now <= recipient.expires_at + HOUR + MINUTE


# --- What an answer means ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (Said("data", code=250), "accepted"),
        (Said("recipient", code=250), "deferred"),  # never said earlier than after DATA
        (Said("data", code=354), "deferred"),
        (Said("recipient", code=450), "deferred"),
        (Said("recipient", code=550), "refused"),
        (Said("sender", code=550), "refused"),
        (Said("data", code=554), "refused"),
        (Said("data", "outcome_unknown"), "outcome_unknown"),
        (Said("data", "closed"), "deferred"),
        (Said("sender", "timeout"), "deferred"),
        (Said("sender", "too_large"), "refused"),
        (Said("sender", "not_offered"), "refused"),
        (Said("connect", "refused"), "given_back"),
        (Said("auth", code=535), "given_back"),
        (Said("greeting", code=554), "given_back"),
        (Said("token", "status", code=200), "given_back"),
        (Said("vault", "sealed"), "given_back"),
    ],
)
def test_an_answer_means_what_it_says(said, meaning):
    assert verdict(said) == meaning


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_given_back_is_not_tried_again_at_once(stage):
    """Or the outbox would turn in circles: then it has slowed down or paused itself."""
    answers = [Evidence(stage, "reply", Reply(code, ("words",))) for code in (199, 250, 354, 421, 432, 535, 554, 600)]
    for evidence in [*answers, *(Evidence(stage, kind) for kind in KINDS)]:
        outcome = settle_attempt([sending()], evidence, Pressure(), SCHEDULE, NOON)
        (recipient,) = outcome.recipients
        assert recipient.state != "queued" or outcome.pressure.at_once(NOON) == 0, evidence
        assert recipient.state not in {"deferred", "outcome_unknown"} or recipient.next_at > NOON, evidence


def test_two_of_three_are_accepted_and_the_third_is_tried_alone():
    addresses = ["a@example.org", "b@example.org", "c@example.org"]
    three = [sending(address=address) for address in addresses]
    said = delivery(*zip(addresses, [OK, LATER, OK], strict=True))
    outcome = settle_attempt(three, said, Pressure(), SCHEDULE, NOON)
    assert [one.state for one in outcome.recipients] == ["accepted", "deferred", "accepted"]
    assert [words.code for _, words in outcome.said] == [250, 450, 250]
    assert outcome.recipients[1].said.enhanced == "4.2.0"
    assert state_of(one.state for one in outcome.recipients) == "deferred"
    again = settle_attempt(
        [outcome.recipients[1].to("sending")], delivery(("b@example.org", NO), data=None), Pressure(), SCHEDULE, NOON
    )
    assert [one.state for one in again.recipients] == ["refused"]


def test_a_refused_sender_is_said_to_all_recipients():
    outcome = settle_attempt(
        [sending(), sending()], delivery(sender=Reply(550, ("5.1.8 No",)), data=None), Pressure(), SCHEDULE, NOON
    )
    assert [one.state for one in outcome.recipients] == ["refused", "refused"]
    assert {words.stage for _, words in outcome.said} == {"sender"}


def test_recipients_that_are_too_many_for_one_message_follow_at_once_and_uncounted():
    full = Reply(452, ("4.5.3 Too many recipients",))
    outcome = settle_attempt(
        [sending(), sending()], delivery(("a", OK), ("b", full)), Pressure(), SCHEDULE, NOON + SECOND
    )
    left = outcome.recipients[1]
    assert (left.state, left.tries, left.next_at) == ("queued", 0, NOON + SECOND)
    assert outcome.pressure == Pressure()
    alone = settle_attempt([left.to("sending")], delivery(("b", full), data=None), Pressure(), SCHEDULE, NOON)
    assert (alone.recipients[0].state, alone.recipients[0].tries) == ("deferred", 1)


# --- Waits ---------------------------------------------------------------------------------------------------


def test_waits_are_minutes_first_then_hours_until_the_life_time_ends():
    steady = Schedule(RetryPolicy(jitter=0), "x")
    recipient, now, waits = enqueued("ada@example.org", POLICY, NOON), NOON, []
    while recipient.state != "expired":
        if overdue(recipient, now):
            recipient = recipient.to("expired")
            break
        recipient = settle(recipient.to("sending"), Said("recipient", code=450), steady, now)
        waits.append(recipient.next_at - now)
        now = recipient.next_at
    assert waits[:8] == [wait * MINUTE for wait in (1, 5, 15, 30, 60, 120, 240, 240)]
    assert now == NOON + POLICY.life


@given(st.text(), st.integers(1, 40))
def test_jitter_is_the_same_everywhere_and_within_its_bounds(key, tries):
    recipient = sending()
    at = Schedule(POLICY, key).after(tries, recipient, NOON)
    wait = POLICY.waits[min(tries, len(POLICY.waits)) - 1]
    assert 0.8 * wait <= at - NOON <= 1.2 * wait
    assert at == Schedule(RetryPolicy(), key).after(tries, replace(recipient, address="other@example.org"), NOON)


def test_messages_that_were_deferred_together_do_not_all_come_back_together():
    assert len({Schedule(POLICY, str(number)).after(3, sending(), NOON) for number in range(100)}) == 100


@pytest.mark.parametrize(
    "wrong", [{"waits": ()}, {"waits": (timedelta(0),)}, {"life": timedelta(0)}, {"jitter": 1.0}, {"jitter": -0.1}]
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValueError, match=r"jitter|waits"):
        RetryPolicy(**wrong)


# --- Outcome unknown -----------------------------------------------------------------------------------------

UNKNOWN = Said("data", "outcome_unknown")


def test_an_unknown_outcome_is_tried_again_and_counted():
    recipient = settle(sending(), UNKNOWN, SCHEDULE, NOON)
    assert (recipient.state, recipient.tries, recipient.unknown) == ("outcome_unknown", 1, 1)
    accepted = settle(recipient.to("sending"), Said("data", code=250), SCHEDULE, NOON)
    assert (accepted.state, accepted.unknown) == ("accepted", 1)


def test_by_policy_an_unknown_outcome_waits_for_a_person():
    hold = Schedule(RetryPolicy(unknown="hold"), "x")
    held = settle(sending(), UNKNOWN, hold, NOON)
    assert (held.state, held.next_at) == ("held", None)
    released = steered(held, "release", POLICY, NOON + 9 * POLICY.life)
    assert is_due(released, NOON + 9 * POLICY.life)


def test_a_message_whose_outcome_is_never_known_is_held_in_the_end():
    recipient, rounds = enqueued("ada@example.org", POLICY, NOON), 0
    while recipient.state in WAITING:
        recipient, rounds = settle(recipient.to("sending"), UNKNOWN, SCHEDULE, recipient.next_at), rounds + 1
    assert (recipient.state, recipient.unknown, rounds) == ("held", POLICY.most_unknown, POLICY.most_unknown)


def test_a_lease_that_ended_leaves_the_outcome_unknown_unless_nothing_was_begun():
    assert taken_over(sending(), SCHEDULE, NOON).state == "outcome_unknown"
    untouched = taken_over(sending(), SCHEDULE, NOON, begun=False)
    assert (untouched.state, untouched.tries, untouched.next_at) == ("queued", 0, NOON)


# --- People --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", STATES)
def test_people_may_do_what_the_table_says_and_nothing_else(action, state):
    recipient = sending(tries=5, state=state)
    allowed, becomes = ACTIONS[action]
    if state in allowed:
        after = steered(recipient, action, POLICY, NOON + POLICY.life)
        assert after.state == becomes
        assert becomes != "queued" or (is_due(after, NOON + POLICY.life) and after.tries == 0)
    else:
        with pytest.raises(NotAllowed, match=action):
            steered(recipient, action, POLICY, NOON)


# --- Clocks --------------------------------------------------------------------------------------------------


class Machine:
    """Nodes on one store: true time passes, and somebody turns the wall clock."""

    def __init__(self, nodes: int) -> None:
        self.true = timedelta(0)
        self.turned = timedelta(0)
        self.row = OutboxClock(NOON, NOON)
        self.seen: list[tuple[datetime, timedelta] | None] = [None] * nodes

    @property
    def wall(self) -> datetime:
        return NOON + self.true + self.turned

    def look(self, node: int) -> datetime:
        seen = self.seen[node]
        own = None if seen is None else seen[0] + (self.true - seen[1])
        self.row = self.row.looked_at(self.wall, own)
        self.seen[node] = self.row.now, self.true
        return self.row.now


HOURS = st.sampled_from([HOUR, -HOUR, timedelta(days=30), -timedelta(days=30)])


@given(st.integers(1, 3), st.data())
def test_outbox_time_passes_as_true_time_does_however_the_clock_is_turned(nodes, data):
    machine = Machine(nodes)
    for node in range(nodes):
        machine.look(node)
    for _ in range(30):
        machine.true += data.draw(st.timedeltas(timedelta(0), MINUTE))
        if data.draw(st.booleans()):
            machine.turned += data.draw(HOURS)
        before = machine.row.now
        assert before <= machine.look(data.draw(st.integers(0, nodes - 1))) == NOON + machine.true


@given(st.lists(st.tuples(st.timedeltas(timedelta(0), HOUR), HOURS | st.none()), max_size=10))
def test_while_nothing_runs_time_passes_by_the_wall_clock_and_never_goes_back(restarts):
    machine = Machine(1)
    for down, jump in restarts:
        machine.look(0)
        before, wall = machine.row.now, machine.wall
        machine.seen[0] = None
        machine.true += down
        machine.turned += jump or timedelta(0)
        assert machine.look(0) - before == max(machine.wall - wall, timedelta(0))


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_clock_that_is_turned_by_an_hour_loses_nothing_and_stalls_nothing(jump):
    machine = Machine(1)
    short = RetryPolicy(waits=(MINUTE,), life=30 * MINUTE, jitter=0)
    now = machine.look(0)
    recipient = enqueued("ada@example.org", short, now).to("sending")
    deferred = settle(recipient, Said("recipient", code=450), Schedule(short, "x"), now)
    machine.turned += jump
    machine.true += 59 * SECOND
    assert not is_due(deferred, machine.look(0))
    machine.true += SECOND
    assert is_due(deferred, machine.look(0))
    machine.turned -= jump
    machine.true += 28 * MINUTE
    assert not overdue(deferred, machine.look(0))
    machine.true += MINUTE
    assert overdue(deferred, machine.look(0))


def test_people_see_times_of_the_clock_on_their_wall():
    machine = Machine(1)
    machine.look(0)
    machine.true, machine.turned = MINUTE, HOUR
    before = machine.row
    machine.look(0)
    assert machine.row.to_wall(NOON + 2 * MINUTE) == NOON + HOUR + 2 * MINUTE
    assert machine.row.of_wall(machine.row.to_wall(NOON)) == NOON
    assert machine.row.leapt(before) == HOUR
    # A time of day that was asked for has come closer by that much.
    assert machine.row.of_wall(NOON + 2 * HOUR) == before.of_wall(NOON + 2 * HOUR) - HOUR
