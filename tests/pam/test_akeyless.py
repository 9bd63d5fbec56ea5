"""Akeyless, against a double that checks each request."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from akeyless_double import ACCESS_ID, ACCESS_KEY, OBJECT, TOKEN, VALUE, AkeylessApi
from broken_answers import BROKEN
from double import Answered, says

from keyrelay.pam.backend import Problem
from keyrelay.pam.backends.akeyless import Akeyless
from keyrelay.testing.pam import Case, PamContract, fetch, problem

WANTED = {"SecretName": "/mail/relay", "SecretType": "static_text"}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[AkeylessApi]:
    with AkeylessApi(tmp_path) as vault:
        yield vault


@pytest.fixture
def case(vault: AkeylessApi) -> Case:
    return Case(
        backend=Akeyless(),
        means=vault.means(),
        given=vault.given(),
        wanted=WANTED,
        value=VALUE,
        missing={**WANTED, "SecretName": "/mail/other"},
        refused=vault.given(AccessKey="another-access-key"),
        away=vault.given(Url="https://127.0.0.1:9"),
        rotate=vault.rotate,
        handed_out=[TOKEN],
    )


def of(case: Case, name: str, kind: str, field: str | None = None) -> Case:
    wanted = {"SecretName": name, "SecretType": kind}
    return replace(case, wanted=wanted if field is None else {**wanted, "StaticSecretFieldName": field})


class TestAkeylessKeepsTheContract(PamContract):
    pass


class TestAFieldOfAkeylessKeepsTheContract(PamContract):
    @pytest.fixture
    def case(self, case: Case) -> Case:
        wanted = {"SecretName": "/mail/json", "SecretType": "static_json", "StaticSecretFieldName": "password"}
        missing = {**wanted, "StaticSecretFieldName": "nothing"}
        return replace(case, wanted=wanted, missing=missing, rotate=None)


def test_it_is_the_published_type() -> None:
    assert Akeyless.name == "Akeyless"
    assert [(parameter.name, parameter.secret, parameter.instance) for parameter in Akeyless.parameters] == [
        ("Url", False, False),
        ("AccessId", True, False),
        ("AccessKey", True, False),
        ("AuthType", False, False),
        ("SecretName", False, True),
        ("SecretType", False, True),
        ("StaticSecretFieldName", False, True),
    ]
    defaults = {parameter.name: parameter.default for parameter in Akeyless.parameters if parameter.default}
    assert defaults == {"Url": "https://api.akeyless.io", "AuthType": "access_key", "SecretType": "static_text"}


@pytest.mark.parametrize("path", ["", "/v2"])
def test_it_signs_in_and_reads_one_secret(case: Case, vault: AkeylessApi, path: str) -> None:
    vault.path = path
    fetch(replace(case, given=vault.given()))
    assert [asked.target for asked in vault.asked] == [f"{path}/auth", f"{path}/get-secret-value"]
    assert vault.asked[0].document == {"access-id": ACCESS_ID, "access-key": ACCESS_KEY}
    assert vault.asked[1].document == {"names": ["/mail/relay"], "token": vault.tokens[0]}


@pytest.mark.parametrize(
    ("name", "kind", "field", "value"),
    [
        ("/mail/relay", "static_text", "password", VALUE),
        ("/mail/relay", "static_json", None, VALUE),
        ("/mail/number", "static_text", None, "587"),
        ("/mail/json", "static_text", None, json.dumps(OBJECT)),
        ("/mail/json", "static_json", None, json.dumps(OBJECT)),
        ("/mail/json", "static_json", "  ", json.dumps(OBJECT)),
        ("/mail/object", "static_json", None, json.dumps(OBJECT, ensure_ascii=False)),
        ("/mail/json", "static_json", "password", VALUE),
        ("/mail/object", "static_json", "password", VALUE),
        ("/mail/json", "static_json", "port", "587"),
        ("/mail/json", "static_json", "more", '{"of": "it"}'),
        ("/mail/json", "static_kv", "password", VALUE),
        ("/mail/object", "static_kv", "username", "mailer"),
        ("/mail/lines", "static_kv", "username", "mailer"),
        ("/mail/lines", " static_kv ", "password", f"{VALUE}="),
    ],
)
def test_a_secret_is_read_as_its_type_says(case: Case, name: str, kind: str, field: str | None, value: str) -> None:
    assert fetch(of(case, name, kind, field)).reveal() == value


@pytest.mark.parametrize(
    ("name", "kind", "field", "expected"),
    [
        ("/mail/empty", "static_text", None, "not_found"),
        ("/mail/nothing", "static_text", None, "not_found"),
        ("/mail/nothing", "static_kv", "password", "not_found"),
        ("/mail/json", "static_json", "nothing", "not_found"),
        ("/mail/json", "static_json", "empty", "not_found"),
        ("/mail/json", "static_json", "none", "not_found"),
        ("/mail/lines", "static_kv", "bare", "not_found"),
        ("/mail/lines", "static_kv", "empty", "not_found"),
        ("/mail/relay", "static_json", "password", "bad_answer"),
        ("/mail/number", "static_json", "password", "bad_answer"),
        ("/mail/relay", "static_kv", None, "parameter_missing"),
        ("/mail/relay", "static_kv", " ", "parameter_missing"),
        ("/mail/relay", "dynamic", None, "bad_parameter"),
        ("/mail/relay\n", "static_text", None, "bad_parameter"),
        (" ", "static_text", None, "bad_parameter"),
        ("/secret/of/others", "static_text", None, "denied"),
    ],
)
def test_what_cannot_be_read_is_told(case: Case, name: str, kind: str, field: str | None, expected: Problem) -> None:
    assert problem(of(case, name, kind, field)).problem == expected


def test_an_answer_for_another_name_is_not_taken(case: Case, vault: AkeylessApi) -> None:
    vault.next_secret.append(says({"/mail/another": "value-of-another"}))
    assert problem(case).problem == "not_found"


@pytest.mark.parametrize("other", ["api_key", "saml", "aws_iam", "access_key,saml"])
def test_other_ways_to_sign_in_are_not_supported(case: Case, vault: AkeylessApi, other: str) -> None:
    assert problem(replace(case, given=vault.given(AuthType=other))).problem == "bad_parameter"
    assert vault.asked == []


def test_a_bad_request_at_the_sign_in_means_the_credentials(case: Case, vault: AkeylessApi) -> None:
    vault.next_token.append(says({"error": "access id has a wrong format"}, 400))
    assert problem(case).problem == "denied"


@pytest.mark.parametrize("answer", [{}, {"token": ""}, {"token": 7}, {"creds": "none"}, {"token": None, "creds": {}}])
def test_a_sign_in_without_a_token_is_a_bad_answer(case: Case, vault: AkeylessApi, answer: Any) -> None:
    vault.next_token.append(says(answer))
    assert problem(case).problem == "bad_answer"


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_sign_in_is_answered_is_told(case: Case, vault: AkeylessApi, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.next_token.append(answer)
    assert problem(replace(case, means=vault.means(seconds=0.5 if answer.wait else 10.0))).problem == expected
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_reading_is_answered_is_told(case: Case, vault: AkeylessApi, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.next_secret.append(answer)
    assert problem(replace(case, means=vault.means(seconds=0.5 if answer.wait else 10.0))).problem == expected
    assert fetch(case).reveal() == VALUE


class TestItsToken:
    def test_may_come_with_the_credentials_only(self, case: Case, vault: AkeylessApi) -> None:
        vault.token_in_creds_only = True
        assert fetch(case).reveal() == VALUE

    @pytest.mark.parametrize(
        ("expiry", "lives"),
        [(3600.0, 3530.0), (100.0, 88.0), (-3600.0, 539.0), (None, 539.0), ("soon", 539.0), (10**400, 9e6)],
    )
    def test_is_renewed_before_it_expires(self, case: Case, vault: AkeylessApi, expiry: Any, lives: float) -> None:
        now = [1000.0]
        case = replace(case, backend=Akeyless(lambda: now[0]))
        vault.expiry = int(time.time() + expiry) if isinstance(expiry, float) else expiry
        fetch(case)
        now[0] += lives
        fetch(case)
        assert len(vault.tokens) == 1
        if lives < 9e6:
            now[0] += 12.0
            fetch(case)
            assert len(vault.tokens) == 2

    @pytest.mark.parametrize("status", [401, 403])
    def test_is_fetched_anew_once_when_it_is_refused(self, case: Case, vault: AkeylessApi, status: int) -> None:
        fetch(case)
        vault.next_secret.append(says({"error": "token expired"}, status))
        assert fetch(case).reveal() == VALUE
        assert len(vault.tokens) == 2
        vault.next_secret.extend([Answered(status), Answered(status)])
        assert problem(case).problem == "denied"
        assert len(vault.tokens) == 3

    def test_is_one_for_a_hundred_fetches(self, case: Case, vault: AkeylessApi) -> None:
        async def hundred() -> set[str]:
            fetches = [case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)]
            return {found.reveal() for found in await asyncio.gather(*fetches)}

        assert asyncio.run(hundred()) == {VALUE}
        assert len(vault.tokens) == 1
