"""The servers around a demo give their secrets to those alone who prove themselves, and leave them nowhere."""

from __future__ import annotations

import asyncio
import base64
import io
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from canary import leaks, new_canary
from keyrelay.chaos.certificates import Certificates
from keyrelay.demo import start, token_server, vault
from keyrelay.demo.credentials import CLIENT_ID, SCOPE, Credentials
from keyrelay.demo.local_http import HOST, free_socket, port_of, serving
from keyrelay.demo.signing import Signer
from keyrelay.secrets.model import SecretText

PROVEN = {"grant_type": "client_credentials", "client_id": CLIENT_ID}


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("https://issuer.test")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def asked(application, certificates, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx2.Response]:
    """The answers of one of the servers, over TLS on a real socket."""

    async def run() -> list[httpx2.Response]:
        listener = free_socket()
        url = f"https://{HOST}:{port_of(listener)}"
        trust = ssl.create_default_context(cafile=certificates.authority)
        async with (
            serving(application, listener, certificates.server_context()),
            httpx2.AsyncClient(base_url=url, verify=trust) as client,
        ):
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(run())


def test_a_token_is_for_the_client_that_proves_itself_in_either_way(credentials, signer, certificates):
    secret = credentials.client_secret.reveal()
    pair = base64.b64encode(f"{CLIENT_ID}:{secret}".encode()).decode()
    posts = [
        {"data": PROVEN | {"client_secret": secret}},
        {"data": PROVEN | {"scope": SCOPE}, "headers": {"authorization": f"Basic {pair}"}},
        {"data": PROVEN | {"client_secret": secret + "x"}},
        {"data": PROVEN},
        {"data": PROVEN | {"client_id": "other", "client_secret": secret}},
        {"data": PROVEN, "headers": {"authorization": "Basic !!!"}},
        {"data": PROVEN | {"client_secret": secret, "grant_type": "password"}},
        {"data": PROVEN | {"client_secret": secret, "scope": "everything"}},
        {"content": b"\xff" * 100_000},
    ]
    application = token_server.application(credentials, signer)
    answers = asked(application, certificates, *(("POST", token_server.PATH, more) for more in posts))
    assert [answer.status_code for answer in answers] == [200, 200, 401, 401, 401, 401, 400, 400, 401]
    token = answers[0].json()["access_token"]
    assert signer.has_signed(token, SCOPE)
    assert not signer.has_signed(token, "another")
    assert not Signer("https://issuer.test").has_signed(token, SCOPE)
    for nonsense in ("", "x", "a.b.c", token[:-10], "\ud800"):
        assert not signer.has_signed(nonsense, SCOPE)


def test_the_vault_opens_for_its_token_alone(credentials, certificates):
    right = {"headers": {"x-vault-token": credentials.vault_token.reveal()}}
    wrong = {"headers": {"x-vault-token": "wrong"}}
    where = f"/{vault.ENGINE}/{vault.SECRET}"
    look_up = "/v1/auth/token/lookup-self"
    answers = asked(
        vault.application(credentials),
        certificates,
        *(("GET", path, more) for path in (where, look_up) for more in (right, wrong, {})),
        ("GET", f"/{vault.ENGINE}/other", right),
    )
    assert [answer.status_code for answer in answers] == [200, 403, 403, 200, 403, 403, 404]
    assert answers[0].json()["data"]["data"]["client-secret"] == credentials.client_secret.reveal()
    secret = credentials.client_secret.reveal()
    assert not any(secret in answer.text for answer in answers[1:])


@pytest.mark.long
def test_no_secret_of_a_demo_is_in_its_files_or_in_what_is_logged(tmp_path, monkeypatch):
    planted = {name: new_canary() for name in ("mailer", "client", "vault", "auditor", "helpdesk")}
    given = Credentials(
        SecretText(planted["mailer"]),
        SecretText(planted["client"]),
        SecretText(planted["vault"]),
        {name: SecretText(planted[name]) for name in ("auditor", "helpdesk")},
    )
    monkeypatch.setattr(start, "Credentials", lambda: given)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logged = io.StringIO()
    monkeypatch.setattr(sys, "stderr", logged)

    async def run() -> dict[str, bytes]:
        async with start.started(0, None) as running:
            planted["admin"] = running.passwords["admin"].reveal()
            admin = httpx2.BasicAuth("admin", planted["admin"])
            async with httpx2.AsyncClient(base_url=running.url, auth=admin, timeout=30) as client:
                tested = await client.post("/api/v1/diagnoses", json={"recipient": "ops@example.org"})
                assert tested.json()["verdict"] == "ok"  # so the secrets have been where they are needed
            return contents(tmp_path)

    files = asyncio.run(run())
    assert {Path(name).name for name in files} >= {"keyrelay.db", "server.log", "authority.pem"}
    files["what was logged"] = logged.getvalue().encode()
    assert {name: found for name, content in files.items() if (found := leaks(planted, content))} == {}
    assert list(tmp_path.iterdir()) == []


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}
