"""The results: tables for people, and a file with everything that was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from figures import Round, Spread, ratio, spread

BARE = "bare endpoint"
PRISM = "Prism mock"
_RESULTS = Path(__file__).resolve().parent / "results"
_MEGABYTE = 1e6
_CPU = "processor_microseconds"
_WIDTH = 112


@dataclass(frozen=True, slots=True)
class Results:
    """What one run has found."""

    settings: Mapping[str, object]
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    rounds: Sequence[Round]
    absent: Mapping[str, str]
    starts: Sequence[Mapping[str, object]]
    memory: Mapping[str, int]


def show(results: Results) -> None:
    """Print the tables."""
    console = Console(width=_WIDTH)
    console.print(_reads(results), _whole(results))
    for name, reason in results.absent.items():
        console.print(f"{name} was not measured: {reason}.")


def write(results: Results) -> Path:
    """Write the results into a new file, and give its path from the top of the repository."""
    now = datetime.now(UTC)
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "measured_at": now.isoformat(timespec="seconds"),
        "settings": results.settings,
        "machine": results.machine,
        "versions": results.versions,
        "reads": {name: _summary(results.rounds, name) for name in results.rounds[0]},
        "not_measured": results.absent,
        "rounds": results.rounds,
        "starts": results.starts,
        "memory": results.memory,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file.relative_to(_RESULTS.parent.parent)


def _reads(results: Results) -> Table:
    table = Table(
        title=f"GET /SMTP, {len(results.rounds)} rounds: medians, with the smallest and the largest", box=SIMPLE
    )
    table.add_column("server", no_wrap=True)
    for heading in ("requests/s", "to bare", "to Prism", "99 % in ms", "CPU in µs", "to bare by CPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in results.rounds[0]:
        table.add_row(
            name,
            spread(results.rounds, name, "requests_per_second").text("{:,.0f}"),
            ratio(results.rounds, name, BARE).text("{:.2f}"),
            f"{ratio(results.rounds, name, PRISM).median:.1f}" if PRISM in results.rounds[0] else "",
            f"{spread(results.rounds, name, 'p99_microseconds').median / 1000:.1f}",
            f"{spread(results.rounds, name, _CPU).median:.1f}",
            f"{ratio(results.rounds, BARE, name, _CPU).median:.2f}",
        )
    return table


def _whole(results: Results) -> Table:
    table = Table(title="keyrelay as a whole", box=SIMPLE)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for kind, label in (("first", "on an empty directory"), ("again", "on existing data")):
        runs = [run for run in results.starts if run["kind"] == kind]
        seconds, memory = (_spread_of(runs, key) for key in ("seconds", "memory"))
        table.add_row(f"seconds from start to first 200, {label}", seconds.text("{:.2f}"))
        table.add_row("  memory then", f"{memory.median / _MEGABYTE:.1f} MB")
    for when, memory in results.memory.items():
        table.add_row(f"memory {when}", f"{memory / _MEGABYTE:.1f} MB")
    return table


def _spread_of(runs: Sequence[Mapping[str, object]], key: str) -> Spread:
    return Spread.of([float(str(run[key])) for run in runs])


def _summary(rounds: Sequence[Round], name: str) -> dict[str, float]:
    found = {key: spread(rounds, name, key).median for key in rounds[0][name]}
    return found | {
        "ratio_to_bare": ratio(rounds, name, BARE).median,
        "ratio_to_bare_by_processor": ratio(rounds, BARE, name, _CPU).median,
    }
