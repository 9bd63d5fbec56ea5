"""Bringing the schema up to date: by many nodes at once, whole or not at all, and never backwards."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.config
import alembic.script
import asyncpg
import httpx2
import pytest

from keyrelay.access.passwords import hash_password
from keyrelay.errors import DatabaseNewer, DatabaseUnreachable
from keyrelay.server import Node
from keyrelay.settings import Settings
from keyrelay.store import schema
from keyrelay.store.engine import open_store
from live import ADMIN_PASSWORD, ANONYMOUS, SMTP, V2, Command, LiveServer, run_keyrelay

_NODES = 4
_KEY = base64.b64encode(bytes(range(32))).decode()
_TABLES = {
    "access_number", "account", "alembic_version", "api_token", "attempt", "audit_entry", "audit_head",
    "change_mark", "claim", "data_key", "housekeeping", "identity_provider", "message", "message_content",
    "message_recipient", "node", "outbox", "outbox_event", "outbox_minute", "outbox_sum", "outbox_tally",
    "pam_entry", "pam_number", "pam_provider", "pam_type", "portal_session", "profile_revision", "rate_part", "role",
    "role_claim", "role_holder", "role_permission", "schema_floor", "sign_in_failure", "sign_in_known", "stored_secret",
    "submission_key",
}  # fmt: skip
_HALF_DONE = f"""
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{schema.HEAD}"


def upgrade():
    op.create_table("half_done", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO half_done (id) VALUES (1)")
    op.execute("UPDATE change_mark SET version = 1000")
    raise RuntimeError("this migration fails")
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path) -> Settings:
    """Settings for a database with nothing in it."""
    data_dir = tmp_path / "data"
    if request.param == "sqlite":
        return Settings(data_dir=data_dir, port=0, admin_password=ADMIN_PASSWORD)
    url = request.getfixturevalue("postgres").empty_database()
    return Settings(data_dir=data_dir, database_url=url, port=0, admin_password=ADMIN_PASSWORD, master_key=_KEY)


@pytest.fixture
def with_a_failing_migration(monkeypatch, tmp_path):
    """The migrations as they are, followed by one that fails half-way."""
    migrations = tmp_path / "changed" / "migrations"
    shutil.copytree(
        Path(schema.__file__).parent / "migrations", migrations, ignore=shutil.ignore_patterns("__pycache__")
    )
    (migrations / "versions" / "9999_half_done.py").write_text(_HALF_DONE)
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "changed" / "schema.py"))
    monkeypatch.setattr(schema, "HEAD", "9999")


def test_nodes_that_start_at_once_on_an_empty_database_all_come_up(empty, tmp_path):
    commands: list[Command] = []

    def serve(number: int) -> None:
        environment = {"KEYRELAY_DATA_DIR": str(empty.data_dir), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}
        if empty.database_url is not None:  # these nodes share nothing but the database and the key
            environment["KEYRELAY_DATA_DIR"] = str(tmp_path / f"node {number}")
            environment |= {"KEYRELAY_DATABASE_URL": empty.database_url, "KEYRELAY_MASTER_KEY": _KEY}
        commands.append(Command.serve(environment))

    with contextlib.ExitStack() as running:
        running.callback(lambda: [command.stop() for command in commands])
        with ThreadPoolExecutor(_NODES) as threads:
            list(threads.map(serve, range(_NODES)))
        for command in commands:
            command.wait_until_alive()
        put = httpx2.put(commands[0].url + SMTP, json=ANONYMOUS, headers=V2, auth=("admin", ADMIN_PASSWORD), timeout=30)
        assert put.status_code == 200
        for command in commands:
            got = httpx2.get(command.url + SMTP, headers=V2, auth=("admin", ADMIN_PASSWORD), timeout=30)
            assert got.status_code == 200
    assert tables(empty) == _TABLES
    assert query(empty, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]
    assert query(empty, "SELECT name FROM account") == [("admin",)]
    assert query(empty, "SELECT id FROM data_key") == [(1,)]
    marks = query(empty, "SELECT topic FROM change_mark ORDER BY topic")
    assert [topic for (topic,) in marks] == ["access", "keys", "outbox", "pam", "profile"]


def test_a_second_node_without_the_master_key_says_what_it_needs_and_makes_none(fresh_settings, start, tmp_path):
    start(fresh_settings).put_v2(ANONYMOUS)
    elsewhere = tmp_path / "elsewhere"
    url = fresh_settings.database_url or f"sqlite:///{fresh_settings.sqlite_file}"
    done = run_keyrelay({"KEYRELAY_DATA_DIR": str(elsewhere), "KEYRELAY_DATABASE_URL": url}, "smtp", "get")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "[master_key_missing]" in line
    assert not (elsewhere / "master.key").exists()


@pytest.mark.usefixtures("with_a_failing_migration")
def test_a_first_migration_that_fails_leaves_an_empty_database(empty):
    with pytest.raises(RuntimeError):
        migrate(empty)
    assert tables(empty) == set()


def test_a_later_migration_that_fails_leaves_everything_as_it_was(fresh_settings, start, request):
    server = start(fresh_settings)
    before = server.put_v2(ANONYMOUS).json()
    marks = query(fresh_settings, "SELECT topic, version FROM change_mark ORDER BY topic")
    head = schema.HEAD
    request.getfixturevalue("with_a_failing_migration")
    with pytest.raises(RuntimeError):
        migrate(fresh_settings)
    assert tables(fresh_settings) == _TABLES
    assert query(fresh_settings, "SELECT version_num FROM alembic_version") == [(head,)]
    assert query(fresh_settings, "SELECT topic, version FROM change_mark ORDER BY topic") == marks
    assert server.get_v2() == before
    assert server.put_v2(ANONYMOUS).status_code == 200


def test_a_failed_migration_can_be_made_up_for(empty, request, monkeypatch):
    with monkeypatch.context() as meanwhile:
        request.getfixturevalue("with_a_failing_migration")
        with pytest.raises(RuntimeError):
            migrate(empty)
        meanwhile.undo()
    monkeypatch.undo()
    server = LiveServer.start(empty)
    server.stop()
    assert tables(empty) == _TABLES


def test_the_schema_this_version_needs_is_the_last_migration():
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert alembic.script.ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(fresh_settings):
    execute(fresh_settings, "UPDATE alembic_version SET version_num = '9999'")
    execute(fresh_settings, "UPDATE schema_floor SET oldest = '9999'")
    with pytest.raises(DatabaseNewer, match="9999"):
        asyncio.run(open_store(fresh_settings))
    environment = {"KEYRELAY_DATA_DIR": str(fresh_settings.data_dir), "KEYRELAY_PORT": "0"}
    if fresh_settings.database_url is not None:
        environment["KEYRELAY_DATABASE_URL"] = fresh_settings.database_url
    done = run_keyrelay(environment, "serve")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "[database_newer]" in line
    assert query(fresh_settings, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_a_database_of_the_next_version_is_worked_on_while_nodes_are_replaced(fresh_settings, start):
    """As after an upgrade that adds a table and a column: what it needs to be, for the nodes that are not new yet."""
    execute(fresh_settings, "UPDATE alembic_version SET version_num = '9998'")
    execute(fresh_settings, f"UPDATE schema_floor SET oldest = '{schema.HEAD}'")
    execute(fresh_settings, "CREATE TABLE of_the_next_version (id INTEGER PRIMARY KEY)")
    execute(fresh_settings, "ALTER TABLE message ADD COLUMN of_the_next_version TEXT")
    server = start(fresh_settings)
    assert server.put_v2(ANONYMOUS).status_code == 200
    assert query(fresh_settings, "SELECT version_num FROM alembic_version") == [("9998",)]


def test_a_postgresql_user_who_may_not_create_tables_is_told_so(postgres, tmp_path):
    url = postgres.empty_database()
    name = url.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE {name}_guest LOGIN PASSWORD 'guest'")
    guest = f"postgresql://{name}_guest:guest@127.0.0.1:{postgres.port}/{name}"
    settings = Settings(data_dir=tmp_path, database_url=guest, master_key=_KEY)
    try:
        with pytest.raises(DatabaseUnreachable, match="permission denied"):
            asyncio.run(Node.open(settings))
    finally:
        postgres.execute(f"DROP ROLE {name}_guest")


def test_a_sqlite_file_that_another_program_keeps_locked_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr("keyrelay.store.sqlite._BUSY_SECONDS", 0.1)
    settings = Settings(data_dir=tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "keyrelay.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnreachable, match="locked"):
            asyncio.run(Node.open(settings))


def migrate(settings: Settings) -> None:
    if settings.database_url is not None:
        asyncio.run(schema.migrate_postgresql(settings.database_url))
    else:
        settings.data_dir.mkdir(exist_ok=True)
        schema.migrate_sqlite(settings.sqlite_file)


def tables(settings: Settings) -> set[str]:
    if settings.database_url is not None:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    else:
        sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return {name for (name,) in query(settings, sql)}


def execute(settings: Settings, sql: str) -> None:
    query(settings, sql)


def query(settings: Settings, sql: str) -> list[tuple]:
    async def on_postgresql() -> list[tuple]:
        connection = await asyncpg.connect(settings.database_url)
        rows = await connection.fetch(sql)
        await connection.close()
        return [tuple(row) for row in rows]

    if settings.database_url is not None:
        return asyncio.run(on_postgresql())
    with contextlib.closing(sqlite3.connect(settings.sqlite_file, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def test_a_database_of_the_first_schema_keeps_what_it_holds(empty, start, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "HEAD", "0001")
        migrate(empty)
    assert not any(name.startswith("pam_") for name in tables(empty))
    migrate(empty)
    assert tables(empty) == _TABLES
    server = start(empty)
    assert server.put_v2(ANONYMOUS).status_code == 200
    types = server.client.get("/KeyfactorAPI/PamProviders/Types").json()
    assert "LocalDB" in {kind["Name"] for kind in types}


def test_roles_and_users_from_before_claims_stay_what_they_were_and_get_numbers(empty, start, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "HEAD", "0003")
        migrate(empty)
    for sql in (
        f"INSERT INTO account VALUES ('jo', '{hash_password(ADMIN_PASSWORD)}', '2026-01-01T00:00:00+00:00')",
        "INSERT INTO role VALUES ('Operators'), ('Administrator')",
        "INSERT INTO role_permission VALUES ('Administrator', '/'), ('Operators', '/messages/')",
        "INSERT INTO role_holder VALUES ('Administrator', 'jo'), ('Operators', 'jo')",
    ):
        execute(empty, sql)
    server = start(empty)
    answer = httpx2.get(server.url + "/KeyfactorAPI/Security/Roles", auth=("jo", ADMIN_PASSWORD), headers=V2)
    assert [(role["Id"], role["Name"], role["Immutable"]) for role in answer.json()] == [
        (1, "Administrator", True),
        (2, "Operators", False),
    ]
