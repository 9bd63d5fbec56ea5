"""Submissions are found by state, recipient and time, page by page, and shown with all that was said of them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from keyrelay.errors import Unexpected
from keyrelay.outbox import listing
from keyrelay.outbox.listing import Search
from keyrelay.outbox.model import STATES
from keyrelay.outbox.queue import Order
from keyrelay.store.model import Store
from outboxes import LATER, NO, UNKNOWN, YES, ByHand, Time, letter, queue, said, site, submit
from relaying import run

MICROSECOND = timedelta(microseconds=1)
EVERYTHING = Search()


async def found(store: Store, search: Search, *, limit: int = 50) -> list[str]:
    """The ids of all that is found, whichever page they are on."""
    page = await listing.find(store, search, limit=limit)
    ids = [kept.submission.id for kept in page.submissions]
    while page.next is not None:
        assert len(page.submissions) <= limit
        page = await listing.find(store, search, after=page.next, limit=limit)
        ids += [kept.submission.id for kept in page.submissions]
    return ids


HOW_TO = {  # bring a message into a state: what to say of its attempt
    "accepted": YES,
    "deferred": LATER,
    "refused": NO,
    "outcome_unknown": "attempted",
    "held": "failed_at",
    "queued": "not_begun",
}


async def one_of_each(node: ByHand, desk) -> dict[str, str]:
    """A message in every state that a round can bring it to; by state, its id."""
    states = (*HOW_TO, "sending")
    ids = {state: (await submit(desk, letter(f"{state}@example.org")))[0] for state in states}
    for claim in (await node.round()).claims:
        address = claim.recipients[0].address
        how = HOW_TO.get(address.partition("@")[0])
        if isinstance(how, str):
            node.settle(claim, UNKNOWN, how)
        elif how is not None:
            node.settle(claim, said(claim, {address: how}))
    await node.round(0)
    return ids


# --- Pages ---------------------------------------------------------------------------------------------------


def test_pages_go_from_the_newest_to_the_oldest_and_repeat_nothing_while_more_comes_in(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = queue(await place.office())
            ids = [(await submit(desk))[0] for _ in range(7)]
            first = await listing.find(place.store, EVERYTHING, limit=3)
            assert [kept.submission.id for kept in first.submissions] == sorted(ids, reverse=True)[:3]
            await submit(desk, letter(), letter())
            second = await listing.find(place.store, EVERYTHING, after=first.next, limit=3)
            third = await listing.find(place.store, EVERYTHING, after=second.next, limit=3)
            pages = [kept.submission.id for page in (first, second, third) for kept in page.submissions]
            assert pages == sorted(ids, reverse=True)
            assert third.next is None

    run(main())


def test_a_full_last_page_has_none_after_it(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            await submit(queue(await place.office()), letter(), letter())
            assert (await listing.find(place.store, EVERYTHING, limit=2)).next is None
            assert (await listing.find(place.store, EVERYTHING, limit=1)).next is not None

    run(main())


def test_a_page_has_no_more_recipients_than_can_be_shown(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as place:
            desk = queue(await place.office())
            many = [letter(*(f"r{number}@example.org" for number in range(400))) for _ in range(5)]
            ids = await submit(desk, *many)
            page = await listing.find(place.store, EVERYTHING, limit=5)
            assert len(page.submissions) == 2
            assert sorted(await found(place.store, EVERYTHING)) == sorted(ids)

    run(main())


def test_a_message_that_is_damaged_hides_no_other(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as place:
            first, damaged, last = [(await submit(queue(await place.office())))[0] for _ in range(3)]
            with closing(sqlite3.connect(sqlite_settings.sqlite_file)) as broken, broken:
                broken.execute("UPDATE message SET recipients = '[{' WHERE id = ?", (damaged,))
            assert await found(place.store, EVERYTHING, limit=1) == [last, first]
            with pytest.raises(Unexpected):
                await listing.one(place.store, damaged)

    run(main())


# --- By state ------------------------------------------------------------------------------------------------


def test_each_state_is_found_by_its_name_and_several_together(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            node = ByHand(await place.office())
            desk = queue(node.office)
            ids = [await one_of_each(node, desk) for _ in range(3)]
            for state in {state for each in ids for state in each}:
                expected = sorted((each[state] for each in ids), reverse=True)
                assert await found(place.store, Search(frozenset({state})), limit=2) == expected
            two = Search(frozenset({"sending", "refused"}))
            expected = sorted((each[state] for each in ids for state in ("sending", "refused")), reverse=True)
            assert await found(place.store, two, limit=4) == expected
            assert await found(place.store, Search(frozenset(STATES))) == await found(place.store, EVERYTHING)
            assert await found(place.store, Search(frozenset({"cancelled", "expired"}))) == []

    run(main())


def test_what_is_being_sent_is_shown_so(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            node = ByHand(await place.office())
            (name,) = await submit(queue(node.office), letter("a@example.org", "b@example.org"))
            await node.round()
            detail = await listing.one(place.store, name)
            assert detail is not None
            assert (detail.kept.state, detail.attempts) == ("sending", ())
            assert {one.state for one in detail.kept.shown.recipients} == {"sending"}

    run(main())


# --- By recipient --------------------------------------------------------------------------------------------


def test_a_recipient_is_found_in_any_case_and_among_others(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = queue(await place.office())
            (both,) = await submit(desk, letter("Ops@Example.org", "dev@example.org"))
            (alone,) = await submit(desk, letter("ops@example.org"))
            await submit(desk, letter("dev@example.org"))
            for spelling in ("ops@example.org", "OPS@EXAMPLE.ORG"):
                newest_first = sorted((alone, both), reverse=True)  # of one millisecond, in no order of theirs
                assert await found(place.store, Search(recipient=spelling)) == newest_first

    run(main())


def test_an_address_beyond_ascii_is_found_as_the_relay_is_told_it(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as place:
            (name,) = await submit(queue(await place.office()), letter("ops@xn--mnchen-3ya.example"))
            assert await found(place.store, Search(recipient="ops@münchen.example")) == [name]

    run(main())


@pytest.mark.parametrize("address", ["", "ops", "ops\0@example.org", "a@b@c", "ops@\ud800.example", "x" * 5000])
def test_nothing_is_found_for_what_is_no_address(fresh_settings, address):
    async def main():
        async with site(fresh_settings) as place:
            await submit(queue(await place.office()))
            assert await listing.find(place.store, Search(recipient=address)) == listing.Page((), None)

    run(main())


def test_a_rare_state_is_found_among_very_many_messages_of_one_recipient(fresh_settings, monkeypatch):
    monkeypatch.setattr(listing, "_MOST_LOOKS", 2)

    async def main():
        async with site(fresh_settings) as place:
            node = ByHand(await place.office())
            desk = queue(node.office)
            (old,) = await submit(desk, letter("ops@example.org"))
            (claim,) = (await node.round()).claims
            node.settle(claim, said(claim, {"ops@example.org": NO}))
            await node.round(0)
            await submit(desk, *(letter("ops@example.org") for _ in range(1200)))
            refused = Search(frozenset({"refused"}), "ops@example.org")
            page = await listing.find(place.store, refused)
            assert page.submissions == ()  # it has looked far enough for one page, and says where to go on
            assert page.next is not None
            assert await found(place.store, refused) == [old]
            waiting = await found(place.store, Search(frozenset({"queued"}), "ops@example.org"), limit=200)
            assert len(waiting) == len(set(waiting)) == 1200
            assert waiting == sorted(waiting, reverse=True)

    run(main())


# --- By time -------------------------------------------------------------------------------------------------


def test_since_is_included_and_until_is_not(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            office = await place.office()
            desk = queue(office)
            ids, times = [], []
            for _ in range(4):
                clocks.pass_by(600)
                await office.open()
                ids += await submit(desk)
                times.append((await listing.one(place.store, ids[-1])).kept.submission.submitted_at)
            for recipient in (None, "ops@example.org"):

                async def between(since, until, to=recipient):
                    return await found(place.store, Search(recipient=to, since=since, until=until), limit=1)

                assert await between(times[1], None) == [ids[3], ids[2], ids[1]]
                assert await between(times[1] + MICROSECOND, None) == [ids[3], ids[2]]
                assert await between(None, times[1]) == [ids[0]]
                assert await between(None, times[1] + MICROSECOND) == [ids[1], ids[0]]
                assert await between(times[1], times[2]) == [ids[1]]
                assert await between(times[2], times[1]) == []

    run(main())


@pytest.mark.parametrize("year", [1, 1969, 1970, 9999])
def test_no_time_is_too_far_away(fresh_settings, year):
    async def main():
        async with site(fresh_settings) as place:
            (name,) = await submit(queue(await place.office()))
            for last in (False, True):
                moment = datetime(year, 12, 31, 23, 59, 59, 999_999, UTC) if last else datetime(year, 1, 1, tzinfo=UTC)
                before, after = ([], [name]) if year == 9999 else ([name], [])
                for recipient in (None, "ops@example.org"):
                    assert await found(place.store, Search(recipient=recipient, since=moment)) == before
                    assert await found(place.store, Search(recipient=recipient, until=moment)) == after

    run(main())


# --- One -----------------------------------------------------------------------------------------------------


def test_one_is_shown_with_each_attempt_and_what_was_said_to_whom(fresh_settings):
    async def main():
        clocks = Time()
        async with site(fresh_settings, clocks) as place:
            node = ByHand(await place.office("first"))
            (name,) = await submit(queue(node.office), letter("a@example.org", "b@example.org", "c@example.org"))
            for replies in ({"b@example.org": LATER, "c@example.org": NO}, {}):
                (claim,) = (await node.round()).claims
                node.settle(claim, said(claim, replies))
                await node.round(0)
                clocks.pass_by(600)
            detail = await listing.one(place.store, name)
            assert detail is not None
            assert detail.kept.state == "refused"
            first, second = detail.attempts
            assert (first.number, first.node, second.number) == (1, "first", 2)
            assert [(address, words.code) for address, words in first.said] == [
                ("a@example.org", 250),
                ("b@example.org", 450),
                ("c@example.org", 550),
            ]
            assert [(address, words.code) for address, words in second.said] == [("b@example.org", 250)]

    run(main())


def test_of_very_many_attempts_the_newest_are_shown(sqlite_settings):
    async def main():
        async with site(sqlite_settings) as place:
            (name,) = await submit(queue(await place.office()))
            rows = [(name, number, "a", 0, 0, "[]") for number in range(1, 131)]
            with closing(sqlite3.connect(sqlite_settings.sqlite_file)) as many, many:
                many.executemany("INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?)", rows)
            detail = await listing.one(place.store, name)
            assert detail is not None
            assert [attempt.number for attempt in detail.attempts] == list(range(31, 131))

    run(main())


@pytest.mark.parametrize(
    "name", ["", "x", "\0", "1" * 36, "00000000-0000-7000-8000-000000000000", "' OR 1=1", "é" * 36, "\ud800"]
)
def test_there_is_none_of_an_id_that_is_not_known(fresh_settings, name):
    async def main():
        async with site(fresh_settings) as place:
            await submit(queue(await place.office()))
            assert await listing.one(place.store, name) is None

    run(main())


def test_many_may_look_at_once(fresh_settings):
    async def main():
        async with site(fresh_settings) as place:
            desk = queue(await place.office())
            await submit(desk, *(letter() for _ in range(30)))
            pages = await asyncio.gather(*(listing.find(place.store, EVERYTHING, limit=30) for _ in range(20)))
            assert {len(page.submissions) for page in pages} == {30}
            await desk.submit(letter(), Order("me"))

    run(main())
