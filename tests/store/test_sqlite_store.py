"""SQLite: private files, durable commits, and clear words when the disk or another program is in the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import threading

import pytest

from keyrelay.errors import DatabaseUnreachable, StoreUnavailable
from keyrelay.settings import Settings
from keyrelay.store.engine import open_store
from live import ANONYMOUS, BASIC, LiveServer
from stores import on_store


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_database_and_its_directory_are_for_their_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        settings = Settings(data_dir=tmp_path / "data")

        async def change_something(store) -> None:
            async with store.change("profile"):
                pass
            assert {path.name for path in settings.data_dir.iterdir()} >= {"keyrelay.db", "keyrelay.db-wal"}
            assert {mode(path) for path in settings.data_dir.iterdir()} == {0o600}

        on_store(settings, change_something)
    finally:
        os.umask(before)
    assert mode(settings.data_dir) == 0o700
    assert mode(settings.data_dir / "keyrelay.db") == 0o600


@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_committed_is_on_the_disk(tmp_path, sqlite_settings, fresh):
    settings = Settings(data_dir=tmp_path / "new") if fresh else sqlite_settings

    async def pragmas(store) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return {
            name: await store._writer.do(lambda writer, name=name: writer.execute(f"PRAGMA {name}").fetchone()[0])
            for name in names
        }

    assert on_store(settings, pragmas) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_readers_cannot_write(sqlite_settings):
    async def write(store) -> None:
        await store.rows("UPDATE change_mark SET version = 7")

    with pytest.raises(StoreUnavailable, match="readonly"):
        on_store(sqlite_settings, write)


def pragma_on_the_writer(server: LiveServer, pragma: str) -> None:
    async def run(node) -> None:
        await node.store._writer.do(lambda connection: connection.execute(pragma))

    server.run(run)


def test_a_full_disk_is_said_and_nothing_is_lost(sqlite_server):
    before = sqlite_server.put_v2(BASIC).json()
    pragma_on_the_writer(sqlite_server, "PRAGMA max_page_count = 1")  # it becomes the pages that there are
    statuses = set()
    for number in range(60):
        answer = sqlite_server.put_v2(BASIC | {"SenderName": "x" * 250 + f"{number:05}"})
        statuses.add(answer.status_code)
        if answer.status_code == 200:
            before = answer.json()
            continue
        assert answer.status_code == 503
        assert set(answer.json()) == {"ErrorCode", "Message"}
        assert "full" in answer.json()["Message"]
        break
    assert 503 in statuses
    assert sqlite_server.get_v2() == before
    pragma_on_the_writer(sqlite_server, "PRAGMA max_page_count = 100000")
    assert sqlite_server.put_v2(ANONYMOUS).status_code == 200


def test_a_database_that_has_become_read_only_is_said_and_still_read(sqlite_server):
    before = sqlite_server.put_v2(BASIC).json()
    pragma_on_the_writer(sqlite_server, "PRAGMA query_only = ON")
    answer = sqlite_server.put_v2(ANONYMOUS)
    assert answer.status_code == 503
    assert set(answer.json()) == {"ErrorCode", "Message"}
    assert sqlite_server.get_v2() == before
    pragma_on_the_writer(sqlite_server, "PRAGMA query_only = OFF")
    assert sqlite_server.put_v2(ANONYMOUS).status_code == 200


def test_a_file_locked_for_too_long_is_said_and_waited_for_no_longer(sqlite_server):
    sqlite_server.put_v2(BASIC)
    sqlite_server.node.store._writer._busy_seconds = 0.05
    file = sqlite_server.settings.sqlite_file
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert sqlite_server.put_v2(ANONYMOUS).status_code == 503
        assert sqlite_server.get_v2()["Host"] == BASIC["Host"]
    assert sqlite_server.put_v2(ANONYMOUS).status_code == 200


def test_a_file_that_cannot_be_opened_is_said_and_keeps_nothing_running(sqlite_settings, monkeypatch):
    """A thread left over would keep the command from ending."""
    monkeypatch.setattr("keyrelay.store.sqlite._BUSY_SECONDS", 0.1)
    before = set(threading.enumerate())
    with contextlib.closing(sqlite3.connect(sqlite_settings.sqlite_file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN")
        other.execute("SELECT * FROM change_mark").fetchall()
        with pytest.raises(DatabaseUnreachable, match="locked"):
            asyncio.run(open_store(sqlite_settings))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + bytes(80)])
def test_a_file_that_is_no_database_is_said(tmp_path, content):
    (tmp_path / "keyrelay.db").write_bytes(content)
    with pytest.raises(DatabaseUnreachable):
        asyncio.run(open_store(Settings(data_dir=tmp_path)))
    assert (tmp_path / "keyrelay.db").read_bytes() == content
