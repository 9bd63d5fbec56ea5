import asyncio
import sys
import time

import pytest
from azure_double import CLIENT, CLIENT_SECRET, TENANT, VERSION, Azure
from double import Answered, Double, page, says
from loopback_only import cloudless, strays

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.backends import azure_key_vault
from keyrelay.pam.backends.azure_key_vault import AzureKeyVault, AzureKeyVaultServicePrincipal
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, PamContract, fetch, problem

__all__ = ["cloudless"]

VALUE = "geheim \u00e4\u20ac"


@pytest.fixture
def azure():
    return Azure()


@pytest.fixture
def vault(tmp_path, azure, cloudless):
    with Double(tmp_path, azure) as vault:
        yield vault


def principal(vault, **more):
    return {
        "KeyVaultUri": f"{vault.url}/",
        "AuthorityHost": vault.url,
        "TenantId": TENANT,
        "ClientId": CLIENT,
        "ClientSecret": SecretText(CLIENT_SECRET),
        **more,
    }


def rotation(azure):
    def rotate():
        azure.secrets["smtp-password"] = "neu"
        return "neu"

    return rotate


def principal_case(vault, azure):
    return Case(
        backend=AzureKeyVaultServicePrincipal(),
        means=vault.means(seconds=5.0),
        given=principal(vault),
        wanted={"SecretId": "smtp-password"},
        value=VALUE,
        missing={"SecretId": "no-such-secret"},
        refused=principal(vault, ClientSecret=SecretText("wrong~client~secret")),
        away=principal(vault, KeyVaultUri="https://127.0.0.1:1"),
        rotate=rotation(azure),
        handed_out=azure.tokens,
    )


@pytest.fixture
def chained(vault, azure, monkeypatch):
    """The default chain, which finds a service principal in the environment."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", vault.url)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", CLIENT_SECRET)
    return Case(
        backend=AzureKeyVault(),
        means=vault.means(seconds=10.0),
        given={"KeyVaultUri": vault.url, "AuthorityHost": "public"},
        wanted={"SecretId": "smtp-password"},
        value=VALUE,
        missing={"SecretId": "no-such-secret"},
        away={"KeyVaultUri": "https://127.0.0.1:1", "AuthorityHost": "public"},
        rotate=rotation(azure),
        handed_out=azure.tokens,
    )


class TestServicePrincipal(PamContract):
    @pytest.fixture
    def case(self, vault, azure):
        return principal_case(vault, azure)


class TestDefaultChain(PamContract):
    @pytest.fixture
    def case(self, chained):
        return chained


@pytest.fixture
def case(vault, azure):
    return principal_case(vault, azure)


def with_(case, **more):
    return Case(**{**{name: getattr(case, name) for name in case.__slots__}, **more})


def test_a_version_may_follow_the_name(case, vault):
    assert fetch(with_(case, wanted={"SecretId": f"smtp-password/{VERSION}"})).reveal() == VALUE
    assert vault.asked[-1].path == f"/secrets/smtp-password/{VERSION}"


def test_a_version_that_is_not_there_is_not_found(case):
    assert problem(with_(case, wanted={"SecretId": "smtp-password/0000"})).problem == "not_found"


@pytest.mark.parametrize(
    "name", ["a/b/c", "a_b", "a/../b", "/a", "a/", "a?x=1", "https://x.example/a", "a" * 128, "a\n", "\u00e4"]
)
def test_what_is_no_name_of_a_secret_is_refused_before_anybody_is_asked(case, vault, name):
    assert problem(with_(case, wanted={"SecretId": name})).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize("tenant", ["../x", "a/b", "a?b", "a b", "a\r\nb", "a#b", ""])
def test_what_is_no_tenant_is_refused_before_anybody_is_asked(case, vault, tenant):
    assert problem(with_(case, given={**case.given, "TenantId": tenant})).problem == "bad_parameter"
    assert vault.asked == []


def test_an_unknown_tenant_or_client_is_denied(case):
    for name in ("TenantId", "ClientId"):
        failed = problem(with_(case, given={**case.given, name: "11111111-2222-3333-4444-555555555555"}))
        assert failed.problem == "denied"
        assert "AADSTS" not in failed.detail
        assert "words of" not in failed.detail


@pytest.mark.parametrize(
    ("code", "words"),
    [("SecretDisabled", "disabled"), ("ForbiddenByFirewall", "firewall"), ("ForbiddenByRbac", "no role")],
)
def test_why_the_vault_forbids_is_told_in_our_words(case, azure, code, words):
    error = {"code": "Forbidden", "message": "theirs", "innererror": {"code": code}}
    azure.answers["vault"] = [says({"error": error}, 403)]
    failed = problem(case)
    assert failed.problem == "denied"
    assert words in failed.detail
    assert "theirs" not in failed.detail


@pytest.mark.parametrize(
    ("part", "answer", "expected"),
    [
        ("vault", page(), "bad_answer"),
        ("token", page(), "bad_answer"),
        ("vault", says([1]), "bad_answer"),
        ("vault", says({"id": "x"}), "not_found"),
        ("vault", says({"value": {}}), "bad_answer"),
        ("vault", Answered(302, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer"),
        ("token", Answered(307, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer"),
        ("vault", Answered(200, b"{", huge=100_000_000), "bad_answer"),
        ("token", Answered(200, b"{", huge=100_000_000), "bad_answer"),
        ("vault", page(403), "denied"),
        ("vault", says({"error": "x"}, 403), "denied"),
        ("vault", says({"error": {"code": "Throttled"}}, 429), "sealed"),
        ("token", says({}, 429), "sealed"),
        ("vault", says({}, 503), "sealed"),
        ("token", page(400), "denied"),
        ("token", page(503), "sealed"),
        ("vault", says({}, 500), "bad_answer"),
        ("vault", Answered(hang_up=True), "unreachable"),
        ("token", Answered(hang_up=True), "unreachable"),
        ("token", says({"token_type": "Bearer"}), "bad_answer"),
        ("token", says({"access_token": "a\r\nX-Injected: yes", "expires_in": 3599}), "bad_answer"),
    ],
)
def test_each_way_to_fail_has_its_word(case, azure, part, answer, expected):
    azure.answers[part] = [answer]
    assert problem(case).problem == expected
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize("part", ["vault", "token"])
def test_a_silent_one_is_left_in_time(case, azure, vault, part):
    azure.answers[part] = [Answered(wait=30.0)]
    began = time.monotonic()
    assert problem(with_(case, means=vault.means(seconds=0.5))).problem == "timeout"
    assert time.monotonic() - began < 10


def test_a_hundred_fetches_sign_in_once(case, azure):
    async def many():
        return await asyncio.gather(*(case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)))

    assert {found.reveal() for found in asyncio.run(many())} == {VALUE}
    assert azure.counted["token"] == 1


def test_a_kept_token_that_is_revoked_is_exchanged_once(case, azure):
    fetch(case)
    azure.revoked.update(azure.tokens)
    assert fetch(case).reveal() == VALUE
    assert azure.counted["token"] == 2
    azure.revoked.update(azure.tokens)
    azure.answers["vault"] = [says({}, 401), says({}, 401)]
    assert problem(case).problem == "denied"
    assert azure.counted["token"] == 3


def test_a_token_is_renewed_before_it_ends(case, azure):
    azure.life = 0
    fetch(case)
    fetch(case)
    assert azure.counted["token"] == 2


def test_providers_with_other_credentials_share_no_token(case, azure):
    fetch(case)
    assert problem(with_(case, given=case.refused)).problem == "denied"
    assert azure.counted == {"token": 2, "vault": 1}


def test_an_odd_lifetime_is_survived(case, azure):
    for azure.life in ("3599", None, -5):
        assert fetch(with_(case, backend=AzureKeyVaultServicePrincipal())).reveal() == VALUE


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1", "ftp://x", "https://u:p@127.0.0.1", "https://127.0.0.1/?a=b", "https://a b", "vault"]
)
def test_what_is_no_safe_uri_is_refused(case, vault, uri):
    for name in ("KeyVaultUri", "AuthorityHost"):
        assert problem(with_(case, given={**case.given, name: uri})).problem == "bad_parameter"
    assert vault.asked == []


# Which cloud


def clouds(monkeypatch, backend, given):
    """Where a token was asked for, and for what scope; nothing leaves the process."""
    asked = []

    async def ask(method, url, means, *, headers=(), body=None, context=None):
        asked.append((method, url, body.content.decode() if body else ""))
        said = b'{"access_token": "t", "expires_in": 3599, "value": "v"}'
        return HttpAnswer(200, {}, said, {})

    monkeypatch.setattr(azure_key_vault, "ask", ask)
    found = asyncio.run(backend.fetch({"SecretId": "a"}, given, azure_means()))
    assert found.reveal() == "v"
    return asked


def azure_means():
    from keyrelay.pam.backend import Means

    return Means(lambda: None, lambda: None, seconds=5.0)


@pytest.mark.parametrize(
    ("host", "vaults", "authority"),
    [
        ("public", "vault.azure.net", "https://login.microsoftonline.com"),
        ("China", "vault.azure.cn", "https://login.chinacloudapi.cn"),
        ("government", "vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
        ("https://login.microsoftonline.us/", "vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
        (None, "vault.azure.net", "https://login.microsoftonline.com"),
    ],
)
def test_a_token_is_asked_for_in_the_vaults_cloud(monkeypatch, cloudless, host, vaults, authority):
    given = {
        "KeyVaultUri": f"https://mine.{vaults}",
        "TenantId": TENANT,
        "ClientId": CLIENT,
        "ClientSecret": SecretText("s"),
        **({} if host is None else {"AuthorityHost": host}),
    }
    token, read = clouds(monkeypatch, AzureKeyVaultServicePrincipal(), given)
    assert token[:2] == ("POST", f"{authority}/{TENANT}/oauth2/v2.0/token")
    assert f"scope=https%3A%2F%2F{vaults}%2F.default" in token[2]
    assert read[:2] == ("GET", f"https://mine.{vaults}/secrets/a?api-version=7.4")


def test_the_variable_wins_over_the_parameter(monkeypatch, cloudless):
    given = {
        "KeyVaultUri": "https://mine.vault.azure.cn",
        "AuthorityHost": "public",
        "TenantId": TENANT,
        "ClientId": CLIENT,
        "ClientSecret": SecretText("s"),
    }
    for variable in ("login.chinacloudapi.cn", "https://login.chinacloudapi.cn/", "china"):
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", variable)
        token, _ = clouds(monkeypatch, AzureKeyVaultServicePrincipal(), given)
        assert token[1].startswith("https://login.chinacloudapi.cn/")


@pytest.mark.parametrize(
    "uri",
    [
        "https://vault.azure.net.other.example",
        "https://other.example",
        "https://mine.vault.azure.cn",
        "https://127.0.0.1",
    ],
)
def test_a_vault_outside_the_cloud_gets_no_token(case, vault, uri):
    given = {**case.given, "KeyVaultUri": uri, "AuthorityHost": "public"}
    failed = problem(with_(case, given=given))
    assert failed.problem == "bad_parameter"
    assert "vault.azure.net" in failed.detail
    assert vault.asked == []


def test_the_machines_own_credentials_go_to_no_authority_that_a_provider_names(chained, vault, monkeypatch):
    monkeypatch.delenv("AZURE_AUTHORITY_HOST")
    failed = problem(with_(chained, given={"KeyVaultUri": vault.url, "AuthorityHost": vault.url}))
    assert failed.problem == "bad_parameter"
    assert vault.asked == []


# The default chain


def test_the_chain_signs_in_once_for_a_hundred(chained, azure):
    async def many():
        asked = (chained.backend.fetch(chained.wanted, chained.given, chained.means) for _ in range(100))
        return await asyncio.gather(*asked)

    assert {found.reveal() for found in asyncio.run(many())} == {VALUE}
    assert azure.counted["token"] == 1


def test_the_chain_gives_a_new_token_for_one_that_is_refused(chained, azure):
    fetch(chained)
    azure.revoked.update(azure.tokens)
    assert fetch(chained).reveal() == VALUE
    assert azure.counted["token"] == 2


def test_an_identity_of_the_machine_is_used(chained, vault, azure, monkeypatch):
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "prod")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", vault.url)
    assert fetch(chained).reveal() == VALUE
    assert azure.counted["machine"] >= 1
    assert azure.counted["token"] == 0


def test_a_chain_with_nothing_in_it_is_denied(chained, monkeypatch):
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    failed = problem(chained)
    assert failed.problem == "denied"
    assert "chain" in failed.detail


def test_a_wrong_secret_in_the_environment_is_denied_and_never_told(chained, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong~secret~canary")
    assert problem(chained).problem == "denied"
    assert "wrong~secret~canary" not in caplog.text


def test_neither_the_machines_secret_nor_its_token_is_logged(chained, azure, caplog):
    caplog.set_level("DEBUG")
    fetch(chained)
    assert CLIENT_SECRET not in caplog.text
    assert not any(token in caplog.text for token in azure.tokens)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answered(hang_up=True), "unreachable"),
        (page(503), "sealed"),
        (Answered(200, b"{", huge=100_000_000), "bad_answer"),
        (Answered(302, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer"),
        (page(), "denied"),
    ],
)
def test_an_authority_of_the_chain_that_fails_has_its_word(chained, azure, answer, expected):
    azure.answers["token"] = [answer]
    assert problem(chained).problem == expected
    assert fetch(chained).reveal() == VALUE


def test_an_authority_of_the_chain_that_is_silent_is_left_in_time(chained, azure, vault):
    azure.answers["token"] = [Answered(wait=30.0)]
    assert problem(with_(chained, means=vault.means(seconds=1.0))).problem == "timeout"


def test_without_the_extra_its_command_is_told(chained, monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    failed = problem(chained)
    assert (failed.problem, failed.detail) == ("extra_missing", "pip install keyrelay[azure]")


def test_the_service_principal_needs_no_extra(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    assert fetch(case).reveal() == VALUE


def test_the_fence_sees_a_chain_that_looks_for_a_metadata_service(chained, monkeypatch):
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "prod")
    with strays() as seen:
        assert problem(chained).problem == "denied"
    assert any("169.254.169.254" in one for one in seen)
