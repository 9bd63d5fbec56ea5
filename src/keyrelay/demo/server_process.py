"""The demo's keyrelay: ``keyrelay serve`` in a process of its own, as everybody runs it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from keyrelay.errors import Unsuitable

_LONGEST_START = 60.0
_LONGEST_STOP = 12.0  # a little more than the server gives its callers


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    process: Process


@asynccontextmanager
async def serving(environment: Mapping[str, str], log: Path) -> AsyncIterator[Running]:
    """Start it, and stop it at the end of the block. What it logs is appended to a file. Raises Unsuitable."""
    with log.open("ab") as errors:
        # A session of its own: a Ctrl+C on the terminal is for us alone, and we end it when its time has come.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "keyrelay", "serve"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    try:
        yield Running(await _url(process, log), process)
    finally:
        await _stop(process)


async def _url(process: Process, log: Path) -> str:
    """Where it listens, as it says itself once it does."""
    assert process.stdout is not None  # noqa: S101 - a pipe
    url = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_START):
            async for line in process.stdout:
                words = line.decode("utf-8", "replace").split()
                if words[:2] == ["keyrelay", "on"]:
                    url = words[2]
                if words[:1] == ["Stop"] and url:
                    return url
    raise Unsuitable(
        f"The server did not start: {_last_line(log)}", remedy="Start the demo again when that is put right."
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("keyrelay: ") if lines else "it said nothing."


async def _stop(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_LONGEST_STOP):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
