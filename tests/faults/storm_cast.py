"""Who takes part in a storm: processes that are killed, stalled, and there again a while later."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

from live import clean_environment
from postgres import Cluster

_BELOW_EPHEMERAL = range(20_000, 32_000)  # no connection that is going out can be in the way there
_AGAIN_SECONDS = 0.3  # before a process that could not start is started once more

Harm = Literal["kill", "stall", "silence"]


def free_port() -> int:
    """A port that nobody gets by chance while its owner is dead."""
    while True:
        with socket.socket() as listener, suppress(OSError):
            port = random.choice(_BELOW_EPHEMERAL)
            listener.bind(("127.0.0.1", port))
            return port


class Actor(Protocol):
    """Somebody who may be harmed, in these ways; ``tend`` is called all the time in between."""

    name: str
    harms: tuple[Harm, ...]

    def harm(self, harm: Harm) -> None: ...

    def mend(self, harm: Harm) -> None: ...

    def tend(self) -> None: ...

    def stop(self) -> None: ...


@dataclass
class Program:
    """A process that is started again whenever it ends, as an operating system does it with services.

    ``ready``: what it prints when it has come so far that it must not end any more of its own accord. ``silence``: the
    file that silences it.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    harms: tuple[Harm, ...] = ("kill", "stall")
    ready: str | None = None
    silence: Path | None = None
    ended: list[str] = field(default_factory=list)  # how it ended when nobody had asked for it
    _process: subprocess.Popen[bytes] | None = None
    _output: IO[bytes] | None = None
    _wanted: bool = False
    _again_at: float = 0.0

    def start(self) -> None:
        self._wanted = True
        self._output = self.log.open("ab")
        self._from = self.log.stat().st_size
        self._process = subprocess.Popen(
            self.command,
            env=clean_environment() | dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def harm(self, harm: Harm) -> None:
        if harm == "kill":
            self._wanted = False
            self._end()
        elif harm == "stall":
            self._signal(signal.SIGSTOP)
        elif self.silence is not None:
            self.silence.touch()

    def mend(self, harm: Harm) -> None:
        if harm == "kill":
            self.start()
        elif harm == "stall":
            self._signal(signal.SIGCONT)
        elif self.silence is not None:
            self.silence.unlink(missing_ok=True)

    def tend(self) -> None:
        process = self._process
        if not self._wanted or process is None or process.poll() is None or time.monotonic() < self._again_at:
            return
        said = self.log.read_bytes()[self._from :].decode(errors="replace")
        if self.ready is None or self.ready in said:
            self.ended.append(f"{self.name} ended with {process.returncode}: {said[-2000:]}")
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        self._end()
        self.start()

    def stop(self) -> None:
        self._wanted = False
        self._end()

    def _signal(self, sign: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sign)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        if self._output is not None:
            self._output.close()


@dataclass
class Database:
    """The PostgreSQL of the tests. It is killed all at once, or by the death of its first process."""

    cluster: Cluster
    rng: random.Random
    name: str = "PostgreSQL"
    harms: tuple[Harm, ...] = ("kill", "stall")
    _stalled: list[int] = field(default_factory=list)
    _dead: bool = False

    def harm(self, harm: Harm) -> None:
        if harm == "stall":
            self._stalled = self._processes()
            _send(self._stalled, signal.SIGSTOP)
            return
        self._dead = True
        if self.rng.random() < 0.5:
            self.cluster.kill()
        else:
            processes = self._processes()
            _send(processes[:1], signal.SIGKILL)
            _wait_for_the_end_of(processes)

    def mend(self, harm: Harm) -> None:
        if harm == "stall":
            _send(self._stalled, signal.SIGCONT)
            self._stalled = []
        elif self._dead:
            self._resume()
            self._dead = False

    def tend(self) -> None:
        pass

    def stop(self) -> None:
        """Leave it running, for the tests that follow."""
        self.mend("stall")
        self.mend("kill")

    def _resume(self) -> None:
        """Somebody's connection may have its port by chance, for as long as that lasts."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.cluster.resume()
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _processes(self) -> list[int]:
        first = int((self.cluster.directory / "data" / "postmaster.pid").read_text().split()[0])
        return [first, *_children_of(first)]


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


def _send(processes: Sequence[int], sign: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, sign)


def _wait_for_the_end_of(processes: Sequence[int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() and not _is_zombie(process) for process in processes):
        assert time.monotonic() < deadline, "PostgreSQL's processes outlive their first one"
        time.sleep(0.02)


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- What happens to them ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens ``at`` seconds after the beginning, for so many ``seconds``."""

    at: float
    actor: Actor
    harm: Harm
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:5.1f} s  {self.harm} {self.actor.name} for {self.seconds:.1f} s"


def incidents(cast: Sequence[Actor], rng: random.Random, *, kills: int, stalls: int, lease: float) -> list[Incident]:
    """A plan: everybody is killed as often as anybody else, and stalled (or silenced) likewise.

    Every third stall is longer than the lease.
    """
    harmed: list[tuple[Actor, Harm]] = [(actor, "kill") for actor in _in_turn(cast, rng, kills)]
    harmed += [(actor, rng.choice(actor.harms[1:])) for actor in _in_turn(cast, rng, stalls)]
    rng.shuffle(harmed)
    plan, at, paused = [], 1.0, 0
    for actor, harm in harmed:
        seconds = rng.uniform(0.2, 2.5)
        if harm != "kill":
            paused += 1
            seconds = lease + rng.uniform(1, 3) if paused % 3 == 0 else rng.uniform(0.5, 3)
        plan.append(Incident(at, actor, harm, seconds))
        at += rng.uniform(1.5, 3.5)
    return plan


def _in_turn(cast: Sequence[Actor], rng: random.Random, many: int) -> list[Actor]:
    found: list[Actor] = []
    while len(found) < many:
        found += rng.sample(list(cast), len(cast))
    return found[:many]


def play(plan: Sequence[Incident], cast: Sequence[Actor], *, told: Callable[[str], None]) -> None:
    """Let it all happen. At the end everybody is up and running again."""
    began = time.monotonic()
    waiting = list(plan)
    under_way: list[tuple[float, Incident]] = []
    while waiting or under_way:
        now = time.monotonic() - began
        for mended_at, incident in list(under_way):
            if now >= mended_at:
                incident.actor.mend(incident.harm)
                under_way.remove((mended_at, incident))
        harmed = {id(incident.actor) for _, incident in under_way}
        if waiting and now >= waiting[0].at and id(waiting[0].actor) not in harmed:
            incident = waiting.pop(0)
            told(str(incident))
            incident.actor.harm(incident.harm)
            under_way.append((time.monotonic() - began + incident.seconds, incident))
        for actor in cast:
            actor.tend()
        time.sleep(0.02)
