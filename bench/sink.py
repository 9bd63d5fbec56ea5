"""The relay at the end: smtp-sink, and when it had its first byte of a load and its last message.

It ends by itself with the message that makes the number full, which tells to the millisecond when that came, and costs
nothing. What it has read until then is counted by the kernel.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from process import Failed, Process, free_port, running
from relays import HOST, program

_PATIENCE = 15.0
_LOOK = 0.001
_QUIET = 0.15


@dataclass(frozen=True, slots=True)
class Sink:
    """A smtp-sink that ends with a certain number of messages."""

    port: int
    process: Process

    def read_bytes(self) -> int:
        """How much it has read, from files too."""
        for line in Path(f"/proc/{self.process.popen.pid}/io").read_text().splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
        raise Failed("The kernel does not tell what smtp-sink has read.")

    def wait_for_first(self, before: int, sender: Process, patience: float) -> float:
        """When it had read more than the ``before`` bytes, by time.perf_counter."""
        deadline = time.perf_counter() + patience
        while self.read_bytes() <= before:
            sender.require_alive()
            if time.perf_counter() > deadline:
                raise Failed(f"Nothing has come to the relay within {patience:.0f} s.")
            time.sleep(_LOOK)
        return time.perf_counter()

    def wait_for_bytes(self, least: int, patience: float) -> int:
        """Return what it has read when that is ``least`` bytes or more, and no more is coming."""
        deadline = time.perf_counter() + patience
        seen, since = -1, time.perf_counter()
        while (now := self.read_bytes()) < least or now != seen or time.perf_counter() - since < _QUIET:
            if now != seen:
                seen, since = now, time.perf_counter()
            if time.perf_counter() > deadline:
                raise Failed(f"The relay has read {now} bytes within {patience:.0f} s, and not {least}.")
            time.sleep(_LOOK)
        return now

    def wait_for_last(self, patience: float) -> float:
        """When the last message came, by time.perf_counter."""
        watched = os.pidfd_open(self.process.popen.pid)  # Popen.wait looks 20 times a second only
        try:
            over, _, _ = select.select([watched], [], [], patience)
            ended = time.perf_counter()
        finally:
            os.close(watched)
        if not over:
            raise Failed(f"Not all messages have come to the relay within {patience:.0f} s.")
        if self.process.popen.wait() != 0:
            self.process.require_alive()
        return ended


@contextmanager
def sink(directory: Path, messages: int) -> Iterator[Sink]:
    """A relay that ends with that many messages."""
    port = free_port()
    user = ["-u", "postfix"] if os.geteuid() == 0 else []
    command = [program("smtp-sink"), *user, "-M", str(messages), f"{HOST}:{port}", "256"]
    with running("smtp-sink", command, directory / "smtp-sink.log", {}) as process:
        started = Sink(port, process)
        _wait_until_listening(started)
        yield started


def _wait_until_listening(started: Sink) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while not _listens(started.port):
        started.process.require_alive()
        if time.perf_counter() > deadline:
            raise Failed("smtp-sink does not listen.")
        time.sleep(0.01)


def _listens(port: int) -> bool:
    """Whether somebody does, without a connection: smtp-sink counts what it reads, and says what breaks."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if local.endswith(wanted) and state == "0A":
            return True
    return False
