"""``make bench``: how fast the profile is read, next to servers that do less.

All servers are up from the beginning to the end. A round measures each of them once, one after the other; what the
machine does beside us then hits all of them alike, and the medians and ratios over the rounds stay comparable.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

import ask
import report
from contestants import Contestant, Field
from figures import Round
from load import Load, require_wrk
from machine import cores, machine, versions
from process import Failed
from starts import starts

Count = Annotated[int | None, Parameter(validator=Number(gte=1))]

app = App(help="Measure reads of the profile.", version_flags=[])


@app.default
def read(
    *,
    rounds: Count = None,
    seconds: Count = None,
    connections: Annotated[int, Parameter(validator=Number(gte=1))] = 32,
    quick: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure authenticated reads of keyrelay, the bare endpoint, nginx and Prism, and keyrelay's start and memory.

    Parameters
    ----------
    rounds
        How often each server is measured. [8; quick: 3]
    seconds
        How long each measurement takes. [3; quick: 1]
    connections
        Connections that wrk keeps busy.
    quick
        About half a minute instead of two or three, and rougher.
    """
    require_wrk()
    rounds = rounds or (3 if quick else 8)
    again = 3 if quick else 9
    load = Load(connections, seconds or (3 if not quick else 1), cores())
    settings = {"rounds": rounds, "seconds": load.seconds, "connections": connections, "placing": str(load.cores)}
    about = machine()
    with tempfile.TemporaryDirectory(prefix="keyrelay-bench-") as name, ExitStack() as stack:
        directory, password = Path(name), secrets.token_urlsafe(18)
        data = directory / "data"
        print(f"Starting keyrelay {again} times...", flush=True)
        started = starts(directory, data, password, again)
        field = Field(stack, directory, load.cores, password)
        contestants = _gather(field, data)
        print(f"{rounds} rounds of {load.seconds} s each with {connections} connections; {load.cores}.", flush=True)
        measured = _measure(contestants, load, rounds)
        memory = _memory(contestants[0], password)
    results = report.Results(settings, about, versions(), measured, field.absent, started, memory)
    report.show(results)
    print(f"Everything that was measured: {report.write(results)}")


def _memory(keyrelay: Contestant, password: str) -> dict[str, int]:
    after_load = keyrelay.process.memory()
    ask.sign_in_anew(keyrelay.port, password)
    return {"after the load": after_load, "after 31 new sign-ins": keyrelay.process.memory()}


def _gather(field: Field, data: Path) -> list[Contestant]:
    keyrelay = field.keyrelay(data)
    body = keyrelay[0].expected
    return [*keyrelay, *field.bare(body), *field.nginx(body), *field.prism()]


def _measure(contestants: list[Contestant], load: Load, rounds: int) -> list[Round]:
    for each in contestants:
        each.check()
        load.run(each.name, each.url, each.sent)  # to warm up
    measured = []
    for number in range(1, rounds + 1):
        measured.append({each.name: _measure_one(each, load) for each in contestants})
        told = ", ".join(f"{name} {found['requests_per_second']:,.0f}" for name, found in measured[-1].items())
        print(f"  round {number}: {told}", flush=True)
    for each in contestants:
        each.check()
    return measured


def _measure_one(contestant: Contestant, load: Load) -> dict[str, float]:
    before = contestant.process.processor_seconds()
    found = load.run(contestant.name, contestant.url, contestant.sent)
    used = contestant.process.processor_seconds() - before
    return found | {"processor_microseconds": used * 1e6 / found["requests"]}


if __name__ == "__main__":
    try:
        app()
    except Failed as problem:
        sys.exit(f"bench: {problem}")
