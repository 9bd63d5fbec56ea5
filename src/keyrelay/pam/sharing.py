"""Work that several want at once: done once, and owned by those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from keyrelay.pam.backend import VaultFailed

Outcome = TypeVar("Outcome")

_SECONDS = 30.0


@dataclass(slots=True)
class _Work(Generic[Outcome]):
    task: asyncio.Task[Outcome | VaultFailed]
    waiting: int = 0


class Shared(Generic[Outcome]):
    """Work under way, by what it is for. Nothing of it lasts beyond those who wait, nor beyond its event loop."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, _Work[Outcome]] = {}

    async def outcome(self, key: bytes, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """What ``work`` gives, or gave those who asked for the same a little earlier.

        Whoever is cancelled leaves it to the others; the last one ends it, and waits for that end. Raises VaultFailed,
        for each caller one of its own.
        """
        shared = self._under_way.get(key)
        if shared is None or shared.task.done() or shared.task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(_tried(work), name="keyrelay-sign-in")
            shared = self._under_way[key] = _Work(task)
        shared.waiting += 1
        try:
            await asyncio.wait([shared.task])
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                await self._end(key, shared)
        if shared.task.cancelled():
            raise VaultFailed("unreachable", "keyrelay is stopping")
        outcome = shared.task.result()
        if isinstance(outcome, VaultFailed):
            raise VaultFailed(outcome.problem, outcome.detail)
        return outcome

    async def _end(self, key: bytes, work: _Work[Outcome]) -> None:
        if self._under_way.get(key) is work:
            del self._under_way[key]
        if not work.task.done():
            work.task.cancel()
            await asyncio.wait([work.task])


async def _tried(work: Callable[[], Awaitable[Outcome]]) -> Outcome | VaultFailed:
    """A failure is no exception here, since several callers raise it, or none."""
    try:
        async with asyncio.timeout(_SECONDS):  # those who wait may follow each other without an end
            return await work()
    except TimeoutError:
        return VaultFailed("timeout", f"no sign-in within {_SECONDS:g} seconds")
    except VaultFailed as failure:
        return failure
