"""Sign-ins that hang, fail or are given up: none is shared for ever, and nothing is left behind by them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from keyrelay.pam import blocking, sharing
from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.blocking import Library, in_thread
from keyrelay.pam.sharing import Shared
from keyrelay.pam.sign_ins import Lease, SignIns
from keyrelay.secrets.model import SecretText

LEASE = Lease(SecretText("a token"))


async def granted(_: SecretText) -> Any:
    return SimpleNamespace(status=200)


def tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What a library waits for; set in the end, so that its threads end."""
    event = threading.Event()
    yield event
    event.set()
    for thread in blocking._left:
        thread.join(20)
    blocking._left.clear()


def test_a_sign_in_that_hangs_ends_with_the_last_who_waits_and_the_next_begins_anew(hanging):
    begun = 0

    async def hangs() -> Lease:
        nonlocal begun
        begun += 1
        return await in_thread(lambda: hanging.wait() and LEASE)

    async def signs_in() -> Lease:
        return LEASE

    async def work() -> None:
        sign_ins = SignIns()
        for times in range(1, 4):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await sign_ins.ask({}, hangs, granted)
            assert (begun, tasks()) == (times, [])
        assert (await sign_ins.ask({}, signs_in, granted)).status == 200

    asyncio.run(work())


def test_those_who_wait_one_after_the_other_share_no_sign_in_for_ever(monkeypatch):
    monkeypatch.setattr(sharing, "_SECONDS", 0.1)
    begun = 0

    async def hangs() -> Lease:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> list[VaultFailed]:
        sign_ins, failures = SignIns(), []

        async def waits() -> None:
            try:
                await sign_ins.ask({}, hangs, granted)
            except VaultFailed as failure:
                failures.append(failure)

        async with asyncio.timeout(20):
            while begun < 3:
                started = [asyncio.create_task(waits()) for _ in range(2)]
                await asyncio.sleep(0.02)  # shorter than any of them waits, so that there is always one
                waiting.extend(started)
            await asyncio.gather(*waiting)
        assert tasks() == []
        return failures

    waiting: list[asyncio.Task[None]] = []
    failures = asyncio.run(work())
    assert {(one.problem, one.detail) for one in failures} == {("timeout", "no sign-in within 0.1 seconds")}
    assert len({id(one) for one in failures}) == len(waiting)


def test_threads_that_hang_are_bounded_and_others_begin_when_they_have_ended(hanging, monkeypatch):
    monkeypatch.setattr(blocking, "_MOST_LEFT", 3)

    async def work() -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await in_thread(hanging.wait)
        with pytest.raises(VaultFailed, match="timeout: 3 earlier sign-ins hang"):
            async with asyncio.timeout(20):
                await in_thread(hanging.wait)
        assert sum(thread.name == "keyrelay-sign-in" for thread in threading.enumerate()) == 3
        hanging.set()
        for thread in tuple(blocking._left):
            await asyncio.to_thread(thread.join, 20)
        assert await in_thread(lambda: "works") == "works"
        assert blocking._left == set()

    asyncio.run(work())


def test_work_that_is_cancelled_beneath_those_who_wait_is_a_failure_for_each():
    async def work() -> list[BaseException]:
        shared: Shared[str] = Shared()
        began = asyncio.Event()

        async def hangs() -> str:
            began.set()
            await asyncio.Event().wait()
            raise AssertionError

        waiting = [asyncio.create_task(shared.outcome(b"key", hangs)) for _ in range(3)]
        await began.wait()
        (under_way,) = [task for task in tasks() if task not in waiting]
        under_way.cancel()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    failures = asyncio.run(work())
    assert [(type(one), str(one)) for one in failures] == [(VaultFailed, "unreachable: keyrelay is stopping")] * 3


def test_whoever_ends_work_waits_for_its_end():
    ended = False

    async def slow_to_end() -> str:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            ended = True
        raise AssertionError

    async def work() -> None:
        shared: Shared[str] = Shared()
        waiting = [asyncio.create_task(shared.outcome(b"key", slow_to_end)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert (ended, tasks()) == (True, [])
        assert all(task.cancelled() for task in waiting)

        async def works() -> str:
            return "anew"

        assert await shared.outcome(b"key", works) == "anew"

    asyncio.run(work())
    gc.collect()  # an exception that nobody has looked at would be told now


def test_a_library_is_loaded_or_the_command_that_installs_it_is_told():
    assert Library("json", "nothing").load() is __import__("json")
    assert Library("json", "nothing").load("json.decoder").__name__ == "json.decoder"
    with pytest.raises(VaultFailed, match=r"extra_missing: pip install keyrelay\[cloud\]"):
        Library("no_such_library", "cloud").load()
