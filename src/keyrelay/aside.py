"""Calls that may hang, such as into a network file system: each in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


async def aside(work: Callable[[], Result], given_up: Callable[[], None] = lambda: None) -> Result:
    """What ``work`` gives or raises. Whoever waits may be cancelled: ``given_up`` is called, and the thread is left.

    It is no thread of the event loop's pool, which is waited for when the loop ends.
    """
    try:
        return await asyncio.wrap_future(_begun(work))
    except asyncio.CancelledError:
        given_up()
        raise


class Abandoning(ThreadPoolExecutor):
    """An event loop's pool whose threads nobody waits for either: a library may ask for a name that never comes."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return _begun(lambda: fn(*args, **kwargs))


def _begun(work: Callable[[], Result]) -> Future[Result]:
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as problem:  # noqa: BLE001 - whoever waits gets it
            outcome.set_exception(problem)
        else:
            outcome.set_result(result)

    # A daemon: the end of the process does not wait for it.
    threading.Thread(target=run, name="keyrelay-aside", daemon=True).start()
    return outcome
