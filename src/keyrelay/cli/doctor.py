"""``keyrelay doctor`` and ``keyrelay support-bundle``: what is wrong, for us and for those who help."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from keyrelay import log
from keyrelay.amounts import octets_text
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.doctor import shown
from keyrelay.doctor.bundle import archive
from keyrelay.doctor.case import opened
from keyrelay.doctor.checks import CHECKS
from keyrelay.doctor.examination import examine
from keyrelay.doctor.model import Report, Result
from keyrelay.health.finding import Verdict

_COLOURS: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "dim"}


def doctor(*, offline: bool = False, json: AsJson = False) -> None:
    """Look at everything that keyrelay stands on, and say what is wrong and what to do. Nothing is changed.

    It works when keyrelay does not start, too. Exit code 1 when anything failed; warnings alone are no failure.

    Parameters
    ----------
    offline
        Connect to no relay, no vault and no identity provider.
    json
        Print JSON.
    """
    log.start("error", "text")  # what is wrong is said below
    report = asyncio.run(_report(offline=offline, told=_ignore if json else _print))
    if json:
        terminal.show_json(shown.document(report))
    else:
        print("", *shown.summary(report), sep="\n")
    if report.verdict == "failure":
        raise SystemExit(1)


def support_bundle(file: Path | None = None, *, offline: bool = False) -> None:
    """Write what somebody who helps has to know into a zip file, without secrets and without anything personal.

    Parameters
    ----------
    file
        The file to write, which must not be there yet. The default is keyrelay-support-TIME.zip in this directory.
    offline
        Connect to no relay, no vault and no identity provider.
    """
    log.start("error", "text")
    chosen = file or Path(f"keyrelay-support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip")
    octets = asyncio.run(_bundle(offline=offline))
    archive.write(chosen, octets)
    print(f"Written: {chosen} ({octets_text(len(octets))}). Look through it before you hand it on.")


async def _bundle(*, offline: bool) -> bytes:
    async with opened(os.environ, offline=offline) as case:
        return await archive.pack(case, await examine(case, CHECKS))


async def _report(*, offline: bool, told: Callable[[Result], None]) -> Report:
    async with opened(os.environ, offline=offline) as case:
        return await examine(case, CHECKS, told)


def _print(result: Result) -> None:
    from rich.console import Console
    from rich.text import Text

    colour = _COLOURS[result.finding.verdict]
    console = Console(soft_wrap=True, highlight=False)
    for beginning, rest in shown.lines(result):
        # Text, because what stands in a setting must not be read as markup.
        console.print(Text.assemble((beginning, colour), (rest, "" if beginning.strip() else "dim")))


def _ignore(_: Result) -> None:
    pass
