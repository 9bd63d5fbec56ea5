"""The results of sending: tables for people, and a file with everything that was measured."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from figures import Round, ratio, spread
from relays import program
from sending import SMTP_SOURCE

_RESULTS = Path(__file__).resolve().parent / "results"
_STARTTLS = ", STARTTLS"
_SPEED = "messages_per_second"
_CPU = "processor_microseconds"
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class Results:
    """What one run has found."""

    settings: Mapping[str, object]
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    rounds: Sequence[Round]


def versions() -> dict[str, str]:
    """Of what is measured, and of the relay it sends to."""
    said = subprocess.run(
        [program("postconf"), "-d", "-h", "mail_version"], capture_output=True, text=True, check=False, timeout=10
    )
    found = {"python": platform.python_version(), "postfix": said.stdout.strip()}
    return found | {name: version(name) for name in ("keyrelay", "aiosmtplib", "uvloop")}


def show(results: Results) -> None:
    """Print the tables."""
    names = list(results.rounds[0])
    console = Console(width=_WIDTH)
    console.print(
        _table(results, "In the clear", [name for name in names if not name.endswith(_STARTTLS)], "aiosmtplib"),
        _table(results, "By STARTTLS", [name for name in names if name.endswith(_STARTTLS)], f"aiosmtplib{_STARTTLS}"),
    )


def write(results: Results) -> Path:
    """Write the results into a new file, and give its path from the top of the repository."""
    now = datetime.now(UTC)
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{now:%Y%m%dT%H%M%SZ}-send.json"
    content = {
        "measured_at": now.isoformat(timespec="seconds"),
        "settings": results.settings,
        "machine": results.machine,
        "versions": results.versions,
        "sending": {name: _summary(results.rounds, name) for name in results.rounds[0]},
        "rounds": results.rounds,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file.relative_to(_RESULTS.parent.parent)


def _table(results: Results, way: str, names: Sequence[str], plain: str) -> Table:
    """``plain``: the sender to whom the others of the table are compared, beside smtp-source in the clear."""
    title = f"{way}, {len(results.rounds)} rounds: medians, with the smallest and the largest"
    table = Table(title=title, box=SIMPLE)
    table.add_column("sender", no_wrap=True)
    for heading in ("messages/s", "to smtp-source", "to aiosmtplib", "CPU in µs", "relay's CPU in µs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in names:
        table.add_row(
            name.removesuffix(_STARTTLS),
            spread(results.rounds, name, _SPEED).text("{:,.0f}"),
            ratio(results.rounds, name, SMTP_SOURCE, _SPEED).text("{:.2f}"),
            f"{ratio(results.rounds, name, plain, _SPEED).median:.2f}",
            spread(results.rounds, name, _CPU).text("{:.0f}"),
            f"{spread(results.rounds, name, 'relay_microseconds').median:.0f}",
        )
    return table


def _summary(rounds: Sequence[Round], name: str) -> dict[str, float]:
    found = {key: spread(rounds, name, key).median for key in rounds[0][name]}
    return found | {
        "ratio_to_smtp_source": ratio(rounds, name, SMTP_SOURCE, _SPEED).median,
        "ratio_to_smtp_source_by_processor": ratio(rounds, SMTP_SOURCE, name, _CPU).median,
    }
