"""Sessions kept for the next message: how long, how many, and never across a change of the profile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.relay.model import StageFailed
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.pool import Limits, SessionPool
from keyrelay.relay.session import Delivery, Session
from keyrelay.relay.sign_in import Credentials
from relaying import (
    ANONYMOUS,
    CONTENT,
    PIPELINED,
    answering,
    both_loops,
    envelope,
    evidence_of,
    password,
    profile,
    relay,
    run,
    serving,
    terms,
    until,
)

NOW = "revision-1"


def opener(
    port: int, credentials: Credentials = ANONYMOUS, on: Terms | None = None, **more: Any
) -> Callable[[], Awaitable[Session]]:
    made = on or terms()

    async def open_one() -> Session:
        return await open_session(profile(port, **more), credentials, made)

    return open_one


async def send(pool: SessionPool, port: int, revision: str = NOW, *, content: bytes = CONTENT) -> Delivery:
    async with pool.session(revision, opener(port)) as session:
        return await session.send(envelope(), content)


def sessions_of(there: ChaosRelay) -> list[int]:
    return [message.session for message in there.messages]


@both_loops
def test_a_session_is_kept_for_the_next_message_and_ends_with_quit(loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool()
            for _ in range(5):
                assert (await send(pool, there.port)).accepted
            assert there.connections == 1
            await pool.close()
            assert there.commands[-1][1] == "QUIT"
            await until(lambda: not there.open)
            assert there.mistakes == []

    run(main(), loop)


@both_loops
def test_no_more_sessions_are_open_at_once_than_allowed(loop):
    async def main() -> None:
        async with relay(delay=0.005) as there:
            pool = SessionPool(Limits(sessions=3))
            most = 0

            async def one() -> None:
                nonlocal most
                async with pool.session(NOW, opener(there.port)) as session:
                    most = max(most, there.open)
                    await session.send(envelope(), CONTENT)

            await asyncio.gather(*(one() for _ in range(30)))
            assert most == 3
            assert there.connections == 3
            assert len(there.messages) == 30
            await pool.close()

    run(main(), loop)


@both_loops
def test_sessions_that_say_goodbye_count_until_they_are_gone(loop):
    """A relay that allows three connections counts those that wait for its answer to QUIT."""

    async def main() -> None:
        async with relay(stall="quit") as there:
            pool = SessionPool(Limits(sessions=1, messages=1))
            for _ in range(2):
                async with pool.session(NOW, opener(there.port)) as session:
                    await asyncio.sleep(0.1)
                    assert there.open == 1
                    await session.send(envelope(), CONTENT)
            await pool.close()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(
    ("limits", "sessions"),
    [
        (Limits(messages=2), [1, 1, 2, 2, 3]),
        (Limits(messages=1), [1, 2, 3, 4, 5]),
        (Limits(age=0.0), [1, 2, 3, 4, 5]),
        (Limits(idle=0.0), [1, 2, 3, 4, 5]),
        (Limits(), [1, 1, 1, 1, 1]),
    ],
)
def test_a_session_is_used_within_its_limits(limits, sessions, loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool(limits)
            for _ in sessions:
                await send(pool, there.port)
            await pool.close()
            assert sessions_of(there) == sessions
            assert sum(line == "QUIT" for _, line in there.commands) == len(set(sessions))
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_session_that_was_idle_for_too_long_is_not_used_again(loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool(Limits(idle=0.2))
            await send(pool, there.port)
            await asyncio.sleep(0.3)
            await send(pool, there.port)
            await pool.close()
            assert sessions_of(there) == [1, 2]

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("limits", [Limits(idle=0.2), Limits(age=0.2)], ids=["idle", "age"])
def test_sessions_that_nobody_uses_again_are_said_goodbye_to_in_time(limits, loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool(limits)
            await asyncio.gather(*(send(pool, there.port) for _ in range(3)))
            await asyncio.sleep(0.05)
            await send(pool, there.port)
            await until(lambda: not there.open)
            assert sum(line == "QUIT" for _, line in there.commands) == there.connections
            await pool.close()

    run(main(), loop)


@both_loops
def test_a_session_that_has_time_left_is_kept_when_another_has_none(loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool(Limits(idle=2.0))
            async with pool.session(NOW, opener(there.port)) as late:
                await send(pool, there.port)
                await asyncio.sleep(1.0)
                await late.send(envelope(), CONTENT)
            await until(lambda: there.open == 1)
            await send(pool, there.port)
            assert there.connections == 2
            await pool.close()

    run(main(), loop)


@both_loops
def test_a_session_in_constant_use_is_not_idle(loop):
    async def main() -> None:
        async with relay() as there:
            pool = SessionPool(Limits(idle=1.0))
            for _ in range(8):
                await send(pool, there.port)
                await asyncio.sleep(0.2)
            await pool.close()
            assert set(sessions_of(there)) == {1}

    run(main(), loop)


# --- Sessions that go bad ------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("says", [b"421 4.4.2 idle for too long\r\n", b""], ids=["421", "nothing"])
def test_a_relay_that_hangs_up_between_messages_costs_no_message(says, loop):
    connections = 0

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"220 odd.test\r\n")
        while (line := await reader.readline()) and not line.startswith(b"QUIT"):
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
                await asyncio.sleep(0.05)
                writer.write(says)
                return
            writer.write(b"250 ok\r\n")

    async def main() -> None:
        async with serving(converse) as port:
            pool = SessionPool()
            for number in range(1, 4):
                assert (await send(pool, port)).accepted
                assert connections == number
                await asyncio.sleep(0.2)
            await pool.close()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b".\r\n"])
def test_after_a_421_a_session_is_not_used_again_even_if_it_stays_open(verb, loop):
    """RFC 5321 section 3.8: with 421 the relay says that it closes; it may take its time."""
    connections = 0

    def answer(line: bytes) -> bytes:
        nonlocal connections
        connections += line.startswith(b"EHLO")
        if connections == 1 and line.startswith(verb):
            return b"421 4.3.2 going down\r\n"
        if line in CONTENT.splitlines(keepends=True):
            return b""
        return {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(line[:4], b"250 ok\r\n")

    async def main() -> None:
        async with answering(answer) as port:
            pool = SessionPool()
            assert (await send(pool, port)).evidence().reply.code == 421
            assert (await send(pool, port)).accepted
            assert connections == 2
            await pool.close()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("how", [{"close": "after-dot"}, {"close": "rcpt"}, {"replies": {"mail": "what?"}}])
def test_a_session_on_which_anything_went_wrong_is_given_up(how, loop):
    async def main() -> None:
        async with relay(**how, then=(Script(),)) as there:
            pool = SessionPool()
            with pytest.raises(StageFailed):
                await send(pool, there.port)
            assert (await send(pool, there.port)).accepted
            assert there.connections == 2
            await pool.close()
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_plain_refusal_is_no_reason_to_give_a_session_up(loop):
    async def main() -> None:
        async with relay(rcpt_replies={"bad@b.test": "550 5.1.1 nobody"}) as there:
            pool = SessionPool()
            for number in range(6):
                async with pool.session(NOW, opener(there.port)) as session:
                    to = "bad@b.test" if number % 2 else "good@b.test"
                    assert len((await session.send(envelope(to), CONTENT)).accepted) == (not number % 2)
            assert there.connections == 1
            assert len(there.messages) == 3
            assert there.mistakes == []
            await pool.close()

    run(main(), loop)


@both_loops
def test_a_message_that_is_too_large_is_no_reason_either(loop):
    async def main() -> None:
        async with relay(extensions=("SIZE 100",)) as there:
            pool = SessionPool()
            assert (await evidence_of(send(pool, there.port, content=CONTENT * 10))).kind == "too_large"
            assert (await send(pool, there.port)).accepted
            assert (there.connections, len(there.messages)) == (1, 1)
            await pool.close()

    run(main(), loop)


@both_loops
def test_a_session_that_does_not_open_leaves_its_place_to_others(loop):
    async def main() -> None:
        script = Script(replies={"greeting": "421 4.3.2 busy"}, then=(Script(),))
        async with relay(script) as there:
            pool = SessionPool(Limits(sessions=1))
            with pytest.raises(StageFailed):
                await send(pool, there.port)
            assert (await send(pool, there.port)).accepted
            await pool.close()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("stage", ["ehlo", "mail", "body"])
def test_a_message_that_is_cancelled_leaves_its_place_and_no_session(stage, loop):
    async def main() -> None:
        async with relay(extensions=PIPELINED, stall=stage, then=(Script(),)) as there:
            pool = SessionPool(Limits(sessions=1))
            sending = asyncio.create_task(send(pool, there.port))
            await until(lambda: bool(there.commands))
            await asyncio.sleep(0.1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await until(lambda: not there.open)
            assert (await send(pool, there.port)).accepted
            await pool.close()

    run(main(), loop)


@both_loops
def test_messages_that_wait_for_a_place_can_be_cancelled(loop):
    async def main() -> None:
        async with relay(delay=0.02) as there:
            pool = SessionPool(Limits(sessions=1))
            sending = [asyncio.create_task(send(pool, there.port)) for _ in range(6)]
            await until(lambda: bool(there.messages))
            for task in sending[3:]:
                task.cancel()
            done = await asyncio.gather(*sending, return_exceptions=True)
            assert [isinstance(one, Delivery) for one in done] == [True, True, True, False, False, False]
            assert (await send(pool, there.port)).accepted
            await pool.close()
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_pool_that_closes_while_messages_are_on_their_way_leaves_nothing_open(loop):
    async def main() -> None:
        async with relay(delay=0.02) as there:
            pool = SessionPool()
            sending = [asyncio.create_task(send(pool, there.port)) for _ in range(4)]
            await until(lambda: bool(there.commands))
            await pool.close()
            assert len(there.messages) == 4
            assert sum(line == "QUIT" for _, line in there.commands) == 4
            assert all(delivery.accepted for delivery in await asyncio.gather(*sending))
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_pool_that_closes_lets_those_who_wait_for_a_place_have_theirs(loop):
    async def main() -> None:
        async with relay(delay=0.01) as there:
            pool = SessionPool(Limits(sessions=1))
            sending = [asyncio.create_task(send(pool, there.port)) for _ in range(3)]
            await until(lambda: bool(there.commands))
            await pool.close()
            assert all(delivery.accepted for delivery in await asyncio.gather(*sending))
            await pool.close()
            await until(lambda: not there.open)

    run(main(), loop)


# --- Changes of the profile ----------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("starttls", [False, True])
def test_settings_changed_while_sending_no_session_mixes_old_and_new(starttls, loop):
    """Eight senders at once; every message says which settings it was written under, and so does its session."""
    users = {f"user-{number}": f"password-of-{number}" for number in range(4)}
    script = Script(starttls=starttls, auth=("PLAIN",), users=users, require_auth=True, delay=0.001)

    async def main() -> None:
        async with relay(script) as there:
            pool = SessionPool(Limits(sessions=8, messages=20))
            current = 0
            made = terms(allow_insecure_sign_in=not starttls)

            async def sender() -> None:
                for _ in range(25):
                    mine = current
                    user = f"user-{mine}"
                    credentials = password(user, users[user])
                    open_one = opener(there.port, credentials, made, use_ssl=starttls)
                    async with pool.session(mine, open_one) as session:
                        delivery = await session.send(envelope(sender=f"{user}@example.org"), CONTENT)
                        assert delivery.accepted

            async def operator() -> None:
                nonlocal current
                for share in (50, 100, 150):
                    await until(lambda share=share: len(there.messages) >= share)
                    current += 1

            await asyncio.gather(operator(), *(sender() for _ in range(8)))
            await pool.close()
            assert len(there.messages) == 200
            seen: dict[int, set[str]] = defaultdict(set)
            for message in there.messages:
                assert message.sender == f"{message.user}@example.org"
                seen[message.session].add(message.user)
            assert all(len(names) == 1 for names in seen.values())
            assert {name for names in seen.values() for name in names} == set(users)
            assert there.mistakes == []
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_sessions_of_old_settings_end_as_soon_as_they_are_free(loop):
    async def main() -> None:
        async with relay() as old, relay() as new:
            pool = SessionPool()
            await send(pool, old.port, "old")
            async with pool.session("old", opener(old.port)) as busy:
                await send(pool, new.port, "new")
                assert old.open == 1
                assert (await busy.send(envelope(), CONTENT)).accepted
            await until(lambda: not old.open)
            assert old.commands[-1][1] == "QUIT"
            await send(pool, new.port, "new")
            assert (old.connections, new.connections) == (1, 1)
            await pool.close()

    run(main(), loop)


@both_loops
def test_a_session_that_opened_slowly_for_old_settings_is_not_kept(loop):
    async def main() -> None:
        async with relay(delay=0.1) as old, relay() as new:
            pool = SessionPool()
            slow = asyncio.create_task(send(pool, old.port, "old"))
            await until(lambda: bool(old.connections))
            await send(pool, new.port, "new")
            assert (await slow).accepted
            await until(lambda: not old.open)
            await send(pool, new.port, "new")
            assert new.connections == 1
            await pool.close()

    run(main(), loop)
