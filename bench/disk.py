"""The disk that everything durable lies on: a place there, and how often a second it makes 4 KB safe.

Run as a program, it is one of the two bare loops: nothing but a commit, or a write and fsync, after another.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from process import Failed

BYTES = 4096
_IN_MEMORY = {"tmpfs", "ramfs"}
_PATIENCE = 60.0


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards, on a disk: what is kept in memory makes no fsync wait."""
    for place in (tempfile.gettempdir(), "/var/tmp", str(Path(__file__).parent)):  # noqa: S108 - only looked at
        if Path(place).is_dir() and file_system(Path(place)) not in _IN_MEMORY:
            with tempfile.TemporaryDirectory(prefix="keyrelay-bench-", dir=place, ignore_cleanup_errors=True) as name:
                directory = Path(name)
                directory.chmod(0o755)  # Postfix, PostgreSQL and smtp-sink work as other users
                yield directory
            return
    raise Failed("No directory for temporary files lies on a disk; name one with TMPDIR.")


def file_system(place: Path) -> str:
    """The kind of the file system there, as stat(1) spells it."""
    told = subprocess.run(
        ["stat", "-f", "-c", "%T", str(place)], capture_output=True, text=True, check=True, timeout=10
    )
    return told.stdout.strip()


def measure(loop: str, directory: Path, seconds: float) -> dict[str, float]:
    """Run a loop in a process of its own for about ``seconds``."""
    own = tempfile.mkdtemp(prefix="loop-", dir=directory)
    command = [sys.executable, __file__, loop, own, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE + seconds)
    if done.returncode != 0:
        raise Failed(f"{loop} failed: {done.stderr.strip()[-300:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def commits(directory: Path, seconds: float) -> dict[str, float]:
    """Rows of 4 KB into SQLite, one a transaction, as durable as keyrelay's own."""
    with closing(sqlite3.connect(directory / "rows.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
        content = os.urandom(BYTES)
        return _repeat(lambda: connection.execute("INSERT INTO kept (content) VALUES (?)", (content,)), seconds)


def writes(directory: Path, seconds: float) -> dict[str, float]:
    """4 KB at the end of one file, and fsync."""
    file = os.open(directory / "written", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    content = os.urandom(BYTES)

    def write() -> None:
        os.write(file, content)
        os.fsync(file)

    return _repeat(write, seconds)


LOOPS: dict[str, Callable[[Path, float], dict[str, float]]] = {"commits": commits, "writes": writes}


def _repeat(once: Callable[[], object], seconds: float) -> dict[str, float]:
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        once()
        done += 1
    return {"messages_per_second": done / passed, "messages": done}


if __name__ == "__main__":
    print(json.dumps(LOOPS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3]))))
