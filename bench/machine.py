"""The machine: its cores, who runs on which, and the versions of what is measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("keyrelay", "uvicorn", "uvloop", "httptools", "starlette", "msgspec")


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the servers and wrk run; None when nobody is held anywhere."""

    servers: int | None
    load: int | None

    def of_servers(self) -> list[str]:
        """What to put before a server's command."""
        return _held(self.servers)

    def of_load(self) -> list[str]:
        return _held(self.load)

    def __str__(self) -> str:
        if self.servers is None:
            return "servers and wrk share all cores (taskset or a second core is missing)"
        return f"servers on core {self.servers}, wrk on core {self.load}"


def _held(core: int | None) -> list[str]:
    return [] if core is None else ["taskset", "-c", str(core)]


def cores() -> Cores:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return Cores(None, None)
    return Cores(servers=usable[-1], load=usable[0])


def machine() -> dict[str, object]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Of keyrelay, of what its reads run on, and of the tools that are here."""
    found = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    for name, command in (("wrk", ["wrk", "-v"]), ("nginx", ["nginx", "-v"]), ("node", ["node", "--version"])):
        if shutil.which(name) is not None:
            found[name] = _first_line(command)
    return found


def _first_line(command: list[str]) -> str:
    # wrk tells its version on one stream, nginx on the other, and wrk ends with 1.
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return (told.stdout or told.stderr).splitlines()[0].strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
