"""The mark of SQLite's newest commit: it moves with every commit, also another process's, and costs no lock."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys

import pytest

from keyrelay.settings import Settings
from keyrelay.store import wal_index
from keyrelay.store.engine import open_store
from keyrelay.store.wal_index import WalIndex

_DEAD_MAN_SWITCH = 128  # the byte of the index on which every connection holds a shared lock
_CHANGE = "UPDATE change_mark SET version = version + 1"


@pytest.fixture
def database(sqlite_settings):
    """A database somebody has open."""
    file = sqlite_settings.data_dir / "keyrelay.db"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("SELECT 1 FROM change_mark")
    yield file, connection
    connection.close()


def commit_elsewhere(file, statements=_CHANGE):
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); c.close()"
    subprocess.run([sys.executable, "-c", code, str(file), statements], check=True)


def locked_for_another_process(file) -> bool:
    code = (
        "import fcntl, struct, sys\n"
        "lock = struct.pack('hhllhh', fcntl.F_WRLCK, 0, int(sys.argv[2]), 1, 0, 0)\n"
        "found = fcntl.fcntl(open(sys.argv[1], 'rb+'), fcntl.F_GETLK, lock)\n"
        "print(struct.unpack('hhllhh', found)[0] != fcntl.F_UNLCK)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{file}-shm", str(_DEAD_MAN_SWITCH)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip() == "True"


def test_it_differs_after_every_commit_of_this_and_of_another_process(database):
    file, connection = database
    index = WalIndex.of(file)
    seen = [index.header()]
    for _ in range(20):
        connection.execute(_CHANGE)
        seen.append(index.header())
    commit_elsewhere(file)
    seen.append(index.header())
    assert len(set(seen)) == 22


def test_it_tells_how_much_of_the_log_is_not_in_the_file(database):
    file, connection = database
    index = WalIndex.of(file)
    for _ in range(3):
        connection.execute(_CHANGE)
    known = index.pages()
    assert connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall() == [(0, known, known)]
    assert known >= 3
    assert index.pages() == index.written() == known
    connection.execute(_CHANGE)
    assert 0 < index.pages() < known, "the log begins anew"
    assert index.written() == 0


def test_it_differs_after_a_commit_that_follows_a_checkpoint(database):
    file, connection = database
    index = WalIndex.of(file)
    connection.execute(_CHANGE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = index.header()
    connection.execute(_CHANGE)
    assert index.header() != before


def test_it_stays_while_nothing_is_committed(database):
    file, connection = database
    index = WalIndex.of(file)
    before = index.header()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_CHANGE)
    assert index.header() == before
    connection.execute("ROLLBACK")
    connection.execute("SELECT * FROM change_mark").fetchall()
    assert index.header() == before


def test_looking_at_it_takes_no_lock_away(database):
    file, _ = database
    assert locked_for_another_process(file)
    for _ in range(3):
        WalIndex.of(file).header()
        gc.collect()
    assert locked_for_another_process(file)


def test_a_database_made_anew_in_the_same_place_has_an_index_of_its_own(tmp_path):
    file = tmp_path / "keyrelay.db"
    seen = []
    for _ in range(2):
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE something (a)")
        index = WalIndex.of(file)
        before = index.header()
        connection.execute("INSERT INTO something VALUES (1)")
        assert index.header() != before
        seen.append(index.header())
        connection.close()
        file.unlink()
    assert seen[0] != seen[1]


def test_there_is_none_without_wal_or_in_a_format_that_is_not_known(database, monkeypatch, tmp_path):
    file, _ = database
    assert WalIndex.of(tmp_path / "nothing.db") is None
    monkeypatch.setattr(wal_index, "_FORMAT", 3_007_001)
    assert WalIndex.of(file) is None


@pytest.mark.parametrize("known", [True, False], ids=["by the index", "by asking SQLite"])
def test_a_store_sees_every_change_of_another_process_at_its_next_look(known, sqlite_settings: Settings, monkeypatch):
    if not known:
        monkeypatch.setattr(wal_index, "_FORMAT", 3_007_001)

    async def changes() -> list[int]:
        store = await open_store(sqlite_settings)
        seen = [store.marks["profile"]]
        for _ in range(5):
            commit_elsewhere(sqlite_settings.data_dir / "keyrelay.db")
            store.look()
            seen.append(store.marks["profile"])
        await store.close()
        return seen

    seen = asyncio.run(changes())
    assert seen == list(range(seen[0], seen[0] + 6))
