"""What the bundle tells of the installation: versions, settings, and what the process may use."""

from __future__ import annotations

import os
import platform
import re
import resource
import ssl
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from keyrelay import __version__
from keyrelay.aside import aside
from keyrelay.doctor.bundle import reduction
from keyrelay.doctor.case import Case
from keyrelay.settings import variables
from keyrelay.store import facts_of_sqlite

_CGROUP = Path("/sys/fs/cgroup")
_IN_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_MOST_NAMED = 50

Document = Any


async def versions(case: Case) -> Document:  # noqa: ARG001 - a member
    return {
        "keyrelay": __version__,
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": facts_of_sqlite.VERSION,
        "libraries": {name: _version(name) for name in _libraries()},
    }


def _libraries() -> list[str]:
    """What keyrelay asks for, extras too."""
    try:
        wanted = requires("keyrelay") or []
    except PackageNotFoundError:
        return []
    return sorted({name[0] for line in wanted if (name := re.match(r"[A-Za-z0-9._-]+", line))})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def settings(case: Case) -> Document:
    """Every setting: where it comes from, and its value unless that is secret."""
    return await aside(lambda: _settings(case))


def _settings(case: Case) -> Document:
    broken = {problem.name: problem.words for problem in case.problems}
    known = {name for name, _, _ in variables()} | {
        f"{name}_FILE" for name, _, variable in variables() if variable.secret
    }
    told = []
    for name, field, variable in variables():
        one: dict[str, Any] = {"name": name, "from": _origin(case, name)}
        if name in broken:
            one["problem"] = reduction.sentence(broken[name])
        elif not variable.secret:
            one["value"] = _value(getattr(case.settings, field))
        elif field == "database_url":
            one["value"] = _database(case)
        told.append(one)
    known = {name for name, _, _ in variables()}
    unknown = [name for name in broken if name not in known]
    return {"settings": told, "not_settings": unknown[:_MOST_NAMED]}


def _origin(case: Case, name: str) -> str:
    if case.environ.get(name):
        return "variable"
    return "file" if case.environ.get(f"{name}_FILE") else "default"


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Path):
        return reduction.path(value)
    if isinstance(value, tuple):
        return [_value(one) for one in value[:_MOST_NAMED]]
    return reduction.plain(value) if isinstance(value, str) else "set"


def _database(case: Case) -> str | None:
    if case.settings.database_url is None:
        return None
    file = case.settings.sqlite_file
    return f"sqlite: {reduction.path(file)}" if file is not None else reduction.database(case.settings.database_url)


async def process(case: Case) -> Document:  # noqa: ARG001 - a member
    """What a process that is started here may use."""
    limits = {
        name.removeprefix("RLIMIT_").lower(): [_limit(one) for one in resource.getrlimit(getattr(resource, name))]
        for name in sorted(dir(resource))
        if name.startswith("RLIMIT_")
    }
    return {
        "limits": limits,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": list(os.getloadavg()),
        "cgroup": {name: _first_line(_CGROUP / name) for name in ("memory.max", "cpu.max", "pids.max")},
        "container": any(place.exists() for place in _IN_CONTAINERS),
        "root": os.geteuid() == 0,
        "text_encoding": sys.stdout.encoding,
        "file_name_encoding": sys.getfilesystemencoding(),
    }


def _limit(amount: int) -> int | None:
    return None if amount == resource.RLIM_INFINITY else amount


def _first_line(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()[:100]
    except OSError:
        return None
