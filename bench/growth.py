"""What a message costs while others wait: the same work on backlogs of growing size.

Each size is an installation of its own, filled once. A measurement hands messages in, with nobody sending, and then
lets a worker send as many; so the backlog is as large afterwards as before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from installation import RFC822, Keyrelay
from process import free_port
from senders import BODY_BYTES
from sink import sink

COUNT = 2000
SIZES = (1_000, 10_000, 100_000)
LARGEST = 1_000_000
_WARMING = 200
_PATIENCE = 20.0
_SECONDS = 180.0
_ENDLESS = 1_000_000_000
_ROOM = {"KEYRELAY_OUTBOX_MEGABYTES": "100000"}


@dataclass(slots=True)
class Backlog:
    """An installation with ``waiting`` messages, each of which is ``each`` bytes for the relay.

    ``lacking``: how many more the last measurement sent than it handed in.
    """

    keyrelay: Keyrelay
    waiting: int
    each: float
    lacking: int = 0

    @classmethod
    @contextmanager
    def filled(cls, directory: Path, waiting: int) -> Iterator[Backlog]:
        with Keyrelay.fresh(directory, **_ROOM) as keyrelay:
            each = _bytes_a_message(keyrelay)
            with keyrelay.serving(free_port()) as serving:
                serving.submit(RFC822, waiting)
            yield cls(keyrelay, waiting, each)

    @property
    def name(self) -> str:
        return f"{self.waiting:,} waiting"

    def measure(self) -> dict[str, float]:
        """Messages handed in and sent a second, COUNT of each."""
        with sink(self.keyrelay.data, _ENDLESS) as relay:
            with self.keyrelay.serving(relay.port) as serving:
                serving.submit(RFC822, _WARMING + self.lacking)
                submitted = serving.submit(RFC822, COUNT)
            before = relay.read_bytes()
            with self.keyrelay.working() as worker:
                much = _WARMING * self.each
                started = relay.wait_for_first(before + int(much), worker, _SECONDS)
                ended = relay.wait_for_first(before + int(much + COUNT * self.each), worker, _SECONDS)
            self.lacking = max(0, round((relay.read_bytes() - before) / self.each) - _WARMING - COUNT)
        return {
            "submitted_per_second": COUNT / (submitted.ended - submitted.began),
            "sent_per_second": COUNT / (ended - started),
        }


def _bytes_a_message(keyrelay: Keyrelay) -> float:
    with sink(keyrelay.data, _ENDLESS) as relay:
        with keyrelay.serving(relay.port) as serving:
            serving.submit(RFC822, _WARMING)
        before = relay.read_bytes()
        with keyrelay.working():
            read = relay.wait_for_bytes(before + _WARMING * BODY_BYTES, _PATIENCE) - before
    return read / _WARMING


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say what takes long, and how long it took."""
    print(f"{what}...", end="", flush=True)
    started = time.perf_counter()
    yield
    print(f" {time.perf_counter() - started:.0f} s", flush=True)
