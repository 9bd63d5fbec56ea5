"""A whole node at work, and a message, or a relay, that is trouble: the rest flows, and what it was about is seen."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from counting_relay import CountingRelay, HangUp
from keyrelay.profile.model import Basic
from keyrelay.secrets.model import SecretText
from outboxes import (
    SOON,
    Time,
    attempts,
    ensure_books_are_right,
    eventually,
    everybody,
    is_in_state,
    letter,
    policy,
    recipients,
    sending,
    shown,
    site,
    submit,
    tallies,
    until_all_are,
    working,
)
from relaying import PASSWORD, USER, run
from relaying import relay as chaos

# --- One that is trouble, and the rest -----------------------------------------------------------------------


def test_while_one_message_hangs_before_the_final_reply_the_rest_flows(sqlite_settings):
    async def main():
        stuck = letter()
        go_on = asyncio.Event()

        async def at_last():
            await go_on.wait()
            return "250 2.0.0 taken"

        relay = CountingRelay(
            lambda stage, subject: at_last() if stage == "body" and subject == stuck.message_id else None
        )
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made, sessions=2)
            (name,) = await submit(outbox, stuck)
            others = await submit(outbox, *(letter() for _ in range(40)))
            for each in others:
                await is_in_state(made.store, each, "accepted")
            assert (await shown(made.store, name)).state == "sending"
            go_on.set()
            await is_in_state(made.store, name, "accepted")
        assert Counter(one.message_id for one in relay.whole).most_common(1)[0][1] == 1

    run(main())


def test_a_relay_that_never_gives_the_final_reply_leaves_an_unknown_outcome_that_is_sent_again(sqlite_settings):
    async def main():
        stuck = letter()
        silent = {stuck.message_id}
        never = asyncio.Event()

        def say(stage, subject):
            return never.wait() if stage == "body" and subject in silent else None

        relay = CountingRelay(say)
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made, reply=0.4)
            (name,) = await submit(outbox, stuck)
            await submit(outbox, *(letter() for _ in range(10)))
            await is_in_state(made.store, name, "outcome_unknown")
            assert (await recipients(made.store, name))[0].unknown == 1
            silent.clear()
            await until_all_are(made.store, "accepted")
            assert (await recipients(made.store, name))[0].unknown == 1
        copies = [one for one in relay.whole if one.message_id == stuck.message_id]
        assert len(copies) == 2
        assert copies[0].content == copies[1].content

    run(main())


@pytest.mark.parametrize("unknown", ["retry", "hold"])
def test_a_message_that_kills_every_session_is_held_in_the_end(sqlite_settings, unknown):
    async def main():
        deadly = letter()
        relay = CountingRelay(
            lambda stage, subject: HangUp if stage == "body" and subject == deadly.message_id else None
        )
        clocks = Time(rate=1)
        async with sending(sqlite_settings, relay, clocks) as made:
            outbox = await working(made, policy=policy(waits=(0.2,), unknown=unknown))
            (name,) = await submit(outbox, deadly)
            others = await submit(outbox, *(letter() for _ in range(10)))

            async def is_held() -> bool:
                clocks.pass_by(3)
                outbox.wake()
                return (await shown(made.store, name)).state == "held"

            await eventually(is_held, "it goes round for ever")
            for each in others:
                await is_in_state(made.store, each, "accepted")
        copies = Counter(one.message_id for one in relay.whole)
        assert copies.pop(deadly.message_id) == (3 if unknown == "retry" else 1)
        assert set(copies.values()) == {1}

    run(main())


async def _damage(made, outbox, name):
    async with made.store.change() as change:  # nothing of ours makes such a content
        await change.run("UPDATE message_content SET sealed = $1 WHERE message = $2", b"\0" * 60, name)


async def _lose(made, outbox, name):
    async with made.store.change() as change:
        await change.run("DELETE FROM message_content WHERE message = $1", name)


async def _break_our_own_code(made, outbox, name):
    with_session = outbox.mailer.with_session

    async def failing(work):
        claim = work.__closure__[[*work.__code__.co_freevars].index("self")].cell_contents.claim
        if claim.id == name:
            raise ZeroDivisionError
        return await with_session(work)

    outbox.mailer.with_session = failing


@pytest.mark.parametrize("poison", [_damage, _lose, _break_our_own_code])
def test_a_message_that_cannot_be_sent_is_held_with_the_reason_and_the_rest_flows(sqlite_settings, poison):
    async def main():
        relay = CountingRelay()
        async with sending(sqlite_settings, relay) as made:
            outbox = await made.outbox(policy=SOON)
            (name,) = await submit(outbox)
            others = await submit(outbox, *(letter() for _ in range(20)))
            await poison(made, outbox, name)
            outbox.start(works=True)
            for each in others:
                await is_in_state(made.store, each, "accepted")
            await is_in_state(made.store, name, "held")
            (one,) = await recipients(made.store, name)
            assert one.said.text
            assert await attempts(made.store, name) == [(1, "a")]
        assert len(relay.taken) == 20

    run(main())


def test_a_message_that_the_relay_never_takes_is_refused_and_the_rest_flows(sqlite_settings):
    async def main():
        bad = letter()
        relay = CountingRelay(
            lambda stage, subject: "554 5.6.0 no" if stage == "body" and subject == bad.message_id else None
        )
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made)
            (name, *others) = await submit(outbox, bad, *(letter() for _ in range(10)))
            for each in others:
                await is_in_state(made.store, each, "accepted")
            await is_in_state(made.store, name, "refused")
            (one,) = await recipients(made.store, name)
            assert (one.said.code, one.said.enhanced, one.tries) == (554, "5.6.0", 1)

    run(main())


def test_an_address_that_no_envelope_may_have_is_held_and_not_tried_for_ever(sqlite_settings):
    async def main():
        relay = CountingRelay()
        async with sending(sqlite_settings, relay) as made:
            outbox = await working(made)
            name, other = await submit(outbox, letter("two words@example.org"), letter())
            await is_in_state(made.store, name, "held")
            await is_in_state(made.store, other, "accepted")

    run(main())


# --- Trouble that is everybody's -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", ["421 4.7.0 try later", "450 4.7.1 slow down", "451 4.3.2 not now", "432 4.3.2 concurrent connections"]
)
def test_a_storm_burns_no_attempts_and_everything_goes_out_after_it(sqlite_settings, reply):
    async def main():
        stormy = [True]
        relay = CountingRelay(lambda stage, _: reply if stage == "mail" and stormy[0] else None)
        clocks = Time(rate=1)
        async with sending(sqlite_settings, relay, clocks) as made:
            outbox = await working(made, policy=policy(waits=(0.2,)))
            await submit(outbox, *(letter() for _ in range(25)))

            async def has_slowed_down() -> bool:
                rows = await made.store.rows("SELECT pressure FROM outbox")
                return '"slowed"' in rows[0][0]

            await eventually(has_slowed_down, "it never slows down")
            for _ in range(8):
                clocks.pass_by(60)
                outbox.wake()
                await asyncio.sleep(0.05)
            tried = sum(one.tries for one in await everybody(made.store))
            assert tried <= 2 + 8, "what looked like one message's trouble, and the trials"
            assert len(relay.commands) < 400
            stormy[0] = False
            for _ in range(200):
                clocks.pass_by(30)
                outbox.wake()
                await asyncio.sleep(0.02)
                if await tallies(made.store) == {"accepted": 25, "content": 25}:
                    break
            await until_all_are(made.store, "accepted", 1)

    run(main())


def test_a_refused_sign_in_pauses_at_once_and_another_profile_resumes(sqlite_settings):
    async def main():
        made_relay = chaos(starttls=True, auth=("PLAIN",), users={USER: PASSWORD}, require_auth=True)
        async with made_relay as relay, site(sqlite_settings) as made:
            made.aim(relay.port, use_ssl=True, authentication=Basic(SecretText(USER), SecretText("wrong")))
            outbox = await working(made)
            await submit(outbox, *(letter() for _ in range(12)))

            async def is_paused() -> bool:
                rows = await made.store.rows("SELECT pressure FROM outbox")
                return '"paused"' in rows[0][0] and '"sign_in"' in rows[0][0] and "535" in rows[0][0]

            await eventually(is_paused, "it goes on trying")
            await asyncio.sleep(0.3)
            assert sum("AUTH" in line for _, line in relay.commands) == 1, "accounts are locked for less"
            assert [one.tries for one in await everybody(made.store)] == [0] * 12
            made.aim(relay.port, use_ssl=True, authentication=Basic(SecretText(USER), SecretText(PASSWORD)))
            outbox.wake()
            await until_all_are(made.store, "accepted")
            assert relay.accepted == 12
            await ensure_books_are_right(made.store)

    run(main())


@pytest.mark.parametrize("kind", ["expired", "unknown_ca", "wrong_name"])
def test_a_certificate_that_is_not_good_pauses_at_once_and_a_successful_probe_resumes(sqlite_settings, kind):
    async def main():
        clocks = Time(rate=1)
        async with chaos(starttls=True, certificate=kind) as bad, site(sqlite_settings, clocks) as made:
            made.aim(bad.port, use_ssl=True)
            outbox = await working(made)
            await submit(outbox, *(letter() for _ in range(5)))

            async def is_paused() -> bool:
                rows = await made.store.rows("SELECT pressure FROM outbox")
                return '"paused"' in rows[0][0] and '"certificate"' in rows[0][0]

            await eventually(is_paused, "it goes on trying")
            assert [one.tries for one in await everybody(made.store)] == [0] * 5
            await bad.stop()
            good = chaos(starttls=True)
            good.port = bad.port
            async with good:
                clocks.pass_by(61)
                outbox.wake()
                await until_all_are(made.store, "accepted")
                await outbox.close()
            assert good.accepted == 5
            assert bad.accepted == 0

    run(main())
