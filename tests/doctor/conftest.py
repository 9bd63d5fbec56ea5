"""What the doctor is to find well lies on a disk and syncs; the files of other tests are in memory."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from absent import absent
from live import LiveServer, settings_for
from postgres import Cluster


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A directory that is not in memory."""
    directory = Path(tempfile.mkdtemp(prefix="keyrelay-doctor-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that syncs, and whose configuration a test may change."""
    if Cluster.programs() is None:
        absent("PostgreSQL is not installed; to run these tests: apt-get install postgresql")
    cluster = Cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def well_server(request, on_disk, sqlite_template, start) -> LiveServer:
    """A running server on SQLite and on PostgreSQL, as it is installed."""
    settings = settings_for("sqlite", request, on_disk, sqlite_template)
    if request.param == "postgresql":
        url = request.getfixturevalue("own_cluster").fresh_database()
        settings = dataclasses.replace(settings, database_url=url)
    return start(settings)
