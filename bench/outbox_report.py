"""The results of the outbox: tables for people, and a file with everything that was measured."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from figures import Round, Spread, ratio, spread
from relays import program

_RESULTS = Path(__file__).resolve().parent / "results"
_SPEED = "messages_per_second"
_WIDTH = 112

# Whom the figures are of.
DELIVER = SimpleNamespace(
    keyrelay="end to end, keyrelay",
    keyrelay_apart="end to end, keyrelay, worker apart",
    postfix="end to end, Postfix",
)
SUBMIT = SimpleNamespace(
    rfc822="submissions, keyrelay, rfc822, 64 clients",
    rfc822_two="submissions, keyrelay with two processes, rfc822, 64 clients",
    rfc822_alone="submissions, keyrelay, rfc822, 1 client",
    json="submissions, keyrelay, JSON, 64 clients",
    postfix="submissions, Postfix, 64 clients",
    postfix_alone="submissions, Postfix, 1 client",
    commits="bare loop, SQLite commit",
    writes="bare loop, write and fsync",
)
DRAIN = SimpleNamespace(
    sqlite="backlog, keyrelay on SQLite",
    postgresql="backlog, keyrelay on PostgreSQL",
    procrastinate="backlog, procrastinate",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be how many times what; ``floor``: never less."""

    name: str
    other: str
    target: float
    floor: float | None = None

    @property
    def wanted(self) -> str:
        return f"{self.target:.3g}" if self.floor is None else f"{self.target:.3g} (floor {self.floor:.3g})"

    def verdict(self, found: float) -> str:
        if found >= self.target:
            return "met"
        return "above the floor" if self.floor is not None and found >= self.floor else "missed"


COMPARISONS = (
    Comparison(DELIVER.keyrelay, DELIVER.postfix, 5, 3),
    Comparison(DELIVER.keyrelay_apart, DELIVER.postfix, 5, 3),
    Comparison(SUBMIT.rfc822, SUBMIT.postfix, 8, 5),
    Comparison(SUBMIT.rfc822_two, SUBMIT.postfix, 8, 5),
    Comparison(SUBMIT.rfc822_alone, SUBMIT.postfix_alone, 2),
    Comparison(SUBMIT.json, SUBMIT.rfc822, 1 / 3),
    Comparison(DRAIN.sqlite, DRAIN.procrastinate, 10, 5),
    Comparison(DRAIN.postgresql, DRAIN.procrastinate, 10, 5),
)


@dataclass(frozen=True, slots=True)
class Results:
    """What one run has found. ``grown``: the rounds with backlogs of growing size, the smallest first."""

    settings: Mapping[str, object]
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    rounds: Sequence[Round]
    grown: Sequence[Round]
    absent: Mapping[str, str]


def versions() -> dict[str, str]:
    """Of what is measured, and of what it stands on."""
    said = subprocess.run(
        [program("postconf"), "-d", "-h", "mail_version"], capture_output=True, text=True, check=False, timeout=10
    )
    found = {"python": platform.python_version(), "postfix": said.stdout.strip()}
    return found | {name: version(name) for name in ("keyrelay", "procrastinate", "psycopg", "asyncpg", "uvloop")}


def show(results: Results) -> None:
    """Print the tables."""
    console = Console(width=_WIDTH)
    if results.rounds:
        console.print(_speeds(results.rounds), _targets(results.rounds))
    if results.grown:
        console.print(_growth(results.grown))
    for name, reason in results.absent.items():
        console.print(f"{name} was not measured: {reason}.")


def write(results: Results) -> Path:
    """Write the results into a new file, and give its path from the top of the repository."""
    now = datetime.now(UTC)
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{now:%Y%m%dT%H%M%SZ}-outbox.json"
    content = {
        "measured_at": now.isoformat(timespec="seconds"),
        "settings": results.settings,
        "machine": results.machine,
        "versions": results.versions,
        "outbox": _medians(results.rounds),
        "ratios": [
            {"of": each.name, "to": each.other, "median": found.median, "target": each.target, "floor": each.floor}
            for each, found in _compared(results.rounds)
        ],
        "growth": _medians(results.grown),
        "not_measured": results.absent,
        "rounds": results.rounds,
        "grown": results.grown,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file.relative_to(_RESULTS.parent.parent)


def _compared(rounds: Sequence[Round]) -> Iterable[tuple[Comparison, Spread]]:
    for each in COMPARISONS if rounds else ():
        if {each.name, each.other} <= rounds[0].keys():
            yield each, ratio(rounds, each.name, each.other, _SPEED)


def _speeds(rounds: Sequence[Round]) -> Table:
    table = _table(f"4 KB messages, {len(rounds)} rounds: medians, with the smallest and the largest")
    table.add_column("what, who")
    for heading in ("messages/s", "to SQLite commits", "to write and fsync"):
        table.add_column(heading, justify="right", no_wrap=True)
    loops = [SUBMIT.commits, SUBMIT.writes]
    for name in rounds[0]:
        disk = [f"{ratio(rounds, name, loop, _SPEED).median:.2f}" if loop in rounds[0] else "" for loop in loops]
        table.add_row(name, spread(rounds, name, _SPEED).text("{:,.0f}"), *disk)
    return table


def _targets(rounds: Sequence[Round]) -> Table:
    table = _table("How many times as fast")
    for heading in ("who", "as whom"):
        table.add_column(heading)
    for heading in ("times", "target", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for each, found in _compared(rounds):
        table.add_row(each.name, each.other, found.text("{:.2f}"), each.wanted, each.verdict(found.median))
    return table


def _growth(grown: Sequence[Round]) -> Table:
    table = _table(f"While others wait, {len(grown)} rounds")
    table.add_column("messages")
    kinds = ("sent_per_second", "submitted_per_second")
    for heading in ("sent/s", "µs each", "to the smallest", "submitted/s", "µs each", "to the smallest"):
        table.add_column(heading, justify="right", no_wrap=True)
    smallest, *_ = grown[0]
    for name in grown[0]:
        cells = []
        for kind in kinds:
            rate = spread(grown, name, kind)
            cells += [rate.text("{:,.0f}"), f"{1e6 / rate.median:.0f}"]
            cells.append(f"{ratio(grown, smallest, name, kind).median:.2f}")  # of the costs, not of the speeds
        table.add_row(name, *cells)
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=SIMPLE)


def _medians(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    if not rounds:
        return {}
    return {name: {key: spread(rounds, name, key).median for key in rounds[0][name]} for name in rounds[0]}
