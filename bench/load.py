"""Load: wrk, for some seconds, and what it counted."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import Cores
from process import Failed

_SCRIPT = Path(__file__).parent / "count.lua"
_MARK = "RESULT "


@dataclass(frozen=True, slots=True)
class Load:
    """How wrk is run: one thread, which is plenty for one server process.

    ``script`` counts, and may make the requests as well, of what its ``arguments`` name.
    """

    connections: int
    seconds: int
    cores: Cores
    script: Path = _SCRIPT
    arguments: tuple[str, ...] = ()

    def run(self, name: str, url: str, sent: Mapping[str, str]) -> dict[str, float]:
        """Requests per second, and the waiting times of half and of 99 in 100 requests, in microseconds."""
        command = [*self.cores.of_load(), "wrk", "-t1", f"-c{self.connections}", f"-d{self.seconds}s"]
        for key, value in sent.items():
            command += ["-H", f"{key}: {value}"]
        done = subprocess.run(
            [*command, "-s", str(self.script), url, "--", *self.arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=self.seconds + 30,
        )
        line = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), None)
        if done.returncode != 0 or line is None:
            raise Failed(f"wrk failed on {name}: {(done.stderr or done.stdout).strip()[-300:]}")
        counted = json.loads(line.removeprefix(_MARK))
        if counted["bad_status"] or counted["broken"] or not counted["requests"]:
            raise Failed(f"{name} did not answer everything with success: {counted}")
        return {
            "requests_per_second": counted["requests"] * 1e6 / counted["microseconds"],
            "requests": counted["requests"],
            "p50_microseconds": counted["p50"],
            "p99_microseconds": counted["p99"],
        }


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise Failed("wrk is missing; install it (on Debian: apt-get install wrk) and run this again.")
