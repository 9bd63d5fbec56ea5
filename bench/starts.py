"""Starting keyrelay: how long until the first signed-in 200, and how much memory it holds then."""

from __future__ import annotations

from pathlib import Path

import ask
from contestants import keyrelay_environment, serve
from process import free_port, running

FIRST_STARTS = 3


def starts(directory: Path, data: Path, password: str, again: int) -> list[dict[str, object]]:
    """Start on an empty directory some times, then ``again`` times on ``data``, which is left ready with a profile.

    On all cores, as an operator's start would be. Nothing else is under load meanwhile.
    """
    found = [_start("first", directory / f"first-{number}", password) for number in range(1, FIRST_STARTS)]
    found.append(_start("first", data, password, prepare=True))
    return found + [_start("again", data, password) for _ in range(again)]


def _start(kind: str, data: Path, password: str, *, prepare: bool = False) -> dict[str, object]:
    port = free_port()
    log = data.with_suffix(".log")
    with running("keyrelay", serve(port), log, keyrelay_environment(data, password)) as process:
        seconds = ask.first_answer(process, port, ask.PATH, ask.headers(password, 2))
        memory = process.memory()
        if prepare:
            ask.put_profile(port, password)
    return {"kind": kind, "seconds": seconds, "memory": memory}
