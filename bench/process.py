"""A server process: started, watched and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STOP_SECONDS = 15.0
_TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The run is worth nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started here. ``started``: when, as time.perf_counter tells it."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    started: float

    def require_alive(self) -> None:
        if self.popen.poll() is not None:
            told = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise Failed(f"{self.name} ended with {self.popen.returncode}: " + " | ".join(told))

    def memory(self) -> int:
        """Resident memory of the process itself, in bytes."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"{self.name} has no resident memory.")

    def processor_seconds(self) -> float:
        """What it and its children have used of the processor."""
        pid = self.popen.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_ticks(each) for each in (str(pid), *children)) / _TICK


@contextmanager
def running(name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """Run ``command`` until the block ends; what it says goes to ``log``."""
    # Python's own switches too: without compiled bytecode a start takes half as long again.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KEYRELAY_", "PYTHON"))}
    with log.open("wb") as output:
        started = time.perf_counter()
        # A session of its own: Ctrl+C is ours, and the servers are stopped below.
        popen = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**clean, **environment}, start_new_session=True
        )
    try:
        yield Process(name, popen, log, started)
    finally:
        popen.terminate()
        try:
            popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ticks(pid: str) -> int:
    # The name of the program may hold spaces; what follows it does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
