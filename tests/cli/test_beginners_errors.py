"""What keeps ``keyrelay serve`` from starting: one line that says what and what to do, and nothing is harmed."""

from __future__ import annotations

import base64
import socket
import sqlite3
from contextlib import closing

import pytest
import trustme

from live import ADMIN_PASSWORD, Command, run_keyrelay

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def serve(keyrelay):
    """Run the server with some settings, expecting it to end by itself; give its one line."""

    def serve(code: str, *options: str, **variables: str) -> str:
        return keyrelay.refused(code, "serve", *options, **{"PORT": "0"} | variables)

    return serve


# --- Where to listen -----------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_the_way_out(serve):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = serve("port_in_use", PORT=port)
    assert port in line
    assert "--port" in line


def test_a_second_server_on_the_same_port_says_so_and_the_first_goes_on(keyrelay, serve):
    first = Command.serve(keyrelay.environment)
    try:
        assert "in use" in serve("port_in_use", "--port", first.url.rpartition(":")[2])
        first.wait_until_alive()
    finally:
        first.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "not..a.name"])
def test_an_address_that_is_not_ours_is_named(serve, host):
    line = serve("cannot_listen", "--host", host, ALLOW_PLAIN_HTTP="yes")
    assert host in line
    assert "--host" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_plain_http_on_a_network_is_refused_with_the_ways_out(serve, host):
    line = serve("plain_http_refused", HOST=host)
    for way in ("--tls-cert", "--self-signed", "KEYRELAY_ALLOW_PLAIN_HTTP=yes"):
        assert way in line


def test_plain_http_on_a_network_is_served_when_the_operator_allows_it(keyrelay):
    running = Command.serve(keyrelay.environment | {"KEYRELAY_HOST": "0.0.0.0", "KEYRELAY_ALLOW_PLAIN_HTTP": "yes"})
    try:
        running.wait_until_alive()
    finally:
        running.stop()


# --- Where the data is ---------------------------------------------------------------------------------------


def test_a_data_directory_that_is_a_file_is_named(serve, tmp_path):
    file = tmp_path / "file"
    file.touch()
    line = serve("data_dir_unusable", DATA_DIR=str(file))
    assert str(file) in line
    assert "KEYRELAY_DATA_DIR" in line


@pytest.mark.parametrize("directory", ["file/data", "/sys"], ids=["below a file", "writable for nobody"])
@pytest.mark.parametrize("option", [(), ("--self-signed",)], ids=["http", "https"])
def test_a_data_directory_that_cannot_be_written_is_named(serve, tmp_path, directory, option):
    (tmp_path / "file").touch()
    line = serve("data_dir_unusable", *option, DATA_DIR=str(tmp_path / directory))
    assert str(tmp_path / directory) in line
    assert "KEYRELAY_DATA_DIR" in line


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(serve, keyrelay):
    file = keyrelay.data_dir / "keyrelay.db"
    content = b"Dear diary, " * 1000
    file.write_bytes(content)
    assert str(file) in serve("database_unreachable")
    assert file.read_bytes() == content


def test_a_directory_in_place_of_the_database_is_named(serve, tmp_path):
    assert str(tmp_path) in serve("data_dir_unusable", DATABASE_URL=f"sqlite:///{tmp_path}")


def test_a_database_from_a_newer_version_is_left_alone(serve, keyrelay):
    file = keyrelay.data_dir / "keyrelay.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE schema_floor SET oldest = '9999'")
    line = serve("database_newer")
    assert "9999" in line
    assert "backup" in line
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_postgresql_from_a_newer_version_is_left_alone(serve, postgres):
    url = postgres.fresh_database()
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", database=url.rpartition("/")[2])
    postgres.execute("UPDATE schema_floor SET oldest = '9999'", database=url.rpartition("/")[2])
    assert "9999" in serve("database_newer", DATABASE_URL=url)


def test_a_postgresql_that_does_not_run_is_explained(serve):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        port = closed.getsockname()[1]
        line = serve("database_unreachable", DATABASE_URL=f"postgresql://keyrelay:canary-pw@127.0.0.1:{port}/keyrelay")
    assert "refused" in line
    assert "KEYRELAY_DATABASE_URL" in line
    assert "canary-pw" not in line


def test_a_wrong_password_for_postgresql_is_explained_and_not_shown(serve, postgres):
    url = postgres.url("postgres").replace(postgres.password, "canary-pw")
    line = serve("database_unreachable", DATABASE_URL=url)
    assert "password authentication failed" in line
    assert "canary-pw" not in line


def test_a_postgresql_database_that_does_not_exist_is_named(serve, postgres):
    line = serve("database_unreachable", DATABASE_URL=postgres.url("nowhere"))
    assert '"nowhere"' in line
    assert postgres.password not in line


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:canary-pw@[::1/x", "mysql://u:canary-pw@db.example.org/x", "canary-pw", "sqlite:///"],
    ids=["broken address", "another database", "no address", "no file"],
)
def test_a_database_address_that_cannot_be_read_is_explained_and_not_shown(serve, url):
    line = serve("settings_invalid", DATABASE_URL=url)
    assert "KEYRELAY_DATABASE_URL" in line
    assert "canary-pw" not in line


@pytest.mark.parametrize("end", ["127.0.0.1:port/x", "127.0.0.1:1/x?sslmode=sometimes"])
def test_what_is_wrong_inside_a_postgresql_address_is_said_in_words(serve, end):
    line = serve("database_unreachable", DATABASE_URL=f"postgresql://u:canary-pw@{end}")
    assert "canary-pw" not in line
    assert "Error." not in line, "the name of a class in a driver helps nobody"


# --- The master key ------------------------------------------------------------------------------------------


def test_a_lost_master_key_is_never_replaced_by_a_new_one(serve, keyrelay):
    file = keyrelay.data_dir / "master.key"
    kept = file.read_bytes()
    file.unlink()
    line = serve("master_key_missing")
    assert "KEYRELAY_MASTER_KEY" in line
    assert not file.exists()
    file.write_bytes(kept)
    keyrelay.ok("smtp", "get")


def test_another_master_key_is_refused_and_not_shown(serve):
    line = serve("master_key_wrong", MASTER_KEY=KEY)
    assert "KEYRELAY_MASTER_KEY" in line
    assert KEY not in line


@pytest.mark.parametrize("content", [b"", b"\xff\x00not base64", b"AAAA\n"], ids=["empty", "binary", "short"])
def test_a_damaged_master_key_file_is_named_and_kept(serve, keyrelay, content):
    file = keyrelay.data_dir / "master.key"
    file.write_bytes(content)
    line = serve("settings_invalid")
    assert str(file) in line
    assert "backup" in line
    assert file.read_bytes() == content


def test_a_master_key_that_is_not_base64_is_explained_and_not_shown(serve):
    line = serve("settings_invalid", MASTER_KEY="canary key")
    assert "KEYRELAY_MASTER_KEY is not 32 bytes in base64" in line
    assert "openssl rand -base64 32" in line
    assert "canary" not in line


# --- Settings ------------------------------------------------------------------------------------------------


def test_every_setting_that_cannot_be_used_is_named_at_once(serve):
    line = serve("settings_invalid", PORT="http", LOG_LEVEL="loud", WORKERS="0", HSOT="localhost")
    for name in ("PORT", "LOG_LEVEL", "WORKERS", "HSOT"):
        assert f"KEYRELAY_{name} " in line


def test_a_secret_given_twice_is_explained_and_not_shown(serve, keyrelay):
    file = keyrelay.data_dir / "master.key"
    line = serve("settings_invalid", MASTER_KEY=KEY, MASTER_KEY_FILE=str(file))
    assert "KEYRELAY_MASTER_KEY and KEYRELAY_MASTER_KEY_FILE exclude each other" in line
    assert KEY not in line


def test_a_password_for_the_first_user_that_is_too_short_names_the_setting(tmp_path):
    environment = {"KEYRELAY_DATA_DIR": str(tmp_path / "new"), "KEYRELAY_PORT": "0"}
    done = run_keyrelay(environment | {"KEYRELAY_ADMIN_PASSWORD": "canary7"}, "serve")
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done
    assert "canary7" not in done.stderr
    assert "KEYRELAY_ADMIN_PASSWORD" in done.stderr
    # And the next start, with a better one, is the first.
    Command.serve(environment | {"KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}).stop()


@pytest.mark.parametrize("option", ["port=70000", "workers=0"])
def test_an_option_out_of_its_range_is_explained_like_its_setting(serve, option):
    name, _, value = option.partition("=")
    assert f"KEYRELAY_{name.upper()} must be" in serve("settings_invalid", f"--{name}", value)


# --- TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory):
    """A certificate, its key, and the key of another."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    own, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    other.private_key_pem.write_to_path(str(folder / "other.pem"))
    (folder / "text.pem").write_text("no certificate")
    return folder


@pytest.mark.parametrize(
    ("certificate", "key"),
    [("missing.pem", "key.pem"), ("cert.pem", "missing.pem"), ("cert.pem", "other.pem"), ("text.pem", "key.pem")],
)
def test_tls_files_that_cannot_be_used_are_named(serve, tls_files, certificate, key):
    line = serve("tls_unusable", "--tls-cert", str(tls_files / certificate), "--tls-key", str(tls_files / key))
    assert str(tls_files / certificate) in line
    assert str(tls_files / key) in line
    assert "PEM" in line
    assert "None" not in line


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_a_certificate_and_its_key_belong_together(serve, tls_files, option):
    assert "belong together" in serve("settings_invalid", option, str(tls_files / "cert.pem"))


def test_a_certificate_and_self_signed_exclude_each_other(serve, tls_files):
    both = ("--tls-cert", str(tls_files / "cert.pem"), "--tls-key", str(tls_files / "key.pem"), "--self-signed")
    assert "exclude each other" in serve("settings_invalid", *both)
