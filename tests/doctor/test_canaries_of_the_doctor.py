"""Canaries in every place where a secret can be, and none of them in what the doctor prints or the bundle holds."""

from __future__ import annotations

import base64
import io
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from api import pam_kit
from canary import leaks, new_canary
from keyrelay.doctor.checks import CHECKS
from keyrelay.settings import Settings
from live import BASIC, LiveServer, run_keyrelay, settings_for
from relaying import certificates, running
from submissions import hand_in
from vaulting import TYPE, SimpleVault


@dataclass
class Scene:
    """``hidden``: secrets. ``personal``: what tells of somebody, and may be in no bundle."""

    environment: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    personal: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str) -> str:
        return self.hidden.setdefault(name, new_canary())

    def name(self, name: str) -> str:
        return self.personal.setdefault(name, new_canary())

    def seen(self, directory: Path, **more: str) -> tuple[bytes, bytes]:
        """All that the two commands say: what is printed, and the bundle, as it is and unpacked."""
        environ = {**self.environment, **{f"KEYRELAY_{name}": value for name, value in more.items()}}
        environ = {name: value for name, value in environ.items() if value}
        file = directory / f"{new_canary()}.zip"
        printed = b""
        # Where settings are wrong, neither the relay nor a vault has anything to do with it.
        offline = ["--offline"] if more else []
        for command in (["doctor"], ["support-bundle", str(file)]):
            done = run_keyrelay(environ, *command, *offline)
            assert done.stderr == "", done.stderr
            printed += done.stdout.encode()
        octets = file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(octets)) as found:
            members = b"\n".join(name.encode() + b"\n" + found.read(name) for name in found.namelist())
        assert members.count(b'"id": ') >= len(CHECKS)
        return printed.replace(str(file).encode(), b""), octets + members


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def scene(request, tmp_path_factory, sqlite_template) -> Iterator[tuple[Scene, Path]]:
    directory = tmp_path_factory.mktemp("doctor")
    scene = Scene()
    settings = settings_for(request.param, request, directory, sqlite_template)
    if settings.database_url is not None:
        settings = replace(settings, database_url=_own_role(request.getfixturevalue("postgres"), settings, scene))
    key = base64.b64encode((scene.plant("master key") + scene.plant("its rest")).encode()[:32]).decode()
    scene.hidden["master key in base64"] = key
    variable = "SMTP_" + new_canary()
    os.environ[variable] = scene.plant("environment variable")
    with SimpleVault(directory) as vault, running(starttls=True, auth=("PLAIN",), echo_credentials=True) as relay:
        bundle = directory / "authorities.pem"
        bundle.write_bytes(vault.authority.read_bytes() + certificates().authority.read_bytes())
        settings = replace(
            settings,
            master_key=key,
            admin_password=scene.plant("admin password"),
            ca_bundle=bundle,
            secret_variables="SMTP_",
            retry_waits=(3600,),
        )
        scene.environment = _variables(settings) | {variable: scene.hidden["environment variable"]}
        server = _started(settings, scene.hidden["admin password"])
        try:
            _play(scene, server, vault, relay, variable)
            yield scene, directory
        finally:
            server.stop()
            del os.environ[variable]


def _own_role(cluster, settings: Settings, scene: Scene) -> str:
    role, password = scene.name("database user").lower(), scene.plant("database password")
    scene.personal["database user"] = role
    name = settings.database_url.rpartition("/")[2]
    cluster.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{password}'")
    return f"postgresql://{role}:{password}@127.0.0.1:{cluster.port}/{name}"


def _variables(settings: Settings) -> dict[str, str]:
    given = {
        "DATA_DIR": settings.data_dir,
        "DATABASE_URL": settings.database_url or "",
        "MASTER_KEY": settings.master_key,
        "ADMIN_PASSWORD": settings.admin_password,
        "CA_BUNDLE": settings.ca_bundle,
        "SECRET_VARIABLES": settings.secret_variables,
        "NAME_SERVERS": "none",
        "PORT": "0",
    }
    return {f"KEYRELAY_{name}": str(value) for name, value in given.items()}


def _started(settings: Settings, password: str) -> LiveServer:
    made = LiveServer.start(settings)
    made.client.auth = ("admin", password)
    made.auth = ("admin", password)
    return made


def _play(scene: Scene, server: LiveServer, vault: SimpleVault, relay, variable: str) -> None:
    scene.hidden["token of the vault"] = vault.token
    vault.secrets["mail/smtp"] = scene.plant("secret in the vault")
    inside = pam_kit.provider(server, scene.name("provider"))
    pam_kit.entry(server, inside, "smtp-pass", scene.plant("local entry"))
    outside = pam_kit.provider(server, "Vault", TYPE, vault.values)
    around = pam_kit.provider(server, "Around", "Environment")
    server.add_user(scene.name("user").lower(), scene.plant("password of a user"))
    headers = [{"Name": "X-Key", "Value": scene.plant("value of a header")}]
    oauth = {
        "Host": "localhost",
        "Port": relay.port,
        "RelayAuthenticationType": 3,
        "UseSSL": True,
        "SenderAccount": "pki@example.org",
        "SenderName": "PKI",
        "ClientId": {"SecretValue": scene.name("client id")},
        "ClientSecret": {"SecretValue": scene.plant("client secret")},
        "TokenEndpoint": f"https://login.example.org/{scene.plant('path of a token endpoint')}/token?x=y",
        "Scope": scene.name("scope"),
        "Audience": scene.name("audience"),
        "RequestHeaders": headers,
    }
    server.put_v2(oauth).raise_for_status()
    fetched = {"Provider": around, "Parameters": {"Variable": variable}}
    basic = BASIC | {"Host": "localhost", "Port": relay.port, "RelayPassword": fetched}
    server.put_v2(basic | {"SenderName": scene.name("sender name")}).raise_for_status()
    stored = {"SecretValue": scene.plant("stored password")}
    server.put_v2(basic | {"RelayPassword": stored, "RelayUsername": {"SecretValue": scene.name("user name")}})
    _wait_for_refusal(scene, server)
    vaulted = {"Provider": outside, "Parameters": {"Secret": "mail/smtp", "Key": "value"}}
    sender = f"{scene.name('sender account')}@example.org"
    named = {"SecretValue": scene.name("another user name")}
    last = basic | {"RelayPassword": vaulted, "RelayUsername": named, "SenderAccount": sender}
    server.put_v2(last).raise_for_status()
    hostile_words = f"550 5.7.1 {scene.plant('words of a relay')}"
    with running(replies={"body": hostile_words}) as hostile:
        server.put_v2(_anonymous(hostile.port)).raise_for_status()
        _hand_in(scene, server, "second")
        _until(lambda: server.run(lambda node: node.store.rows("SELECT 1 FROM attempt WHERE said LIKE '%550%'")))
    server.put_v2(last).raise_for_status()


def _anonymous(port: int) -> dict[str, object]:
    return {"Host": "localhost", "Port": port, "SenderAccount": "pki@example.org", "SenderName": "PKI"}


def _wait_for_refusal(scene: Scene, server: LiveServer) -> None:
    """The relay has had the stored password, and said it back."""
    _hand_in(scene, server, "first")
    _until(lambda: server.run(lambda node: node.store.rows("SELECT 1 FROM outbox WHERE pressure LIKE '%sign_in%'")))


def _hand_in(scene: Scene, server: LiveServer, which: str) -> None:
    body = {
        "to": f"{scene.name(f'{which} recipient')}@example.org",
        "subject": scene.plant(f"{which} subject"),
        "text": scene.plant(f"{which} text"),
    }
    headers = {"idempotency-key": scene.plant(f"{which} idempotency key")}
    hand_in(server, body, headers=headers).raise_for_status()


def _until(reached) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_neither_command_tells_a_secret_and_the_bundle_tells_of_nobody(scene, tmp_path):
    planted, _ = scene
    printed, bundle = planted.seen(tmp_path)
    printed += run_keyrelay(planted.environment, "doctor", "--json").stdout.encode()
    assert len(planted.hidden) > 15
    assert leaks(planted.hidden, printed + bundle) == []
    assert leaks(planted.personal, bundle) == []
    assert {name: value for name, value in planted.personal.items() if value in printed.decode()} == {}
    assert b'"failure"' in bundle  # it has been looked at


BROKEN = ["DATABASE_URL", "MASTER_KEY", "PREVIOUS_MASTER_KEY", "ADMIN_PASSWORD", "TLS_KEY", "PROT", "HISTORY_SECRETS"]


def test_settings_that_are_wrong_are_told_without_their_values(scene, tmp_path):
    planted, _ = scene
    for name in BROKEN:
        secret = new_canary()
        address = f"postgresql://{secret}:x/{secret}@127.0.0.1:1/{secret}"
        for value in (secret, address) if name == "DATABASE_URL" else (secret,):
            printed, bundle = planted.seen(tmp_path, **{name: value})
            assert leaks({**planted.hidden, "wrong": secret}, printed + bundle) == [], (name, value)


def test_files_in_place_of_settings_are_told_without_what_stands_in_them(scene, tmp_path):
    planted, _ = scene
    for name in ("DATABASE_URL", "MASTER_KEY", "PREVIOUS_MASTER_KEY", "ADMIN_PASSWORD"):
        secret = new_canary()
        file = tmp_path / name
        file.write_text(secret)
        for value in (str(file), secret, f"/{secret}"):
            printed, bundle = planted.seen(tmp_path, **{name: "", f"{name}_FILE": value})
            assert leaks({**planted.hidden, "in the file": secret}, printed + bundle) == [], (name, value)
