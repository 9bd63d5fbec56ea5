"""A whole node at work: a real database, a real relay, and whatever may go wrong between them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from counting_relay import CountingRelay
from keyrelay.errors import MasterKeyWrong, StoreUnavailable
from outboxes import (
    SOON,
    Time,
    attempts,
    eventually,
    everybody,
    is_in_state,
    kept,
    letter,
    octets_of,
    recipients,
    sending,
    shown,
    site,
    submit,
    until_all_are,
    working,
)
from relaying import PLAIN, run
from relaying import relay as chaos

THREE = ("ada@example.org", "bob@example.org", "cyd@example.org")


# --- The usual ---------------------------------------------------------------------------------------------------


def test_everything_that_is_handed_in_goes_out_once_and_as_it_was(fresh_settings):
    async def main():
        relay = CountingRelay()
        async with sending(fresh_settings, relay) as made:
            outbox = await working(made)
            letters = [letter(*THREE[: 1 + number % 3], body=b".dots\r\n..more\r\n") for number in range(60)]
            await submit(outbox, *letters)
            await until_all_are(made.store, "accepted")
        assert Counter(one.content for one in relay.taken) == Counter(bytes(one.content) for one in letters)
        assert {one.message_id: one.recipients for one in relay.taken} == {
            one.message_id: one.envelope.recipients for one in letters
        }

    run(main())


def test_the_third_recipient_alone_is_tried_again_with_the_same_message(fresh_settings):
    async def main():
        busy = {"cyd@example.org"}
        relay = CountingRelay(lambda stage, subject: "450 4.2.1 busy" if stage == "rcpt" and subject in busy else None)
        async with sending(fresh_settings, relay) as made:
            outbox = await working(made)
            (name,) = await submit(outbox, letter(*THREE))
            await is_in_state(made.store, name, "deferred")
            assert [one.state for one in await recipients(made.store, name)] == ["accepted", "accepted", "deferred"]
            asked = len(relay.commands)
            busy.clear()
            await is_in_state(made.store, name, "accepted")
            assert await attempts(made.store, name) == [(1, "a"), (2, "a")]
        first, second = relay.taken
        assert (first.recipients, second.recipients) == (THREE[:2], THREE[2:])
        assert first.content == second.content
        assert [line for line in relay.commands[asked:] if line.startswith("RCPT")][-1:] == [
            "RCPT TO:<cyd@example.org>"
        ]
        assert sum(line.startswith("RCPT") and "cyd" not in line for line in relay.commands[asked:]) == 0

    run(main())


def test_eight_bits_go_out_in_seven_where_the_relay_takes_no_others(sqlite_settings):
    async def main():
        relay = CountingRelay(extensions=tuple(one for one in PLAIN if one != "8BITMIME"))
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made)
            await submit(outbox, letter(body="Grüße, and a line that is mostly plain\r\n".encode(), needs_8bit=True))
            await until_all_are(made.store, "accepted")
        (taken,) = relay.taken
        assert taken.content.isascii()
        assert b"Content-Transfer-Encoding: quoted-printable" in taken.content
        assert b"Gr=C3=BC=C3=9Fe" in taken.content

    run(main())


# --- The database --------------------------------------------------------------------------------------------


class Failing:
    """A store whose transactions fail as a test says: ``before`` or ``after`` they are committed."""

    def __init__(self, store) -> None:
        self._perform = store.perform
        self.how: str | None = None
        self.calls = 0
        self.failed = 0
        store.perform = self.perform

    async def perform(self, work, **more):
        self.calls += 1
        if self.how == "before":
            self.failed += 1
            raise StoreUnavailable("away")
        result = await self._perform(work, **more)
        if self.how == "after":
            self.failed += 1
            raise StoreUnavailable("away")
        return result


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("keyrelay.outbox.worker._STORE_AWAY_SECONDS", 0.05)


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("when", ["before the claim", "while it is sent"])
def test_a_database_that_is_away_for_a_while_loses_nothing(fresh_settings, quick, how, when):
    """``after``: what was asked for is done, and the answer lost on its way."""

    async def main():
        go_on = asyncio.Event()

        async def at_last():
            await go_on.wait()

        relay = CountingRelay(lambda stage, _: at_last() if stage == "body" else None)
        async with sending(fresh_settings, relay) as made:
            outbox = await made.outbox(policy=SOON, sessions=4)
            names = await submit(outbox, *(letter() for _ in range(10)))
            store = Failing(outbox.office.store)
            if when == "before the claim":
                store.how = how
            outbox.start(works=True)
            if when == "while it is sent":
                await eventually(lambda: _true(len(relay.whole) >= 4), "nothing arrives")
                store.how = how
                outbox.wake()
            go_on.set()
            await eventually(lambda: _true(store.failed >= 3), "the worker has given up")
            store.how = None
            await until_all_are(made.store, "accepted")
            assert {name: one.lease for name, one in (await kept(made.store)).items()} == dict.fromkeys(names)
            assert {one.unknown for one in await everybody(made.store)} == {0}
        assert Counter(Counter(one.message_id for one in relay.whole).values()) == {1: 10}

    run(main())


async def _true(value: bool) -> bool:
    return value


def test_an_attempt_that_ends_while_a_lost_answer_is_made_good_is_not_taken_for_lost(sqlite_settings, quick):
    """The round that looks for lost claims takes its time, and the message that is in hand arrives meanwhile."""

    async def main():
        go_on = asyncio.Event()

        async def at_last():
            await go_on.wait()

        relay = CountingRelay(lambda stage, _: at_last() if stage == "body" else None)
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made, sessions=1)
            (name,) = await submit(outbox)
            await eventually(lambda: _true(len(relay.whole) == 1), "it does not arrive")
            failing = Failing(outbox.office.store)
            failing.how = "before"
            outbox.wake()
            await eventually(lambda: _true(failing.failed >= 1), "no round")
            perform = failing._perform

            async def slow(work, **more):
                go_on.set()
                await eventually(lambda: _true(len(relay.taken) == 1 and not outbox._worker._in_hand), "never")
                return await perform(work, **more)

            failing._perform, failing.how = slow, None
            await is_in_state(made.store, name, "accepted")
        assert len(relay.whole) == 1

    run(main())


def test_keys_that_cannot_be_opened_make_no_busy_loop(sqlite_settings):
    async def main():
        relay = CountingRelay()
        async with sending(sqlite_settings, relay) as made:
            outbox = await made.outbox(policy=SOON)
            await submit(outbox, letter(), letter())
            refresh = outbox.office.keyring.refresh

            async def failing(_):
                raise MasterKeyWrong("another master key")

            outbox.office.keyring.refresh = failing
            store = Failing(outbox.office.store)
            outbox.start(works=True)
            await asyncio.sleep(0.8)
            assert store.calls < 8
            outbox.office.keyring.refresh = refresh
            await until_all_are(made.store, "accepted")
            assert {one.tries for one in await everybody(made.store)} == {1}

    run(main())


# --- Stopping, dying, stalling -------------------------------------------------------------------------------


def test_a_worker_that_is_told_to_stop_settles_what_is_under_way_and_signs_out(fresh_settings):
    async def main():
        async def slowly():
            await asyncio.sleep(0.4)

        relay = CountingRelay(lambda stage, _: slowly() if stage == "body" else None)
        async with sending(fresh_settings, relay) as made:
            outbox = await working(made, sessions=2)
            names = await submit(outbox, *(letter() for _ in range(6)))
            await eventually(lambda: _true(len(relay.whole) == 2), "nothing arrives")
            await outbox.close()
            found = Counter([(await shown(made.store, name)).state for name in names])
            assert found == {"accepted": 2, "queued": 4}
            assert len(relay.whole) == 2
            assert await made.store.rows("SELECT id FROM node WHERE works = 1") == []

    run(main())


def test_what_cannot_be_ended_in_time_at_a_stop_is_said_to_be_unknown(sqlite_settings):
    async def main():
        never = asyncio.Event()
        relay = CountingRelay(lambda stage, _: never.wait() if stage == "body" else None)
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made, goodbye=0.2)
            (name,) = await submit(outbox)
            await eventually(lambda: _true(len(relay.whole) == 1), "it does not arrive")
            await outbox.close()
            (one,) = await recipients(made.store, name)
            assert (one.state, one.unknown) == ("outcome_unknown", 1)
            assert await attempts(made.store, name) == [(1, "a")]

    run(main())


def test_a_node_that_takes_its_time_to_stop_is_not_taken_for_dead(sqlite_settings):
    async def main():
        go_on = asyncio.Event()

        async def at_last():
            await go_on.wait()

        relay = CountingRelay(lambda stage, _: at_last() if stage == "body" else None)
        clocks = Time(rate=1)
        async with sending(sqlite_settings, relay, clocks) as made:
            leaving = await working(made, "leaving", goodbye=30)
            (name,) = await submit(leaving)
            await eventually(lambda: _true(len(relay.whole) == 1), "it does not arrive")
            staying = await working(made, "staying")
            closing = asyncio.create_task(leaving.close())
            for _ in range(6):
                await asyncio.sleep(0.1)
                clocks.pass_by(9)
                leaving.wake()
                await asyncio.sleep(0.1)
                staying.wake()
            go_on.set()
            await closing
            (one,) = await recipients(made.store, name)
            assert (one.state, one.unknown) == ("accepted", 0)
        assert len(relay.whole) == 1

    run(main())


def test_a_node_that_stalls_for_longer_than_its_lease_does_no_harm_when_it_comes_back(fresh_settings, quick):
    async def main():
        go_on = asyncio.Event()
        first = asyncio.Event()

        async def at_last():
            if not first.is_set():
                first.set()
                await go_on.wait()

        relay = CountingRelay(lambda stage, _: at_last() if stage == "body" else None)
        clocks = Time(rate=1)
        async with sending(fresh_settings, relay, clocks) as made:
            # One message is with the relay, another waits for the one session.
            stalled = await working(made, "stalled", sessions=1)
            stalled._worker._rate = 1000.0
            names = await submit(stalled, letter(), letter())
            await eventually(lambda: _true(len(relay.whole) == 1), "it does not arrive")
            cut_off = Failing(stalled.office.store)
            cut_off.how = "before"
            other = await working(made, "other")

            async def is_taken_over() -> bool:
                clocks.pass_by(9)
                other.wake()
                await asyncio.sleep(0.05)
                found = await kept(made.store)
                return stalled.office.node not in {one.lease for one in found.values()}

            await eventually(is_taken_over, "nobody takes it over")
            await until_all_are(made.store, "accepted")
            go_on.set()
            await asyncio.sleep(0.3)
            cut_off.how = None
            await asyncio.sleep(0.3)
            for name in names:
                found = await shown(made.store, name)
                (one,) = found.recipients
                copies = sum(each.message_id == found.message_id for each in relay.whole)
                assert one.state == "accepted"
                assert copies <= 1 + one.unknown
            assert len(relay.whole) <= 3, "what was not begun before the lease ended was not begun after it"
            assert len(await attempts(made.store, names[0])) == 2
            assert await octets_of(other.office, names[0])

    run(main())


def test_a_probe_that_takes_its_time_makes_no_busy_loop(sqlite_settings):
    async def main():
        clocks = Time(rate=1)
        slow = asyncio.Event()
        probing: list[str] = []
        async with chaos(starttls=True, certificate="expired") as bad, site(sqlite_settings, clocks) as made:
            made.aim(bad.port, use_ssl=True)
            outbox = await working(made)
            await submit(outbox)

            async def is_paused() -> bool:
                return '"paused"' in (await made.store.rows("SELECT pressure FROM outbox"))[0][0]

            await eventually(is_paused, "it goes on trying")

            async def probe():
                probing.append("now")
                await slow.wait()

            outbox.mailer.probe = probe
            store = Failing(outbox.office.store)
            clocks.pass_by(61)
            outbox.wake()
            await eventually(lambda: _true(bool(probing)), "nobody probes")
            before = store.calls
            await asyncio.sleep(0.6)
            assert store.calls - before <= 2
            assert probing == ["now"]
            slow.set()
            await outbox.close()

    run(main())
