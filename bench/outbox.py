"""``make bench-outbox``: how fast a message gets from hand to hand, next to Postfix and to a queue of tasks.

A round measures each contestant once, one after the other, in processes and on data of its own; nobody is held to a
core, because Postfix is many processes. Everything durable lies on one disk, and is synced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import App, Parameter
from cyclopts.validators import Number

import cluster
import disk
import growth
import outbox_report
import queue_keyrelay
import queue_postfix
import queue_procrastinate
from figures import Round
from growth import Backlog, told
from installation import CLIENTS, JSON, RFC822
from load import require_wrk
from machine import machine
from outbox_report import DELIVER, DRAIN, SUBMIT, Results
from process import Failed
from relays import program

Count = Annotated[int | None, Parameter(validator=Number(gte=1))]
Part = Literal["deliver", "submit", "drain", "growth"]
Measurement = Callable[[], dict[str, float]]

app = App(help="Measure the outbox.", version_flags=[])


@app.default
def outbox(
    *,
    rounds: Count = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    full: Annotated[bool, Parameter(negative="")] = False,
    parts: Annotated[tuple[Part, ...], Parameter(consume_multiple=True)] = get_args(Part),
) -> None:
    """Measure keyrelay's outbox, Postfix and procrastinate, and what the disk can do.

    Parameters
    ----------
    rounds
        How often each of them is measured. [5; quick: 2]
    quick
        Fewer messages and rounds, and rougher.
    full
        With a backlog of a million messages too: 5 GB of disk and some minutes more.
    parts
        Of the whole, only these.
    """
    require_wrk()
    program("smtp-sink")
    rounds = rounds or (2 if quick else 5)
    about = machine()
    with disk.scratch() as directory, ExitStack() as stack:
        field = _Field(directory, stack, _Sizes.quick() if quick else _Sizes())
        contestants = field.gather(parts)
        backlogs = field.backlogs(full=full, quick=quick) if "growth" in parts else []
        print(f"{rounds} rounds, with {disk.file_system(directory)} as the file system.", flush=True)
        measured = [_round(contestants, number) for number in range(1, rounds + 1)] if contestants else []
        grown = [_grow(backlogs, number) for number in range(1, rounds + 1)] if backlogs else []
        settings = {"rounds": rounds, "quick": quick, "full": full, "file_system": disk.file_system(directory)}
    results = Results(settings, about, outbox_report.versions(), measured, grown, field.absent)
    outbox_report.show(results)
    print(f"Everything that was measured: {outbox_report.write(results)}")


class _Sizes:
    """How many messages a measurement takes, and how many seconds."""

    def __init__(self, *, thousand: int = 1000, seconds: int = 3) -> None:
        self.postfix, self.postfix_alone = 3 * thousand, thousand // 2
        self.keyrelay, self.backlog, self.procrastinate = 10 * thousand, 20 * thousand, 2 * thousand
        self.seconds = seconds

    @classmethod
    def quick(cls) -> _Sizes:
        return cls(thousand=300, seconds=1)


class _Field:
    """Who is measured; ``absent`` tells who is not here, and why."""

    def __init__(self, directory: Path, stack: ExitStack, sizes: _Sizes) -> None:
        self._directory = directory
        self._stack = stack
        self._sizes = sizes
        self.absent: dict[str, str] = {}

    def gather(self, parts: Sequence[Part]) -> dict[str, Measurement]:
        postfix = self._here(queue_postfix.NAME, queue_postfix.missing())
        found: dict[str, Measurement] = {}
        if "deliver" in parts:
            found |= self._deliver(postfix=postfix)
        if "submit" in parts:
            found |= self._submit(postfix=postfix)
        if "drain" in parts:
            found |= self._drain()
        return found

    def backlogs(self, *, full: bool, quick: bool) -> list[Backlog]:
        sizes = [*(growth.SIZES[:2] if quick else growth.SIZES), *([growth.LARGEST] if full else [])]
        filled = []
        for size in sizes:
            with told(f"Filling an outbox with {size:,} messages"):
                filled.append(self._stack.enter_context(Backlog.filled(self._directory, size)))
        return filled

    def _here(self, name: str, missing: str | None) -> bool:
        if missing is not None:
            self.absent[name] = missing
        return missing is None

    def _deliver(self, *, postfix: bool) -> dict[str, Measurement]:
        place, sizes = self._directory, self._sizes
        found: dict[str, Measurement] = {
            DELIVER.keyrelay: lambda: queue_keyrelay.deliver(place, CLIENTS, sizes.keyrelay, apart=False),
            DELIVER.keyrelay_apart: lambda: queue_keyrelay.deliver(place, CLIENTS, sizes.keyrelay, apart=True),
        }
        if postfix:
            found[DELIVER.postfix] = lambda: queue_postfix.deliver(place, CLIENTS, sizes.postfix)
        return found

    def _submit(self, *, postfix: bool) -> dict[str, Measurement]:
        place, sizes = self._directory, self._sizes
        found: dict[str, Measurement] = {
            SUBMIT.rfc822: lambda: queue_keyrelay.accept(place, RFC822, CLIENTS, sizes.seconds),
            SUBMIT.rfc822_two: lambda: queue_keyrelay.accept(place, RFC822, CLIENTS, sizes.seconds, processes=2),
            SUBMIT.rfc822_alone: lambda: queue_keyrelay.accept(place, RFC822, 1, sizes.seconds),
            SUBMIT.json: lambda: queue_keyrelay.accept(place, JSON, CLIENTS, sizes.seconds),
        }
        if postfix:
            found[SUBMIT.postfix] = lambda: queue_postfix.accept(place, CLIENTS, sizes.postfix)
            found[SUBMIT.postfix_alone] = lambda: queue_postfix.accept(place, 1, sizes.postfix_alone)
        found[SUBMIT.commits] = lambda: disk.measure("commits", place, sizes.seconds)
        found[SUBMIT.writes] = lambda: disk.measure("writes", place, sizes.seconds)
        return found

    def _drain(self) -> dict[str, Measurement]:
        place, sizes = self._directory, self._sizes
        found: dict[str, Measurement] = {DRAIN.sqlite: lambda: queue_keyrelay.drain(place, sizes.backlog, None)}
        if self._here("PostgreSQL", cluster.missing()):
            server = self._stack.enter_context(cluster.cluster(place))
            found[DRAIN.postgresql] = lambda: _on(server, partial(queue_keyrelay.drain, place, sizes.backlog))
            found[DRAIN.procrastinate] = lambda: _on(
                server, partial(queue_procrastinate.drain, place, sizes.procrastinate)
            )
        return found


def _on(server: cluster.Cluster, measure: Callable[[str], dict[str, float]]) -> dict[str, float]:
    with cluster.database(server) as address:
        return measure(address)


def _round(contestants: dict[str, Measurement], number: int) -> Round:
    found: Round = {}
    print(f"  round {number}:", flush=True)
    for name, measure in contestants.items():
        os.sync()  # nobody pays for what the one before has left to be written
        found[name] = measure()
        print(f"    {name}: {found[name]['messages_per_second']:,.0f}", flush=True)
    return found


def _grow(backlogs: Sequence[Backlog], number: int) -> Round:
    found: Round = {}
    for each in backlogs:
        os.sync()
        found[each.name] = each.measure()
    told = ", ".join(f"{name} {figures['sent_per_second']:,.0f}" for name, figures in found.items())
    print(f"  growth, round {number}: {told}", flush=True)
    return found


if __name__ == "__main__":
    try:
        app()
    except Failed as problem:
        sys.exit(f"bench: {problem}")
