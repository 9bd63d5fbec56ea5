"""``POST /api/v1/pam-providers/{id}/try``: what it says of a vault, and that it never says what is in there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pam_kit
import pytest

from canary import leaks, new_canary
from complaints import complaint
from live import LiveServer
from pam.double import Answered, page, says
from vaulting import TYPE, SimpleVault

WANTED = {"Secret": "mail/smtp", "Key": "value"}
KEYS = ["provider", "type", "verdict", "milliseconds", "sentence", "detail", "remedy"]


def path(number: int | str) -> str:
    return f"/api/v1/pam-providers/{number}/try"


@pytest.fixture
def vault(tmp_path) -> Iterator[SimpleVault]:
    with SimpleVault(tmp_path) as vault:
        vault.secrets["mail/smtp"] = new_canary()
        yield vault


@pytest.fixture
def trusting(sqlite_settings, vault, start) -> LiveServer:
    """A server that trusts the vault, and has a second for it."""
    return start(replace(sqlite_settings, ca_bundle=vault.authority, pam_seconds=1))


@pytest.fixture
def number(trusting, vault) -> int:
    return pam_kit.provider(trusting, "Vault", TYPE, vault.values)


def tried(server: LiveServer, number: int, parameters: dict[str, Any] | None = WANTED) -> dict[str, Any]:
    answer = server.post(path(number), json={"parameters": parameters})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert list(document) == KEYS
    assert document["milliseconds"] >= 0
    assert document["sentence"].endswith(".")
    assert (document["remedy"] is None) == (document["verdict"] == "found")
    return document


def refused(server: LiveServer, number: int | str, status: int, code: str, **more: Any) -> httpx2.Response:
    answer = server.post(path(number), **more)
    complaint(answer, status)
    assert answer.json()["code"] == code
    return answer


# --- Verdicts ------------------------------------------------------------------------------------------------


def test_a_secret_that_is_there_is_found_and_not_shown(trusting, vault, number):
    document = tried(trusting, number)
    assert (document["verdict"], document["detail"]) == ("found", None)
    assert (document["provider"], document["type"]) == (number, TYPE)
    assert [asked.path for asked in vault.asked][-1] == "/v1/secret/data/mail/smtp"


@pytest.mark.parametrize(
    ("parameters", "verdict", "detail"),
    [
        ({"Secret": "mail/none", "Key": "value"}, "not_found", "there is no such secret"),
        ({"Secret": "mail/smtp", "Key": "other"}, "not_found", "the secret has no such key"),
        ({"Secret": "mail/smtp"}, "parameter_missing", "Key has no value"),
        ({"secret": "mail/smtp", "Key": "value"}, "parameter_missing", "Secret has no value"),
        ({"Secret": "", "Key": "value"}, "parameter_missing", "Secret has no value"),
        ({}, "parameter_missing", "Secret has no value"),
        (None, "parameter_missing", "Secret has no value"),
        ({"Secret": "../../sys/health", "Key": "value"}, "bad_parameter", "Secret cannot be part of a path"),
        ({"Secret": "x" * 5000, "Key": "value"}, "bad_parameter", "Secret has more than 4096 characters"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_parameters_is_told(trusting, number, parameters, verdict, detail):
    document = tried(trusting, number, parameters)
    assert (document["verdict"], document["detail"]) == (verdict, detail)


@pytest.mark.parametrize(
    ("trouble", "verdict"),
    [
        (says({"errors": ["1 error occurred: permission denied"]}, 403), "denied"),
        (says({"errors": ["Vault is sealed"]}, 503), "sealed"),
        (page(), "bad_answer"),
        (Answered(302, headers={"location": "https://127.0.0.1:1/"}), "bad_answer"),
        (Answered(200, b"{}", huge=100 * 1024 * 1024), "bad_answer"),
        (Answered(200, b"{}", wait=20), "timeout"),
        (Answered(hang_up=True), "unreachable"),
    ],
    ids=["denied", "sealed", "HTML", "redirect", "100 MB", "slow", "hangs up"],
)
def test_what_is_wrong_with_the_vault_is_told(trusting, vault, number, trouble, verdict):
    vault.trouble = trouble
    document = tried(trusting, number)
    assert document["verdict"] == verdict
    vault.trouble = None
    assert tried(trusting, number)["verdict"] == "found"  # it is asked anew each time


def test_a_vault_where_nobody_listens_is_unreachable(trusting, vault):
    number = pam_kit.provider(trusting, "Away", TYPE, vault.values | {"Host": "https://127.0.0.1:1"})
    assert tried(trusting, number)["verdict"] == "unreachable"


def test_a_vault_whose_certificate_nobody_vouches_for_is_unreachable(sqlite_server, vault):
    number = pam_kit.provider(sqlite_server, "Vault", TYPE, vault.values)
    assert tried(sqlite_server, number)["verdict"] == "unreachable"
    assert vault.asked == []


def test_wrong_credentials_of_the_provider_are_denied(trusting, vault):
    number = pam_kit.provider(trusting, "Vault", TYPE, vault.values | {"Token": new_canary()})
    assert tried(trusting, number)["verdict"] == "denied"


def test_a_provider_that_keyrelay_cannot_ask_is_told(trusting):
    body = pam_kit.body(trusting, "Far", TYPE) | {"Remote": True}
    number = trusting.post(pam_kit.PROVIDERS, json=body).raise_for_status().json()["Id"]
    assert tried(trusting, number)["verdict"] == "bad_parameter"


def test_an_entry_of_our_own_is_found_on_every_database(server):
    number = pam_kit.provider(server)
    pam_kit.entry(server, number, "smtp")
    assert tried(server, number, {"SecretName": "smtp"})["verdict"] == "found"
    assert tried(server, number, {"SecretName": "imap"})["verdict"] == "not_found"


def test_a_value_that_no_password_may_be_is_found_with_a_remark(trusting, vault, number):
    vault.secrets["mail/smtp"] += "\n"
    document = tried(trusting, number)
    assert document["verdict"] == "found"
    assert "line breaks" in document["detail"]


def test_a_rotated_value_is_asked_for_and_not_taken_from_memory(trusting, vault, number):
    for _ in range(3):
        tried(trusting, number)
    assert len([asked for asked in vault.asked if "mail/smtp" in asked.path]) == 3


# --- Requests that are none ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [99, "x", "-1", "1.0", "99999999999999999999", "²"])
def test_a_provider_that_is_not_there_is_not_found(sqlite_server, number):
    refused(sqlite_server, number, 404, "unknown_name")


@pytest.mark.parametrize(
    "document",
    [
        {"parameters": "smtp"},
        {"parameters": {"SecretName": 1}},
        {"parameters": [["SecretName", "smtp"]]},
        {"SecretName": "smtp"},
        {"Parameters": {"SecretName": "smtp"}},
        {"parameters": {f"P{number}": "x" for number in range(33)}},
    ],
    ids=str,
)
def test_a_body_that_cannot_be_used_is_refused_and_nobody_asked(trusting, vault, number, document):
    refused(trusting, number, 400, "bad_input", json=document)
    assert vault.asked == []


def test_without_a_body_there_are_no_parameters(sqlite_server):
    number = pam_kit.provider(sqlite_server)
    answer = sqlite_server.post(path(number))
    assert (answer.status_code, answer.json()["verdict"]) == (200, "parameter_missing")


def test_a_parameter_given_twice_is_refused(trusting, vault, number):
    content = b'{"parameters": {"Secret": "mail/smtp", "Secret": "other", "Key": "value"}}'
    refused(trusting, number, 400, "bad_input", content=content)
    assert vault.asked == []


# --- Who may -------------------------------------------------------------------------------------------------

PASSWORD = "long enough 1"


@pytest.mark.parametrize(
    ("permission", "may"),
    [
        ("/", True),
        ("/pam/", True),
        ("/pam/read/", True),
        ("/pam/read/{id}/", True),
        ("/pam/read/{other}/", False),
        ("/pam/modify/", False),
        ("/system_settings/", False),
    ],
)
def test_only_who_may_read_the_provider_may_try_it(trusting, vault, number, permission, may):
    held = permission.format(id=number, other=number + 1)
    trusting.add_user("somebody", PASSWORD, held)
    more = {"json": {"parameters": WANTED}, "auth": ("somebody", PASSWORD)}
    if may:
        assert trusting.post(path(number), **more).json()["verdict"] == "found"
        return
    answer = refused(trusting, number, 403, "permission_missing", **more)
    assert answer.json()["remedy"].endswith(f"/pam/read/{number}/")
    assert vault.asked == []
    refused(trusting, 99, 403, "permission_missing", **more)  # nor learn what there is


def test_without_credentials_nobody_is_asked(trusting, vault, number):
    answer = httpx2.post(trusting.url + path(number), json={"parameters": WANTED})
    assert (answer.status_code, vault.asked) == (401, [])


def test_a_foreign_web_page_cannot_make_a_browser_try(trusting, vault, number):
    foreign = {"origin": "https://evil.example"}
    refused(trusting, number, 400, "header_required", json={"parameters": WANTED}, headers=foreign)
    assert vault.asked == []


def test_tries_are_counted_among_the_tests_of_a_user(sqlite_settings, vault, start):
    server = start(replace(sqlite_settings, ca_bundle=vault.authority, tests_per_minute=2))
    number = pam_kit.provider(server, "Vault", TYPE, vault.values)
    for _ in range(2):
        assert tried(server, number)["verdict"] == "found"
    answer = refused(server, number, 429, "too_many_tests", json={"parameters": WANTED})
    assert 1 <= int(answer.headers["retry-after"]) <= 63
    assert len([asked for asked in vault.asked if "mail/smtp" in asked.path]) == 2


def test_a_caller_who_goes_away_leaves_room_for_the_next(sqlite_settings, vault, start, eventually):
    server = start(replace(sqlite_settings, ca_bundle=vault.authority, pam_seconds=60, tests_at_once=1))
    number = pam_kit.provider(server, "Vault", TYPE, vault.values)
    vault.trouble = Answered(200, b"{}", wait=60)
    impatient = httpx2.Timeout(10, read=0.5)
    with (
        httpx2.Client(base_url=server.url, auth=server.auth, timeout=impatient) as client,
        pytest.raises(httpx2.ReadTimeout),
    ):
        client.post(path(number), json={"parameters": WANTED})
    vault.trouble = None
    eventually(lambda: server.post(path(number), json={"parameters": WANTED}).status_code == 200)


# --- Secrets -------------------------------------------------------------------------------------------------


def test_no_answer_and_no_log_holds_a_piece_of_the_value_or_of_the_token(trusting, vault, number, logged):
    planted = {"value": vault.secrets["mail/smtp"], "token": vault.token}
    told = b""
    bodies: list[Any] = [WANTED, WANTED | {"Key": "other"}, WANTED | {"Secret": "mail/none"}, {}]
    for parameters in bodies:
        told += trusting.post(path(number), json={"parameters": parameters}).content
    repeated = f"{planted['value']} {planted['token']}"
    for trouble in (
        says({"errors": [repeated]}, 403),
        says({"errors": [repeated]}, 503),
        says({"data": {"data": {"value": {"inside": repeated}}, "metadata": {}}}),
        Answered(200, repeated.encode()),
        Answered(500, repeated.encode()),
        Answered(302, headers={"location": f"https://127.0.0.1:1/{planted['value']}"}),
    ):
        vault.trouble = trouble
        answer = trusting.post(path(number), json={"parameters": WANTED})
        assert answer.json()["verdict"] not in {"found", "unreachable"}
        told += answer.content
    assert b'"found"' in told
    assert leaks(planted, told) == []
    assert leaks(planted, logged.getvalue().encode()) == []


def test_the_answer_does_not_differ_with_the_length_of_the_value(trusting, vault, number):
    found = []
    for value in ("a", "b" * 3000):
        vault.secrets["mail/smtp"] = value
        found.append(tried(trusting, number) | {"milliseconds": 0})
    assert found[0] == found[1]


def test_a_parameter_that_the_type_does_not_know_is_told_since_a_profile_may_not_have_it(trusting, number):
    document = tried(trusting, number, WANTED | {"secret": "mail/smtp"})
    assert document["verdict"] == "bad_parameter"
    assert "takes Secret and Key" in document["detail"]
