"""What a start needs: settings, the address, the data directory, the key file, the disk."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from absent import absent
from canary import leaks, new_canary
from doctoring import environment, found, judged, looked
from keyrelay.doctor.files import directory_found, file_system_found, key_file_found, space_found

MEBIBYTE = 1024 * 1024


@pytest.fixture
def environ(sqlite_server):
    return environment(sqlite_server.settings)


# --- Settings ------------------------------------------------------------------------------------------------


def test_settings_that_can_be_read_are_ok(environ):
    found(environ, "settings", "ok", "given: 4")


def test_every_setting_that_cannot_be_read_is_named_and_the_rest_is_looked_at_all_the_same(environ):
    findings = looked(environ | {"KEYRELAY_PROT": "1", "KEYRELAY_PORT": "many"}, "settings", "database", "schema")
    judged(findings["settings"], "failure", "KEYRELAY_PROT is not a setting", "KEYRELAY_PORT must be")
    assert findings["database"].verdict == findings["schema"].verdict == "ok"


@pytest.mark.parametrize("name", ["DATABASE_URL", "MASTER_KEY_FILE", "DATA_DIR"])
def test_what_says_which_data_is_meant_is_not_guessed(environ, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nobody has started keyrelay
    broken = {"DATABASE_URL": "mysql://x", "MASTER_KEY_FILE": "missing", "DATA_DIR": ""}[name]
    findings = looked(environ | {f"KEYRELAY_{name}": broken}, "settings", "database", "schema", "master-key")
    if name == "DATA_DIR":  # empty means that it is not set, and there is no data in this directory
        assert findings["database"].verdict == "failure"
        return
    assert findings["settings"].verdict == "failure"
    judged(findings["database"], "skipped", f"KEYRELAY_{name.removesuffix('_FILE')}")


def test_a_secret_in_the_place_of_its_files_name_is_not_told(environ):
    for name in ("MASTER_KEY", "ADMIN_PASSWORD", "DATABASE_URL"):
        for secret in (new_canary(), "/" + new_canary(), new_canary() + "/" + new_canary(), new_canary() * 20):
            finding = found({**environ, f"KEYRELAY_{name}": "", f"KEYRELAY_{name}_FILE": secret}, "settings", "failure")
            assert leaks({"secret": secret[1:25]}, finding.found.encode()) == []
            assert f"KEYRELAY_{name} cannot be read" in finding.found


def test_settings_that_contradict_each_other_are_named(environ):
    found(environ, "settings-fit", "ok")
    found(environ | {"KEYRELAY_TLS_CERT": "cert.pem"}, "settings", "failure", "belong together")
    for given, word in (
        ({"RETRY_WAITS": "7200", "RETRY_HOURS": "1"}, "KEYRELAY_RETRY_WAITS"),
        ({"MESSAGE_MEGABYTES": "25", "OUTBOX_MEGABYTES": "5"}, "KEYRELAY_OUTBOX_MEGABYTES"),
        ({"KEEP_ACCEPTED_CONTENT_DAYS": "40"}, "KEYRELAY_KEEP_ACCEPTED_DAYS"),
        ({"KEEP_FAILED_CONTENT_DAYS": "100"}, "KEYRELAY_KEEP_FAILED_DAYS"),
    ):
        more = {f"KEYRELAY_{name}": value for name, value in given.items()}
        found(environ | more, "settings-fit", "warning", word)


def test_settings_that_make_it_less_safe_are_named(environ):
    found(environ, "settings-safe", "ok")
    for given, word in (
        ({"ALLOW_INSECURE_SIGN_IN": "yes"}, "KEYRELAY_ALLOW_INSECURE_SIGN_IN"),
        ({"ALLOW_PLAIN_HTTP": "yes", "HOST": "0.0.0.0"}, "KEYRELAY_ALLOW_PLAIN_HTTP"),
        ({"OPEN_METRICS": "yes"}, "KEYRELAY_OPEN_METRICS"),
    ):
        found(environ | {f"KEYRELAY_{name}": value for name, value in given.items()}, "settings-safe", "warning", word)
    harmless = {"KEYRELAY_ALLOW_PLAIN_HTTP": "yes"}  # on loopback
    found(environ | harmless, "settings-safe", "ok")


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("postgresql://u:p@127.0.0.1:1/x", "ok"),
        ("postgresql:///x", "ok"),
        ("postgresql://u@%2Frun%2Fpostgresql/x", "ok"),
        ("postgresql://u:p@192.0.2.1:1/x?sslmode=verify-full", "ok"),
        ("postgresql://u:p@192.0.2.1:1/x", "warning"),
        ("postgresql://u:p@192.0.2.1:1/x?sslmode=require", "warning"),
        ("postgresql://u:p@127.0.0.1:1,192.0.2.1:1/x", "warning"),
    ],
)
def test_a_database_on_another_machine_has_to_be_known_for_certain(url, verdict):
    from keyrelay.doctor import configuration
    from keyrelay.settings import read

    weak = configuration._weaknesses(read({"KEYRELAY_DATABASE_URL": url}))
    assert bool(weak) == (verdict == "warning")
    assert "p@" not in str(weak)


def test_an_address_on_which_a_server_would_not_start_is_a_failure(environ):
    found(environ, "address", "ok", "http", "this machine alone")
    anywhere = environ | {"KEYRELAY_HOST": "0.0.0.0"}
    found(anywhere, "address", "failure", "KEYRELAY_HOST")
    found(anywhere | {"KEYRELAY_SELF_SIGNED": "yes"}, "address", "ok", "https")
    found(anywhere | {"KEYRELAY_ALLOW_PLAIN_HTTP": "yes"}, "address", "ok", "KEYRELAY_ALLOW_PLAIN_HTTP")


def test_a_port_that_another_program_has_is_a_failure(sqlite_settings, start):
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        taken = {"KEYRELAY_DATA_DIR": "nowhere", "KEYRELAY_PORT": str(number)}
        found(taken, "port", "failure", f"Port {number}", "in use by another program")
        server = start(sqlite_settings)
        server.run(lambda node: node.start_outbox(works=False))
        deadline = time.monotonic() + 10
        alive = environment(sqlite_settings, PORT=number)
        while looked(alive, "port")["port"].verdict != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    found(taken, "port", "ok", "is free")
    found({**taken, "KEYRELAY_PORT": "0"}, "port", "ok", "any free port")
    found({**taken, "KEYRELAY_HOST": "192.0.2.1"}, "port", "failure", "192.0.2.1")


# --- The data directory and what lies in it ------------------------------------------------------------------


def test_a_data_directory_that_is_ours_alone_is_ok_and_one_that_others_see_is_not(environ, sqlite_server):
    found(environ, "data-dir", "ok", "ours alone")
    sqlite_server.settings.data_dir.chmod(0o750)
    found(environ, "data-dir", "warning", "Others may look into")


def test_a_data_directory_that_is_not_there_is_named_whole_and_not_made(environ, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found(environ | {"KEYRELAY_DATA_DIR": "elsewhere"}, "data-dir", "warning", str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()
    assert directory_found(tmp_path / "elsewhere", 0, needed=False).verdict == "ok"


def test_a_data_directory_that_is_none_or_somebody_elses_is_told(environ, tmp_path):
    file = tmp_path / "file"
    file.touch()
    found(environ | {"KEYRELAY_DATA_DIR": str(file)}, "data-dir", "failure", "no directory")
    found(environ | {"KEYRELAY_DATA_DIR": str(file / "x")}, "data-dir", "failure", "Not a directory")
    judged(directory_found(tmp_path, os.geteuid() + 1), "warning", "another user")


def test_a_data_directory_that_cannot_be_written_is_a_failure(environ, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may be allowed everything
    found(environ, "data-dir", "failure", "cannot be written")


def test_a_key_file_that_others_can_read_is_a_failure(environ, sqlite_server):
    found(environ, "key-file", "ok")
    file = sqlite_server.settings.data_dir / "master.key"
    file.chmod(0o644)
    found(environ, "key-file", "failure", "Others may read")
    file.chmod(0o600)
    judged(key_file_found(file, os.geteuid() + 1), "warning", "another user")
    judged(key_file_found(file / "x", 0), "failure", "Not a directory")
    found(environ | {"KEYRELAY_MASTER_KEY": "A" * 43 + "="}, "key-file", "ok", "KEYRELAY_MASTER_KEY")
    file.rename(file.with_name("taken away"))
    found(environ, "key-file", "ok", "first start makes it")


def test_a_disk_that_is_nearly_full_is_told_in_time(environ):
    found(environ, "disk-space", "ok", "are free")
    judged(space_found(Path("x"), lambda _: 500 * MEBIBYTE), "warning", "500.0 MiB")
    judged(space_found(Path("x"), lambda _: 100 * MEBIBYTE), "failure", "100.0 MiB")


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("ext4", "ok"),
        ("xfs", "ok"),
        ("nfs4", "failure"),
        ("cifs", "failure"),
        ("tmpfs", "warning"),
        ("overlay", "warning"),
    ],
)
def test_what_the_database_lies_on_is_found_by_the_longest_mount(kind, verdict):
    mounts = f"/dev/a / ext4 rw 0 0\nx /data/deep\\040er {kind} rw 0 0\nnfs /data/deep nfs rw 0 0\n"
    judged(file_system_found(Path("/data/deep er/keyrelay"), mounts), verdict, kind)
    judged(file_system_found(Path("/data/deep"), mounts), "failure", "nfs")
    judged(file_system_found(Path("/data/deeper"), mounts), "ok", "ext4")


def test_a_directory_in_memory_is_told_apart_from_one_on_a_disk(environ, on_disk):
    memory = Path("/dev/shm")
    if not memory.is_dir():
        absent("this system has no file system in memory at its usual place")
    found(environ | {"KEYRELAY_DATABASE_URL": f"sqlite:///{memory}/x.db"}, "file-system", "warning", "tmpfs")
    on_a_disk = environ | {"KEYRELAY_DATABASE_URL": f"sqlite:///{on_disk}/x.db"}
    found(on_a_disk, "file-system", "ok" if os.path.ismount("/") else "skipped")
    found(environ | {"KEYRELAY_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "file-system", "skipped", "PostgreSQL")
