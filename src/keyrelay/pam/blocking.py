"""Libraries that know a cloud's sign-in, and block: in threads of their own, with our HTTP beneath them."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask
from keyrelay.pam.backend import Means, VaultFailed

_Outcome = TypeVar("_Outcome")

_MOST_LEFT = 20
_left: set[threading.Thread] = set()  # those whose callers have gone away
# Headers that whoever sends the bytes decides on; nothing here unpacks an answer.
_OURS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class Library:
    """A module that only some installations have, and the extra of keyrelay that brings it.

    A back end that cannot do without one has it as ``library``.
    """

    name: str
    extra: str

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install keyrelay[{self.extra}]"

    def is_there(self) -> bool:
        """Whether it is installed; it is looked for, and not imported."""
        try:
            return importlib.util.find_spec(self.name) is not None
        except (ImportError, ValueError):  # of a package above it
            return False

    def load(self, module: str | None = None) -> Any:
        """The module, or another that comes with it. Raises VaultFailed, with the command that installs it."""
        try:
            return importlib.import_module(module or self.name)
        except ImportError:
            raise VaultFailed("extra_missing", self.command) from None


async def in_thread(work: Callable[[], _Outcome]) -> _Outcome:
    """What ``work`` gives, in a thread for it alone: those of the event loop look up names for everybody.

    Whoever waits may be cancelled, and the loop may end; the thread then ends when its work does. While too many such
    threads hang, no more are begun. Raises VaultFailed, and nothing else: what a library raises may hold words of the
    vault.
    """
    _left.difference_update([thread for thread in _left if not thread.is_alive()])
    if len(_left) >= _MOST_LEFT:
        raise VaultFailed("timeout", f"{_MOST_LEFT} earlier sign-ins hang; end what they wait for, or restart keyrelay")
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

    thread = threading.Thread(target=run, name="keyrelay-sign-in", daemon=True)
    thread.start()
    try:
        await ended.wait()
    except asyncio.CancelledError:
        _left.add(thread)
        raise
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
