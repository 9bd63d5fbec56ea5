"""No redirect is followed by a request that carries a secret: one test for each caller, and one for those to come.

The server that is asked points elsewhere with every kind of redirect; elsewhere somebody writes down what arrives.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import json
from pathlib import Path

import pytest
from aws_double import REGION
from double import Answered, Double
from gcp_double import PROJECT, account, write
from loopback_only import cloudless

from canary import new_canary
from keyrelay.network.exchange import HttpRequest, exchange
from keyrelay.pam.backends.akeyless import Akeyless
from keyrelay.pam.backends.aws import AwsSecrets
from keyrelay.pam.backends.azure_key_vault import AzureKeyVaultServicePrincipal
from keyrelay.pam.backends.beyondtrust import BeyondTrustPasswordSafe
from keyrelay.pam.backends.cyberark_ccp import CyberArkCentralCredentialProvider
from keyrelay.pam.backends.delinea import DelineaSecretServer
from keyrelay.pam.backends.gcp import GcpSecrets
from keyrelay.pam.backends.hashicorp_vault import HashicorpVault, HashicorpVaultAppRole, HashicorpVaultKubernetes
from keyrelay.relay.model import StageFailed
from keyrelay.relay.token import TokenRequest, Tokens
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, problem

__all__ = ["cloudless"]

SOURCES = Path(__file__).parents[2] / "src" / "keyrelay"
CANARY = new_canary()
SECRET = SecretText(CANARY)
VAULT = {"Secret": "mail/smtp", "Key": "password"}


def hashicorp(url, directory):
    return HashicorpVault(), {"Host": url, "Token": SECRET, "Path": "v1/secret/data"}, VAULT


def app_role(url, directory):
    given = {"Host": url, "RoleId": "role", "SecretId": SECRET, "AuthPath": "approle", "Path": "v1/secret/data"}
    return HashicorpVaultAppRole(), given, VAULT


def kubernetes(url, directory):
    parts = ({"alg": "RS256"}, {"sub": "system:serviceaccount:mail:keyrelay"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    (directory / "token").write_text(".".join([*encoded, CANARY]))
    given = {"Host": url, "Role": "r", "TokenFile": "token", "AuthPath": "kubernetes", "Path": "v1/secret/data"}
    return HashicorpVaultKubernetes(), given, VAULT


def cyberark(url, directory):
    given = {"AppId": CANARY, "Host": url.removeprefix("https://"), "Site": "AIMWebService"}
    return CyberArkCentralCredentialProvider(), given, {"Safe": "s", "Folder": "Root", "Object": "o"}


def delinea(url, directory):
    wanted = {"SecretId": "7", "SecretFieldName": "password"}
    return DelineaSecretServer(), {"Host": url, "Username": SecretText("u"), "Password": SECRET}, wanted


def azure(url, directory):
    given = {"KeyVaultUri": url, "AuthorityHost": url, "TenantId": "t", "ClientId": "c", "ClientSecret": SECRET}
    return AzureKeyVaultServicePrincipal(), given, {"SecretId": "smtp"}


def akeyless(url, directory):
    given = {"Url": url, "AccessId": SecretText("p-1"), "AccessKey": SECRET, "AuthType": "access_key"}
    return Akeyless(), given, {"SecretName": "smtp", "SecretType": "static_text"}


def beyondtrust(url, directory):
    return (
        BeyondTrustPasswordSafe(),
        {"Host": url, "APIKey": SECRET, "Username": "u"},
        {"SystemId": "1", "AccountId": "2"},
    )


def aws(url, directory):
    given = {"Region": REGION, "AccessKeyId": SecretText("AKIA"), "SecretAccessKey": SECRET, "Endpoint": url}
    return AwsSecrets(), given, {"SecretId": "smtp"}


def gcp(url, directory):
    return GcpSecrets(url), {"projectId": PROJECT}, {"secretId": "smtp"}


VAULTS = [hashicorp, app_role, kubernetes, cyberark, delinea, azure, akeyless, beyondtrust, aws, gcp]


@pytest.fixture
def elsewhere(tmp_path):
    with Double(tmp_path, lambda _: Answered(200, b"{}")) as server:
        yield server


@pytest.fixture(params=[301, 302, 303, 307, 308])
def pointing(request, tmp_path, elsewhere, cloudless):
    """A server that points elsewhere."""
    where = f"{elsewhere.url}/caught"
    with Double(tmp_path, lambda _: Answered(request.param, b"", {"location": where})) as server:
        yield server


@pytest.mark.parametrize("made", VAULTS, ids=lambda made: made.__name__)
def test_no_vault_can_send_a_secret_on(made, pointing, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", write(tmp_path / "account.json", account(pointing.url)))
    backend, given, wanted = made(pointing.url, tmp_path)
    means = pointing.means(seconds=10.0, secret_files=tmp_path)
    failure = problem(Case(backend=backend, means=means, given=given, wanted=wanted, value="", missing={}))
    assert failure.problem == "bad_answer"
    assert CANARY not in str(failure.detail)
    assert len(pointing.asked) == 1
    assert elsewhere.asked == []


@pytest.mark.parametrize("way", ["client_secret_post", "client_secret_basic"])
def test_no_token_endpoint_can_send_a_client_secret_on(way, pointing, elsewhere):
    async def main():
        tokens = Tokens(pointing.means().trust)
        request = TokenRequest(f"{pointing.url}/token", SecretText("c"), SECRET, None, None, (), way)
        with pytest.raises(StageFailed) as raised:
            await tokens.token(request)
        assert raised.value.evidence.kind == "redirected"
        await tokens.close()

    asyncio.run(main())
    assert len(pointing.asked) == 1
    assert elsewhere.asked == []


def test_nothing_that_asks_over_http_is_sent_on(pointing, elsewhere):
    """Whatever else asks: it has to go through this."""
    asked = HttpRequest("POST", pointing.url, (("authorization", CANARY),), CANARY.encode())
    answer = asyncio.run(exchange(asked, pointing.means().trust(), within=5, limit=1000))
    assert 300 < answer.status < 400
    assert elsewhere.asked == []


def test_nobody_asks_over_http_but_through_the_one_place_for_it():
    """A library that signs in is given a transport of ours; that of traces follows none either (test_traces.py)."""
    asking = {"httpx2", "httpx", "aiohttp", "requests", "urllib3", "urllib.request", "http.client"}
    found = {
        (str(module.relative_to(SOURCES)), name)
        for module in SOURCES.rglob("*.py")
        for name in imported(ast.parse(module.read_text(encoding="utf-8")))
        if name in asking
    }
    assert found == {("network/exchange.py", "httpx2"), ("otlp.py", "requests")}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
