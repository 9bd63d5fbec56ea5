"""What a SQLite file says of itself: whether it is whole, and how large it is."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from keyrelay.aside import aside
from keyrelay.store.reading import read_only

VERSION = sqlite3.sqlite_version
_MOST_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Integrity:
    """``complete``: whether all of it was looked at. ``problems``: SQLite's words, which hold no values."""

    complete: bool
    problems: tuple[str, ...] = ()


async def integrity(file: Path, seconds: float) -> Integrity:
    """Look through the file for damage, for so long at the most. Writers go on meanwhile."""
    try:
        connection = await aside(lambda: read_only(file))
    except sqlite3.Error as problem:
        return Integrity(complete=True, problems=(str(problem),))
    try:
        async with asyncio.timeout(seconds):
            return await aside(lambda: _checked(connection), lambda: _interrupt(connection))
    except TimeoutError:
        return Integrity(complete=False)


def _interrupt(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.ProgrammingError):  # it has just come to its end, and is closed
        connection.interrupt()


def _checked(connection: sqlite3.Connection) -> Integrity:
    with closing(connection):
        try:
            rows = connection.execute(f"PRAGMA quick_check({_MOST_PROBLEMS})").fetchall()
        except sqlite3.DatabaseError as problem:
            return Integrity(complete=True, problems=(str(problem),))
    words = [str(word) for (word,) in rows]
    return Integrity(complete=True, problems=() if words == ["ok"] else tuple(" ".join(word.split()) for word in words))
