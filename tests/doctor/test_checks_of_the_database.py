"""The database: whether it answers, fits, keeps what it confirms, has room for more, is whole, and knows the time."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from doctoring import environment, found, judged, looked
from keyrelay.doctor.database import clock_found, connections_found, durability_found, schema_found
from keyrelay.store.facts_of_postgresql import Connections, Durability
from keyrelay.store.reading import Schema
from keyrelay.store.schema import HEAD
from postgres import Cluster

only_postgresql = pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
SAFE = Durability("16.1", True, True, "on", "", False, ())


@pytest.fixture
def environ(server):
    return environment(server.settings)


def reconfigured(cluster, name, value, until):
    """Set it, and wait until it is so."""
    cluster.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- Both ----------------------------------------------------------------------------------------------------


def test_a_database_that_is_in_use_is_well(well_server):
    findings = looked(
        environment(well_server.settings), "database", "schema", "database-durability", "clock", "database-integrity"
    )
    assert {finding.verdict for finding in findings.values()} <= {"ok", "skipped"}
    kind = "SQLite" if well_server.settings.database_url is None else "PostgreSQL"
    assert kind in findings["database"].found


def test_a_schema_of_another_version_is_told_and_not_touched(environ, server):
    async def becomes(node, version, floor):
        async with node.store.change() as change:
            await change.run("UPDATE alembic_version SET version_num = $1", version)
            await change.run("UPDATE schema_floor SET oldest = $1", floor)

    for version, floor, verdict in (
        ("0003", "0002", "warning"),
        ("9999", HEAD, "warning"),
        ("9999", "9999", "failure"),
    ):
        server.run(lambda node, version=version, floor=floor: becomes(node, version, floor))
        findings = looked(environ, "database", "schema", "profile")
        judged(findings["schema"], verdict, version)
        assert findings["database"].verdict == "ok"
        assert findings["profile"].verdict == ("warning" if floor == HEAD else "skipped")
        rows = server.run(lambda node: node.store.rows("SELECT version_num FROM alembic_version"))
        assert rows[0][0] == version


def test_an_empty_database_is_told_and_stays_empty(tmp_path, postgres):
    file = tmp_path / "keyrelay.db"
    file.touch(mode=0o600)
    for given in ({"DATA_DIR": tmp_path}, {"DATABASE_URL": postgres.empty_database()}):
        more = {f"KEYRELAY_{name}": str(value) for name, value in given.items()}
        found(more, "schema", "warning", "empty")
        found(more, "schema", "warning", "empty")  # and it still is
    assert [path.name for path in tmp_path.iterdir()] == ["keyrelay.db"]


def test_a_clock_that_disagrees_is_told(environ, monkeypatch, server):
    from keyrelay.store.reading import ReadOnlyStore

    real = ReadOnlyStore.__init__
    for seconds, verdict, word in ((30, "warning", "behind"), (-30, "warning", "ahead of"), (630, "failure", "10 min")):

        def turned(self, connection, engine, dialect, seconds=seconds):
            from dataclasses import replace

            wall = f"({dialect.wall_clock} + {seconds * 1_000_000})"
            real(self, connection, engine, replace(dialect, wall_clock=wall))

        monkeypatch.setattr(ReadOnlyStore, "__init__", turned)
        found(environ, "clock", verdict, word)
    judged(clock_found(timedelta(0), -timedelta(hours=2)), "warning", "2 h")
    judged(clock_found(timedelta(seconds=1), timedelta(days=400)), "ok")


# --- SQLite --------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(sqlite_server):
    environ = environment(sqlite_server.settings, DATABASE_URL=f"sqlite:///{sqlite_server.settings.data_dir}/diary")
    file = sqlite_server.settings.data_dir / "diary"
    file.write_bytes(b"Dear diary, " * 1000)
    found(environ, "database", "failure", "not a database")
    assert file.read_bytes() == b"Dear diary, " * 1000


def test_no_file_at_all_is_told_whole_and_none_is_made(sqlite_settings, tmp_path):
    missing = tmp_path / "nothing" / "here.db"
    found(environment(sqlite_settings, DATABASE_URL=f"sqlite:///{missing}"), "database", "failure", str(missing))
    assert not missing.parent.exists()


def test_a_damaged_file_is_found_out(sqlite_server, tmp_path):
    environ = environment(sqlite_server.settings)
    found(environ, "database-integrity", "ok", "no damage")
    copy = tmp_path / "copy.db"
    with (
        closing(sqlite3.connect(sqlite_server.settings.sqlite_file)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        for number in range(300):
            target.execute("INSERT INTO pam_type VALUES (?, ?, ?)", (str(number), f"name {number}", "x" * 900))
        target.commit()
        ((root,),) = target.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pam_type'")
        ((size,),) = target.execute("PRAGMA page_size")
    with copy.open("r+b") as damaged:
        damaged.seek((root - 1) * size + 3)
        damaged.write(b"\xff" * 64)
    found(environ | {"KEYRELAY_DATABASE_URL": f"sqlite:///{copy}"}, "database-integrity", "failure", "damaged")


def test_a_large_file_is_looked_at_for_a_bounded_time(sqlite_server, monkeypatch):
    from keyrelay.doctor import database
    from keyrelay.store import facts_of_sqlite

    def slow(connection):
        with closing(connection), suppress(sqlite3.OperationalError):
            connection.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n")

    monkeypatch.setattr(facts_of_sqlite, "_checked", slow)
    monkeypatch.setattr(database, "_INTEGRITY_SECONDS", 0.2)
    found(environment(sqlite_server.settings), "database-integrity", "ok", "as far as it was read in 0.2 seconds")


def test_looking_leaves_nothing_behind(sqlite_settings, start):
    server = start(sqlite_settings)
    server.stop()
    before = {path.name: path.read_bytes() for path in sqlite_settings.data_dir.iterdir()}
    looked(environment(sqlite_settings), offline=True)
    assert {path.name: path.read_bytes() for path in sqlite_settings.data_dir.iterdir()} == before


# --- PostgreSQL ----------------------------------------------------------------------------------------------


@only_postgresql
def test_a_postgresql_that_is_away_or_refuses_is_a_failure_without_its_password(environ, server):
    url = server.settings.database_url
    password = urlsplit(url).password
    for broken, word in (
        (url.replace(f":{urlsplit(url).port}/", ":1/"), "Connect call failed"),
        (url.replace(password, "wrong"), "password authentication failed"),
        (url + "_not_there", "does not exist"),
    ):
        finding = found(environ | {"KEYRELAY_DATABASE_URL": broken}, "database", "failure", word)
        assert password not in f"{finding}"


def test_a_postgresql_that_says_nothing_is_given_up(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        found({"KEYRELAY_DATABASE_URL": url}, "database", "failure", "no answer in time")
        assert time.monotonic() - began < 12


def test_a_name_that_nobody_answers_keeps_nobody_waiting(monkeypatch):
    import socket

    def never(*_: object, **__: object) -> None:
        time.sleep(30)

    monkeypatch.setattr(socket, "getaddrinfo", never)
    began = time.monotonic()
    found({"KEYRELAY_DATABASE_URL": "postgresql://u:p@db.test/x"}, "database", "failure", "no answer in time")
    assert time.monotonic() - began < 12


def test_commits_that_are_not_waited_for_are_a_failure(own_cluster):
    environ = {"KEYRELAY_DATABASE_URL": own_cluster.fresh_database()}
    name = urlsplit(environ["KEYRELAY_DATABASE_URL"]).path[1:]
    own_cluster.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    found(environ, "database-durability", "failure", "synchronous_commit is off")


def test_a_cluster_without_fsync_is_a_failure(own_cluster):
    environ = {"KEYRELAY_DATABASE_URL": own_cluster.fresh_database()}
    found(environ, "database-durability", "ok", "no replica")

    def is_told() -> bool:
        return "fsync is off" in looked(environ, "database-durability")["database-durability"].found

    reconfigured(own_cluster, "fsync", "off", is_told)
    found(environ, "database-durability", "failure", "fsync is off")
    own_cluster.execute("ALTER SYSTEM RESET fsync")
    own_cluster.execute("SELECT pg_reload_conf()")


def test_replicas_are_told_by_whether_commits_wait_for_them(own_cluster, tmp_path):
    environ = {"KEYRELAY_DATABASE_URL": own_cluster.fresh_database()}

    def verdict() -> str:
        return looked(environ, "database-durability")["database-durability"].verdict

    programs = Cluster.programs()
    directory = tmp_path / "received"
    directory.mkdir()
    follower = subprocess.Popen(
        [programs / "pg_receivewal", "-D", directory, "-d", own_cluster.url("postgres"), "--synchronous"],
        stderr=subprocess.DEVNULL,
    )
    try:
        reconfigured(own_cluster, "synchronous_commit", "on", lambda: verdict() == "warning")
        found(environ, "database-durability", "warning", "its last moments are lost")
        reconfigured(own_cluster, "synchronous_standby_names", "*", lambda: verdict() == "ok")
        found(environ, "database-durability", "ok", "a standby confirms each commit")
    finally:
        follower.terminate()
        follower.wait()
    try:
        reconfigured(own_cluster, "wal_receiver_timeout", "60s", lambda: verdict() == "failure")
        found(environ, "database-durability", "failure", "none is connected")
    finally:
        own_cluster.execute("ALTER SYSTEM RESET ALL")
        own_cluster.execute("SELECT pg_reload_conf()")


def test_durability_is_judged_as_the_page_about_it_says():
    from dataclasses import replace

    judged(durability_found(replace(SAFE, in_recovery=True)), "failure", "standby")
    judged(
        durability_found(replace(SAFE, full_page_writes=False, fsync=False)), "failure", "fsync and full_page_writes"
    )
    local = replace(SAFE, synchronous_commit="local", synchronous_standby_names="a", standbys=("sync",))
    judged(durability_found(local), "warning", "local")
    judged(durability_found(replace(SAFE, standbys=(None,))), "warning")


@only_postgresql
def test_connections_are_counted_against_what_there_may_be(environ, server, postgres):
    found(environ, "database-connections", "ok", "connections to PostgreSQL")
    name = urlsplit(server.settings.database_url).path[1:]
    for limit, verdict in ((20, "ok"), (12, "ok"), (8, "failure")):
        postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT {limit}')
        finding = looked(environ, "database-connections")["database-connections"]
        assert finding.verdict == verdict, finding
    judged(connections_found(Connections(85, 100)), "warning", "85 of 100")
    judged(connections_found(Connections(96, 100)), "failure", "96 of 100")


def test_on_sqlite_there_are_no_connections_to_count(sqlite_server):
    found(environment(sqlite_server.settings), "database-connections", "skipped", "SQLite")


def test_a_schema_is_judged_by_its_number_and_floor():
    judged(schema_found(Schema(HEAD, "0003")), "ok", HEAD)
    judged(schema_found(Schema("0001", None)), "warning", "0001")
    judged(schema_found(Schema("9999", None)), "failure", "9999")
