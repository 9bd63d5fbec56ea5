"""Reading the settings: every one has a variable, a default and a parser, and every mistake is named."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.errors import SettingsInvalid
from keyrelay.setting_values import PREFIX
from keyrelay.settings import Settings, read, variables


def refused(**given: str) -> str:
    with pytest.raises(SettingsInvalid) as problem:
        read({PREFIX + name: value for name, value in given.items()})
    return problem.value.message


def accepted(**given: str) -> Settings:
    return read({PREFIX + name: value for name, value in given.items()})


def outcome(environ: dict[str, str]) -> str:
    """The settings, or what is wrong with them, in words."""
    try:
        return repr(read(environ))
    except SettingsInvalid as problem:
        return problem.message


def test_an_empty_environment_gives_the_documented_defaults():
    settings = read({})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.base_path) == ("127.0.0.1", 8080, "/KeyfactorAPI")
    assert not settings.allow_plain_http
    assert not settings.allow_insecure_sign_in


def test_variables_of_other_programs_are_none_of_our_business():
    assert read({"PATH": "/bin", "KEYFACTOR_HOSTNAME": "x", "XKEYRELAY_PORT": "x"}) == Settings()


def test_an_empty_variable_counts_as_unset():
    assert accepted(PORT="", MASTER_KEY="", MASTER_KEY_FILE="", TLS_CERT="") == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "0", 0),
        ("PORT", "65535", 65535),
        ("WORKERS", "64", 64),
        ("SUBMISSIONS_PER_MINUTE", "1000000000", 1_000_000_000),
        ("SELF_SIGNED", "YES", True),
        ("SELF_SIGNED", "off", False),
        ("ALLOW_PLAIN_HTTP", "1", True),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("LOG_FORMAT", "Json", "json"),
        ("DATA_DIR", "some/where", Path("some/where")),
        ("BASE_PATH", "Keyfactor/Api/", "/Keyfactor/Api"),
        ("BASE_PATH", "/apigateway/KeyfactorAPI", "/apigateway/KeyfactorAPI"),
        ("PRODUCT_VERSION", "25.1.1.0", "25.1.1.0"),
        ("HISTORY_SECRETS", "2", 2),
        ("CONNECTIONS", "100000", 100_000),
        ("TRUSTED_PROXIES", "10.0.0.7", (ip_network("10.0.0.7/32"),)),
        ("TRUSTED_PROXIES", "10.1.0.0/16, 2001:db8::/32", (ip_network("10.1.0.0/16"), ip_network("2001:db8::/32"))),
    ],
)
def test_a_value_is_read(name, text, value):
    assert getattr(accepted(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80 80"),
        ("PORT", "٣"),  # a digit, and not one of ours
        ("PORT", "9" * 5000),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("SELF_SIGNED", "maybe"),
        ("LOG_LEVEL", "trace"),
        ("LOG_FORMAT", "xml"),
        ("BASE_PATH", "/"),
        ("BASE_PATH", "/a//b"),
        ("BASE_PATH", "/a?b"),
        ("BASE_PATH", "/{path}"),
        ("BASE_PATH", "/api/v1"),
        ("BASE_PATH", "/docs"),
        ("PRODUCT_VERSION", "25.1"),
        ("PRODUCT_VERSION", "25.1.1.0\r\nX-Other: 1"),
        ("PRODUCT_VERSION", "25.1.1.0\n"),
        ("HISTORY_SECRETS", "1"),
        ("CONNECTIONS", "0"),
        ("TRUSTED_PROXIES", "proxy.example.org"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.1,"),
        ("TRUSTED_PROXIES", "10.0.0.1 10.0.0.2"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", ",".join(["10.0.0.1"] * 101)),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite://file"),
        ("DATABASE_URL", "keyrelay.db"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_the_name_of_its_variable(name, text):
    assert refused(**{name: text}).startswith(PREFIX + name)


def test_every_problem_is_named_at_once_and_misspelt_names_too():
    line = refused(PORT="x", WORKERS="x", ADMIN_PASWORD="x", TLS_CERT="cert.pem", PORT_FILE="x")
    for name in ("PORT", "WORKERS", "ADMIN_PASWORD", "TLS_CERT", "PORT_FILE"):
        assert f"KEYRELAY_{name} " in line
    assert line.count(";") == 4


def test_what_kubernetes_says_of_a_service_called_keyrelay_is_not_for_us():
    environ = {
        "KEYRELAY_PORT": "tcp://10.0.0.1:8080",
        "KEYRELAY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "KEYRELAY_SERVICE_HOST": "10.0.0.1",
        "KEYRELAY_SERVICE_PORT": "8080",
    }
    assert read(environ) == read({})


def test_names_are_matched_to_the_letter():
    assert "KEYRELAY_port" in refused(port="80")


# --- Secrets -------------------------------------------------------------------------------------------------


SECRET = [name.removeprefix(PREFIX) for name, _, variable in variables() if variable.secret]


def test_the_secret_settings_are_those_that_hold_a_password_or_a_key():
    assert set(SECRET) == {
        *("DATABASE_URL", "MASTER_KEY", "PREVIOUS_MASTER_KEY", "ADMIN_PASSWORD", "OIDC_CLIENT_SECRET")
    }


# What a secret needs beside it.
BESIDE = {
    "OIDC_CLIENT_SECRET": {"OIDC_CLIENT_ID": "a", "OIDC_AUTHORITY": "https://login.example.org", "OIDC_AUDIENCE": "a"}
}


@pytest.mark.parametrize("name", SECRET)
def test_every_secret_may_come_from_a_file(tmp_path, name):
    beside = BESIDE.get(name, {})
    file = tmp_path / "secret"
    file.write_text("postgresql://canary in a file\n")
    settings = accepted(**beside | {name + "_FILE": str(file)})
    assert getattr(settings, name.lower()) == "postgresql://canary in a file"
    assert "canary" not in repr(settings)
    assert settings == accepted(**beside | {name: "postgresql://canary in a file"})


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_given_twice_is_refused_and_not_repeated(tmp_path, name):
    line = refused(**{name: "canary-direct", name + "_FILE": str(tmp_path / "secret")})
    assert f"KEYRELAY_{name} and KEYRELAY_{name}_FILE exclude each other" in line
    assert "canary" not in line


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing, binary = tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (missing, binary, tmp_path):
        assert str(file) in refused(ADMIN_PASSWORD_FILE=str(file))


@pytest.mark.parametrize("name", SECRET)
def test_an_empty_secret_file_is_a_mistake_and_not_an_empty_secret(tmp_path, name):
    """As of a mount that is not there yet; an administrator's password must not be generated then."""
    file = tmp_path / "secret"
    file.write_text("\n")
    assert "KEYRELAY_" + name in refused(**{name + "_FILE": str(file)})


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_that_cannot_be_used_is_not_repeated(name):
    assert "canary" not in outcome({PREFIX + name: "canary://secret"})


# --- TLS -----------------------------------------------------------------------------------------------------


def test_a_certificate_needs_its_key_and_excludes_the_other_way():
    assert "belong together" in refused(TLS_CERT="cert.pem")
    assert "belong together" in refused(TLS_KEY="key.pem")
    assert "exclude each other" in refused(TLS_CERT="cert.pem", TLS_KEY="key.pem", SELF_SIGNED="yes")
    assert accepted(TLS_CERT="cert.pem", TLS_KEY="key.pem", SELF_SIGNED="no").tls_cert == Path("cert.pem")


# --- Where the data is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ({}, Path(".keyrelay/keyrelay.db")),
        ({"DATA_DIR": "d"}, Path("d/keyrelay.db")),
        ({"DATABASE_URL": "sqlite:///x.db"}, Path("x.db")),
        ({"DATABASE_URL": "sqlite:////var/lib/x.db", "DATA_DIR": "d"}, Path("/var/lib/x.db")),
        ({"DATABASE_URL": "postgresql://localhost/x"}, None),
        ({"DATABASE_URL": "postgres://localhost/x"}, None),
    ],
)
def test_the_database_file_is_where_the_settings_say(given, file):
    assert accepted(**given).sqlite_file == file


names = st.sampled_from([name for name, _, _ in variables()] + ["KEYRELAY_ADMIN_PASSWORD_FILE", "KEYRELAY_OTHER"])


@given(st.dictionaries(names, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)))
def test_any_environment_gives_settings_or_one_explanation(environ):
    assert outcome(environ).startswith(("KEYRELAY_", "Settings("))
