"""A PostgreSQL of our own, as the tests have one: on the same disk as all else, and every commit synced."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from postgres import Cluster


def missing() -> str | None:
    """Why none can be started here, if so."""
    return None if Cluster.programs() else "PostgreSQL is not installed"


@contextmanager
def database(server: Cluster) -> Iterator[str]:
    """The address of a new database, gone when the block ends: a vacuum of it would disturb whoever follows."""
    address = server.empty_database()
    yield address
    server.execute(f'DROP DATABASE "{address.rpartition("/")[2]}" WITH (FORCE)')


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """A running server that keeps its data below ``directory``."""
    before, tempfile.tempdir = tempfile.tempdir, str(directory)
    try:
        started = Cluster.start()
    finally:
        tempfile.tempdir = before
    try:
        yield started
    finally:
        started.stop()
