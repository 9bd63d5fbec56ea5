"""Libraries that know a cloud's sign-in, and block: in threads of their own, with our HTTP beneath them."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask
from keyrelay.pam.backend import Means, VaultFailed

_Outcome = TypeVar("_Outcome")

# Headers that whoever sends the bytes decides on; nothing here unpacks an answer.
_OURS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


def library(name: str, extra: str) -> Any:
    """A module that only some installations have. Raises VaultFailed, with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise VaultFailed("extra_missing", f"pip install keyrelay[{extra}]") from None


async def in_thread(work: Callable[[], _Outcome]) -> _Outcome:
    """What ``work`` gives, in a thread for it alone: those of the event loop look up names for everybody.

    Whoever waits may be cancelled, and the loop may end; the thread then ends when its work does. Raises VaultFailed,
    and nothing else: what a library raises may hold words of the vault.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    outcomes: list[_Outcome | VaultFailed] = []

    def run() -> None:
        try:
            outcomes.append(work())
        except VaultFailed as failure:
            outcomes.append(failure)
        except Exception as problem:  # noqa: BLE001 - whatever a library raises
            outcomes.append(VaultFailed("bad_answer", f"signing in failed ({type(problem).__name__})"))
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="keyrelay-sign-in", daemon=True).start()
    await ended.wait()
    (outcome,) = outcomes
    if isinstance(outcome, VaultFailed):
        raise VaultFailed(outcome.problem, outcome.detail)
    return outcome


class BlockingHttp:
    """HTTP in a thread without an event loop: our trust and our bounds, and one end for all that is asked."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._ends = time.monotonic() + means.seconds

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, at_most: float | None = None
    ) -> HttpAnswer:
        """One request and its answer, within ``at_most`` seconds. Raises VaultFailed."""
        left = self._ends - time.monotonic()
        seconds = left if at_most is None else min(left, at_most)
        if seconds <= 0:
            raise VaultFailed("timeout", f"no sign-in within {self._means.seconds:g} seconds")
        kept = [(name, value) for name, value in headers.items() if name.lower() not in _OURS]
        return asyncio.run(ask(method, url, replace(self._means, seconds=seconds), headers=kept, body=Body(content)))

    def pause(self, seconds: float) -> None:
        """Wait as a library wants to, and not beyond the end."""
        time.sleep(max(0.0, min(seconds, self._ends - time.monotonic())))
