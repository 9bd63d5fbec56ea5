"""``keyrelay doctor`` as it is typed: exit codes, JSON, and every way in which keyrelay itself cannot start."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from doctoring import environment
from keyrelay.doctor.checks import CHECKS
from live import run_keyrelay

IDS = [check.id for check in CHECKS]


@pytest.fixture
def environ(sqlite_settings, start):
    start(sqlite_settings).stop()
    return environment(sqlite_settings)


def told(environ, *more):
    """The report as JSON, and the exit code."""
    done = run_keyrelay(environ, "doctor", "--offline", "--json", *more)
    assert done.stderr == ""
    return json.loads(done.stdout), done.returncode


def test_warnings_alone_are_no_failure(environ):
    document, code = told(environ)
    assert (document["verdict"], code) == ("warning", 0)  # there is no profile, and nobody sends
    assert [one["id"] for one in document["checks"]] == IDS
    assert all(one["found"].endswith(".") for one in document["checks"])


def test_a_failure_is_exit_code_1(environ):
    document, code = told(environ | {"KEYRELAY_PROT": "1"})
    assert (document["verdict"], code) == ("failure", 1)


def test_people_get_a_line_for_each_check_and_a_summary(environ):
    done = run_keyrelay(environ, "doctor", "--offline")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(" ✓ settings ")
    assert lines[-1].endswith("skipped. Begin with profile.")
    assert any(line.startswith("Not looked at: database-connections") for line in lines)


WAYS = {
    "a setting that is none": ({"PROT": "1"}, "settings"),
    "a setting that cannot be read": ({"WORKERS": "many"}, "settings"),
    "no loopback without TLS": ({"HOST": "0.0.0.0"}, "address"),
    "an address of another machine": ({"HOST": "192.0.2.1", "ALLOW_PLAIN_HTTP": "yes"}, "port"),
    "a certificate that is missing": ({"TLS_CERT": "missing.pem", "TLS_KEY": "missing.pem"}, "tls-certificate"),
    "authorities that are missing": ({"CA_BUNDLE": "missing.pem"}, "ca-bundle"),
    "a client certificate that is missing": ({"RELAY_CLIENT_CERT": "missing.pem"}, "client-certificates"),
    "a wrong master key": ({"MASTER_KEY": "A" * 43 + "="}, "master-key"),
    "a master key that is none": ({"MASTER_KEY": "short"}, "master-key"),
    "only a previous master key": ({"PREVIOUS_MASTER_KEY": "A" * 43 + "=", "DATA_DIR": "elsewhere"}, "master-key"),
    "a data directory that is a file": ({"DATA_DIR": "file"}, "data-dir"),
    "a database that is away": ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}, "database"),
    "a database address that cannot be read": ({"DATABASE_URL": "postgresql://u:p@ss/w:rd@127.0.0.1/x"}, "database"),
    "a file that is no database": ({"DATABASE_URL": "sqlite:///file"}, "database"),
    "a database of a newer version": ({"DATABASE_URL": "sqlite:///newer.db"}, "schema"),
}


@pytest.mark.parametrize("name", WAYS)
def test_it_says_why_keyrelay_does_not_start(environ, sqlite_settings, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("Dear diary, " * 1000)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(sqlite_settings.sqlite_file, tmp_path / "newer.db")
    shutil.copy(sqlite_settings.sqlite_file, tmp_path / "elsewhere")
    with closing(sqlite3.connect("newer.db")) as newer, newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
        newer.execute("UPDATE schema_floor SET oldest = '9999'")
    given, where = WAYS[name]
    broken = environ | {f"KEYRELAY_{setting}": value for setting, value in given.items()}
    refused = run_keyrelay(broken, "serve", "--port", "0")
    assert refused.returncode == 1, refused
    document, code = told(broken)
    assert code == 1
    findings = {one["id"]: one for one in document["checks"]}
    assert list(findings) == IDS
    assert findings[where]["verdict"] == "failure", findings[where]
    assert findings[where]["advice"]
    assert findings["python"]["verdict"] == "ok"
    assert "p@ss" not in json.dumps(document)


def test_it_asks_nobody_for_anything_and_changes_nothing(environ, sqlite_settings):
    before = {path.name: path.read_bytes() for path in sqlite_settings.data_dir.rglob("*") if path.is_file()}
    told(environ)
    assert {p.name: p.read_bytes() for p in sqlite_settings.data_dir.rglob("*") if p.is_file()} == before
