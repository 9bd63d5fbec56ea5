"""HashiCorp Vault and OpenBao: a double that checks every request, and a real server where one is named."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from broken_answers import BROKEN, HUGE
from double import Answered, page, says
from real_vault import RealVault, is_there
from vault_cases import of_app_role, of_kubernetes, of_token
from vault_double import ROOT, Issued, VaultDouble, refused, whole

from canary import new_canary
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, PamContract, fetch, problem

CASES = ["token, KV v2", "token, KV v1 in a namespace", "AppRole", "Kubernetes"]
REAL = ["real, token, KV v2", "real, token, KV v1", "real, AppRole"] if is_there() else []


class TestHashicorpVault(PamContract):
    @pytest.fixture(params=[*CASES, *REAL])
    def case(self, request, tmp_path) -> Iterator[Case]:
        with real(request.param) if request.param in REAL else doubled(request.param, tmp_path) as case:
            yield case


@contextmanager
def doubled(which: str, directory) -> Iterator[Case]:
    with VaultDouble(directory, namespace="teams/mail" if "namespace" in which else None) as vault:
        value = new_canary()
        for mount in ("secret", "kv"):
            vault.put(f"{mount}/mail/smtp relay", {"password": value, "port": 25})
        case = {"AppRole": of_app_role, "Kubernetes": of_kubernetes}.get(which, of_token)(
            vault,
            value=value,
            Path="v1/kv" if "v1" in which else "v1/secret/data",
            **({"Namespace": vault.namespace} if vault.namespace else {}),
        )

        def rotate() -> str:
            for mount in ("secret", "kv"):
                vault.put(f"{mount}/mail/smtp relay", {"password": "a new one"})
            return "a new one"

        yield replace(case, rotate=rotate, handed_out=vault.issued)


@contextmanager
def real(which: str) -> Iterator[Case]:
    with RealVault() as vault:
        value = new_canary()
        vault.put("mail/smtp%20relay", {"password": value, "port": 25})
        vault.put("mail/nothing", {"password": value})
        vault.delete("mail/nothing")
        path = f"v1/{vault.plain}" if which.endswith("v1") else f"v1/{vault.versioned}/data"
        more = {"Path": path} | ({"Namespace": vault.namespace} if vault.namespace else {})
        if which.endswith("AppRole"):
            more |= {"RoleId": vault.role_id, "SecretId": SecretText(vault.secret_id), "AuthPath": vault.app_role}
            case = of_app_role(vault, value, **more)
        else:
            case = of_token(vault, value, Token=SecretText(vault.token), **more)

        def rotate() -> str:
            vault.put("mail/smtp%20relay", {"password": "a new one"})
            return "a new one"

        # Where versions are kept, one that was deleted is missing too.
        missing = {"Secret": "mail/never" if which.endswith("v1") else "mail/nothing", "Key": "password"}
        yield replace(case, missing=missing, rotate=rotate)


if REAL:

    def test_a_real_server_gives_a_new_token_for_one_that_it_has_revoked():
        with RealVault() as vault:
            vault.put("smtp", {"password": "of a real server"})
            more = {"RoleId": vault.role_id, "SecretId": SecretText(vault.secret_id), "AuthPath": vault.app_role}
            more |= {"Namespace": vault.namespace} if vault.namespace else {}
            case = replace(
                of_app_role(vault, "of a real server", Path=f"v1/{vault.versioned}/data", **more),
                wanted={"Secret": "smtp", "Key": "password"},
            )
            assert fetch(case).reveal() == case.value
            vault.revoke()
            assert fetch(case).reveal() == case.value


@pytest.fixture
def vault(tmp_path) -> Iterator[VaultDouble]:
    with VaultDouble(tmp_path) as vault:
        vault.put("secret/mail/smtp relay", {"password": "Zx9-ordinary-Qk7"})
        vault.put("kv/mail/smtp relay", {"password": "Zx9-ordinary-Qk7"})
        yield vault


@pytest.mark.parametrize("make", [of_token, of_app_role])
@pytest.mark.parametrize("host", ["/", "/v1/", "/ui/vault"])
def test_the_path_takes_the_place_of_any_path_in_the_host(vault, host, make):
    case = make(vault, Host=vault.url + host)
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert vault.asked("/secret/")[0].target == "/v1/secret/data/mail/smtp%20relay"


def test_what_a_proxy_wants_before_the_api_stands_before_the_sign_in_too(vault):
    vault.trouble = refused(503)
    assert problem(of_app_role(vault, Path="/behind/proxy/v1/secret/data/")).problem == "sealed"
    assert vault.asked()[0].target == "/behind/proxy/v1/auth/approle/login"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("secret/data", "begin with v1"),
        ("v1/auth/token", "no KV engine"),
        ("v1/sys", "no KV engine"),
        ("v1/identity/oidc", "no KV engine"),
        ("v1/cubbyhole", "no KV engine"),
        ("v1/../v1/secret/data", "part of a path"),
        ("https://elsewhere.example/v1/secret", "part of a path"),
        ("v1/secret/data\r\nX-Injected: yes", "part of a path"),
    ],
)
def test_a_path_that_leads_to_no_kv_engine_is_not_asked_for(vault, path, why):
    failure = problem(of_token(vault, Path=path))
    assert failure.problem == "bad_parameter"
    assert why in failure.detail
    assert vault.asked() == []


def test_the_token_itself_cannot_be_fetched_as_a_secret(vault):
    case = replace(of_token(vault, Path="v1"), wanted={"Secret": "auth/token/lookup-self", "Key": "id"})
    assert problem(case).problem == "bad_parameter"


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("v1/team", "auth/token/lookup-self"),
        ("v1/team/auth", "token/lookup-self"),
        ("v1/team/mail/auth/token", "lookup-self"),
        ("v1/data", "auth/token/lookup-self"),
    ],
)
def test_the_token_itself_cannot_be_fetched_from_a_namespace_in_the_path(vault, path, secret):
    """By a vault that does not say what is mounted there."""
    told = whole({"id": ROOT, "meta": None, "policies": ["root"], "ttl": 0})
    vault.trouble = says({name: value for name, value in json.loads(told.body).items() if name != "mount_type"})
    case = replace(of_token(vault, Path=path), wanted={"Secret": secret, "Key": "id"})
    assert problem(case).problem == "bad_parameter"


@pytest.mark.parametrize("path", ["v1/secret/data", "v1/kv"])
@pytest.mark.parametrize("name", ["auth/smtp", "mail/sys/smtp", "mail/identity"])
def test_a_secret_may_be_called_like_what_is_no_kv_engine(vault, path, name):
    vault.put(f"{path.split('/')[1]}/{name}", {"password": "Zx9-ordinary-Qk7"})
    case = replace(of_token(vault, Path=path), wanted={"Secret": name, "Key": "password"})
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"


def test_a_huge_answer_takes_little_memory(vault):
    """The vault itself, in this process too, sends it in small pieces."""
    case = of_token(vault)
    fetch(case)
    vault.trouble = Answered(200, b'"', huge=HUGE)
    tracemalloc.start()
    try:
        assert problem(case).problem == "bad_answer"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10_000_000


def test_leased_credentials_are_not_taken_for_a_secret(vault):
    case = replace(of_token(vault, Path="v1/database"), wanted={"Secret": "creds/mail", "Key": "password"})
    assert problem(case).problem == "bad_parameter"


def test_another_engine_is_not_taken_for_a_kv_engine(vault):
    vault.trouble = says({"data": {"password": "x"}, "lease_id": "", "mount_type": "totp"})
    assert problem(of_token(vault)).problem == "bad_parameter"


@pytest.mark.parametrize("host", ["vault.example.org", "ftp://vault.example.org", "https://user@vault.example.org", ""])
def test_a_host_that_is_no_url_is_told(vault, host):
    assert problem(of_token(vault, Host=host)).problem == "bad_parameter"


def test_a_token_is_not_sent_without_tls_unless_that_is_allowed(vault):
    assert problem(of_token(vault, Host="http://127.0.0.1:1")).problem == "bad_parameter"
    allowed = replace(of_token(vault, Host="http://127.0.0.1:1"), means=vault.means(allow_plain_http=True))
    assert problem(allowed).problem == "unreachable"


def test_the_value_of_a_key_may_be_a_number_or_a_truth_value(vault):
    vault.put("secret/other", {"port": 587, "tls": True, "nothing": None, "deep": {"a": "b"}})

    def of(key):
        return replace(of_token(vault), wanted={"Secret": "other", "Key": key})

    assert [fetch(of(key)).reveal() for key in ("port", "tls")] == ["587", "true"]
    assert [problem(of(key)).problem for key in ("nothing", "deep")] == ["not_found", "bad_answer"]


def test_a_secret_of_version_1_may_have_members_that_are_called_like_those_of_version_2(vault):
    vault.put("kv/odd", {"data": "of the user", "metadata": {"owner": "mail"}})
    vault.put("kv/deep", {"data": {"password": "inside"}, "metadata": {"owner": "mail"}, "password": "outside"})

    def of(name, key):
        return fetch(replace(of_token(vault, Path="v1/kv"), wanted={"Secret": name, "Key": key})).reveal()

    assert of("odd", "data") == "of the user"
    assert of("deep", "password") == "outside"


def test_a_secret_of_version_2_may_have_members_that_are_called_like_those_of_version_1(vault):
    vault.put("secret/odd", {"data": "inner", "metadata": "also inner"})
    assert fetch(replace(of_token(vault), wanted={"Secret": "odd", "Key": "data"})).reveal() == "inner"


@pytest.mark.parametrize(
    ("path", "name", "key", "told"),
    [
        ("v1/secret/data", "never", "password", "there is no such secret"),
        ("v1/kv", "never", "password", "there is no such secret"),
        ("v1/secret/data", "deleted", "password", "the newest version of the secret is deleted"),
        ("v1/secret/data", "destroyed", "password", "the newest version of the secret is destroyed"),
        ("v1/secret/data", "mail/smtp relay", "user", "the secret has no such key"),
        ("v1/nowhere", "smtp", "password", "no KV engine is there; Path may be wrong"),
        (
            "v1/secret",
            "mail/smtp relay",
            "password",
            "there is no such secret; Path of a KV engine of version 2 must end with data",
        ),
    ],
)
def test_what_is_not_there_is_told_apart(vault, path, name, key, told):
    vault.put("secret/deleted", None)
    vault.put("secret/destroyed", None, destroyed=True)
    vault.tokens[ROOT] = Issued(rights=("secret", "kv", "nowhere"))
    failure = problem(replace(of_token(vault, Path=path), wanted={"Secret": name, "Key": key}))
    assert (failure.problem, failure.detail) == ("not_found", told)


def test_a_page_with_status_404_is_no_answer_of_a_vault(vault):
    vault.trouble = page(404)
    assert problem(of_app_role(vault)).problem == "bad_parameter"
    vault.trouble = None
    case = of_app_role(vault)
    fetch(case)
    vault.trouble = page(404)
    assert problem(case).problem == "bad_answer"


@pytest.mark.parametrize(
    ("status", "errors", "expected", "word"),
    [
        (503, ["Vault is sealed"], "sealed", "sealed"),
        (503, ["no active Vault instance found"], "sealed", "maintenance"),
        (429, ["request path: rate limit quota exceeded"], "sealed", "quota"),
        (472, [], "sealed", "disaster recovery"),
        (473, [], "sealed", "performance standby"),
        (412, ["required index state not present"], "sealed", "caught up"),
        (500, ["local node not active but active cluster node not found"], "sealed", "no active node"),
        (501, [], "sealed", "initialised"),
        (502, [], "sealed", "another service"),
        (403, ["1 error occurred:\n\t* permission denied\n\n"], "denied", "right"),
        (403, ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"], "denied", "valid"),
        (401, [], "denied", "401"),
        (405, ["unsupported operation"], "bad_parameter", "cannot be read"),
        (400, ["missing client token"], "bad_parameter", "400"),
        (418, [], "bad_answer", "418"),
    ],
)
def test_what_the_product_documents_is_told_apart(vault, status, errors, expected, word):
    case = of_token(vault)
    fetch(case)
    vault.trouble = refused(status, *errors)
    failure = problem(case)
    assert failure.problem == expected
    assert word in failure.detail
    assert not any(error in failure.detail for error in errors)


HALF_AN_ANSWER = {
    "no body": Answered(204),
    "no object": Answered(200, b"[" * 5000),
    "no data": says({"data": None}),
    "data of another kind": says({"data": ["password"]}),
}


@pytest.mark.parametrize("which", [*BROKEN, *HALF_AN_ANSWER])
@pytest.mark.parametrize("while_signing_in", [True, False])
def test_an_answer_that_is_none(vault, which, while_signing_in):
    case = of_app_role(vault)
    if not while_signing_in:
        fetch(case)
    vault.trouble, expected = BROKEN[which] if which in BROKEN else (HALF_AN_ANSWER[which], "bad_answer")
    assert problem(replace(case, means=replace(case.means, seconds=1.0))).problem == expected


def test_a_version_without_a_value_is_deleted(vault):
    case = of_token(vault)
    fetch(case)
    vault.trouble = says({"data": {"data": None, "metadata": {"version": 1, "created_time": ""}}})
    assert problem(case).problem == "not_found"
