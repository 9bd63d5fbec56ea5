"""One measurement: a sender in a process of its own, and a fresh relay that counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import senders
from process import Failed
from relays import HOST, Relay, Relays, program

SMTP_SOURCE = "smtp-source"
_CHECKED = 64
_TRIED = 400
_FEWEST, _MOST = 200, 200_000
_SECONDS = 120.0
_COMPILED_AWAY = {key: value for key, value in os.environ.items() if not key.startswith(("KEYRELAY_", "PYTHON"))}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A sender, in the clear or by STARTTLS."""

    sender: str
    starttls: bool

    @property
    def name(self) -> str:
        return f"{self.sender}, STARTTLS" if self.starttls else self.sender


@dataclass(frozen=True, slots=True)
class Sending:
    """Runs senders on the load's core against ``relays``."""

    relays: Relays

    def check(self, contestant: Contestant) -> None:
        """Raises Failed unless the messages arrive as they were meant to: all, and each whole."""
        kept = self.relays.directory / contestant.name
        with self.relays.keeping(kept, starttls=contestant.starttls) as relay:
            self._run(contestant, relay, _CHECKED)
            sizes = [_body_size(file.read_bytes()) for file in kept.iterdir()]
        if len(sizes) != _CHECKED or set(sizes) != {len(senders.content().partition(b"\r\n\r\n")[2])}:
            raise Failed(f"{contestant.name} sent {len(sizes)} messages of {sorted(set(sizes))} bytes.")

    def count_for(self, contestant: Contestant, seconds: float) -> int:
        """How many messages it takes to keep a sender busy for about ``seconds``."""
        rate = self.measure(contestant, _TRIED)["messages_per_second"]
        if rate * seconds > _TRIED:  # a fast one has hardly begun
            rate = self.measure(contestant, int(min(rate * seconds / 2, _MOST)) + 1)["messages_per_second"]
        return int(min(max(rate * seconds, _FEWEST), _MOST))

    def measure(self, contestant: Contestant, count: int) -> dict[str, float]:
        """Messages per second, and the processor time of sender and relay for each, in microseconds."""
        with self.relays.counting(count, starttls=contestant.starttls) as relay:
            before = relay.processor_seconds()
            seconds, used = self._run(contestant, relay, count)
            relays_own = relay.processor_seconds() - before
        return {
            "messages_per_second": count / seconds,
            "messages": count,
            "processor_microseconds": used * 1e6 / count,
            "relay_microseconds": relays_own * 1e6 / count,
        }

    def _run(self, contestant: Contestant, relay: Relay, count: int) -> tuple[float, float]:
        """Seconds, and seconds of the processor."""
        if contestant.sender == SMTP_SOURCE:
            return self._run_smtp_source(relay, count)
        file = str(Path(senders.__file__))
        told = self._finish([sys.executable, file, contestant.sender, str(relay.port), str(count), _text(relay)])
        found = json.loads(told)
        return found["seconds"], found["processor_seconds"]

    def _run_smtp_source(self, relay: Relay, count: int) -> tuple[float, float]:
        options = f"-s {senders.SESSIONS} -d -m {count} -l {senders.BODY_BYTES} -M {senders.HELLO}".split()
        people = ["-f", senders.SENDER, "-t", senders.RECIPIENT]
        before, started = os.times(), time.perf_counter()
        self._finish([program(SMTP_SOURCE), *options, *people, f"{HOST}:{relay.port}"])
        seconds, after = time.perf_counter() - started, os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return seconds, used

    def _finish(self, command: list[str]) -> str:
        done = subprocess.run(
            [*self.relays.cores.of_load(), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env=_COMPILED_AWAY,
        )
        if done.returncode != 0:
            raise Failed(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout


def _text(relay: Relay) -> str:
    return str(relay.authority or "")


def _body_size(kept: bytes) -> int:
    """Of a message as smtp-sink keeps it: with LF alone, and an empty line at the end."""
    return len(kept.partition(b"\n\n")[2].removesuffix(b"\n").replace(b"\n", b"\r\n"))
