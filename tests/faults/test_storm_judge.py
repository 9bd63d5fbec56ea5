"""The judge of the outbox storm finds what must never be, and has nothing to say against what may."""

from __future__ import annotations

import random

import pytest
from outbox_storm import Letter, judge, letter
from recording_relay import GREY, REFUSED, Taken, digest

ONE = Letter("k-1", ("to@example.org",), b"hello\r\n")
TWO = Letter("k-2", ("to@example.org", f"{REFUSED}2@example.org"), b"hello\r\n")
ID = "018f0000-0000-7000-8000-000000000001"


def taken(made: Letter = ONE, *recipients: str, body: bytes = b"hello\r\n", answer: int | None = 250) -> Taken:
    return Taken(made.message_id, recipients or made.recipients[:1], digest(body), answer)


def view(made: Letter = ONE, *states: str, unknown: int = 0, **more: object) -> dict[str, object]:
    told = zip(made.recipients, states or ("accepted",), strict=True)
    recipients = [{"address": address, "state": state, "unknown": unknown} for address, state in told]
    reply = {"recipient": made.recipients[0], "stage": "data", "kind": "outcome_unknown", "text": "lost"}
    attempts = [{"number": number, "replies": [reply]} for number in range(unknown)]
    shown = {"message_id": made.message_id, "recipients": recipients, "attempts": attempts}
    return shown | {"state": recipients[0]["state"]} | more


@pytest.mark.parametrize(
    ("shown", "at_the_relay"),
    [
        (view(), [taken()]),
        (view(unknown=1), [taken(answer=None), taken()]),
        (view(unknown=1), [taken()]),
        (view(ONE, "queued"), []),
        (view(ONE, "deferred"), []),
        (view(ONE, "held", unknown=3), [taken(), taken(), taken()]),
        (view(ONE, "outcome_unknown", unknown=1), [taken()]),
    ],
)
def test_what_may_be(shown, at_the_relay):
    assert judge({ONE.key: ONE}, {ONE.key: [ID, ID]}, {ID: shown}, at_the_relay).problems == []


@pytest.mark.parametrize(
    ("shown", "at_the_relay", "problem"),
    [
        (None, [], "nobody knows it"),
        (None, [taken()], "nobody knows it"),
        (view(), [], "the relay does not have it"),
        (view(unknown=1), [], "the relay does not have it"),
        (view(), [taken(), taken()], "1 not accounted for"),
        (view(unknown=1), [taken(), taken(), taken()], "1 not accounted for"),
        (view(ONE, "queued"), [taken()], "1 not accounted for"),
        (view(ONE, "deferred"), [taken()], "1 not accounted for"),
        (view(ONE, "refused"), [], "the relay would not do that"),
        (view(ONE, "expired"), [], "nobody wanted that"),
        (view(ONE, "cancelled"), [], "nobody wanted that"),
        (view(unknown=1, attempts=[]), [taken()], "0 attempts that say so"),
        (view(), [taken(TWO)], "never handed in"),
        (view(), [taken(body=b"hullo\r\n")], "another body"),
        (view(), [taken(ONE, "else@example.org")], "it went to"),
        (view(), [taken(ONE, "to@example.org", "to@example.org")], "it went to"),
        (view(message_id="<other@example.org>"), [taken()], "shown is <other"),
        (view(TWO, "accepted", "accepted", message_id=ONE.message_id), [taken()], "shown is <k-1"),
    ],
)
def test_what_must_never_be(shown, at_the_relay, problem):
    found = judge({ONE.key: ONE}, {ONE.key: [ID]}, {ID: shown}, at_the_relay).problems
    assert any(problem in one for one in found), found


@pytest.mark.parametrize("ids", [[], [ID, ID[:-1] + "2"]])
def test_a_key_names_one_submission_however_often_it_is_answered(ids):
    found = judge({ONE.key: ONE}, {ONE.key: ids}, dict.fromkeys(ids, view()), [taken()]).problems
    assert found == [f"{ONE.key}: the 202s name {len(ids)} ids"]


def test_recipients_are_judged_one_by_one():
    verdict = judge({TWO.key: TWO}, {TWO.key: [ID]}, {ID: view(TWO, "accepted", "refused")}, [taken(TWO)])
    assert verdict.problems == []
    assert verdict.recipients == {"accepted": 1, "refused": 1}
    assert judge({TWO.key: TWO}, {TWO.key: [ID]}, {ID: view(TWO, "accepted", "accepted")}, [taken(TWO)]).problems


def test_the_copies_are_counted():
    verdict = judge({ONE.key: ONE}, {ONE.key: [ID]}, {ID: view(unknown=2)}, [taken(answer=None), taken(), taken()])
    assert (verdict.problems, verdict.copies, verdict.unknown) == ([], 2, {"lost": 2})


def test_of_a_thousand_letters_some_have_recipients_whom_the_relay_refuses_or_takes_later():
    made = [letter(f"k-{number}", random.Random(number)) for number in range(1000)]
    kinds = [address for one in made for address in one.recipients]
    assert all(any(address.startswith(kind) for address in kinds) for kind in ("to-", REFUSED, GREY))
    assert {len(one.recipients) for one in made} == {1, 2, 3}
