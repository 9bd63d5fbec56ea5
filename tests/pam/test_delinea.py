"""Delinea Secret Server, against a double that checks each request."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broken_answers import BROKEN
from double import Answered, says
from secret_server_double import PASSWORD, TOKEN, USER, VALUE, SecretServer, item

from keyrelay.pam.backend import Means, Problem, VaultFailed
from keyrelay.pam.backends.delinea import DelineaSecretServer
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, PamContract, fetch, problem

WANTED = {"SecretId": "42", "SecretFieldName": "password"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def until_asked(vault: SecretServer) -> None:
    while not vault.asked:
        time.sleep(0.01)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[SecretServer]:
    with SecretServer(tmp_path) as vault:
        yield vault


@pytest.fixture
def case(vault: SecretServer) -> Case:
    return Case(
        backend=DelineaSecretServer(),
        means=vault.means(),
        given=vault.given(),
        wanted=WANTED,
        value=VALUE,
        missing={**WANTED, "SecretId": "404"},
        refused=vault.given(Password="another-pass-word"),
        away=vault.given(Host="https://127.0.0.1:9/SecretServer"),
        rotate=vault.rotate,
        handed_out=[TOKEN],
    )


class TestDelineaKeepsTheContract(PamContract):
    pass


def test_it_is_the_published_type() -> None:
    assert DelineaSecretServer.name == "Delinea-SecretServer"
    assert [(parameter.name, parameter.secret, parameter.instance) for parameter in DelineaSecretServer.parameters] == [
        ("Host", False, False),
        ("Username", True, False),
        ("Password", True, False),
        ("SecretId", False, True),
        ("SecretFieldName", False, True),
    ]


def test_it_signs_in_and_reads_one_secret(case: Case, vault: SecretServer) -> None:
    fetch(case)
    assert [(asked.method, asked.target) for asked in vault.asked] == [
        ("POST", "/SecretServer/oauth2/token"),
        ("GET", "/SecretServer/api/v1/secrets/42"),
    ]
    assert vault.asked[0].form == {"username": USER, "password": PASSWORD, "grant_type": "password"}
    assert vault.asked[1].headers["authorization"] == f"Bearer {vault.tokens[0]}"


@pytest.mark.parametrize(
    ("name", "value"), [("Mail Password", VALUE), ("password", VALUE), ("Username", "mailer@example.org")]
)
def test_a_field_is_found_by_its_name_and_by_its_slug(case: Case, name: str, value: str) -> None:
    assert fetch(replace(case, wanted={**WANTED, "SecretFieldName": name})).reveal() == value


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nothing", "not_found"), ("PASSWORD", "not_found"), ("notes", "not_found"), ("certificate", "bad_parameter")],
)
def test_a_field_that_holds_no_text_is_no_secret(case: Case, name: str, expected: Problem) -> None:
    assert problem(replace(case, wanted={**WANTED, "SecretFieldName": name})).problem == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (None, "bad_answer"),
        ({}, "bad_answer"),
        (["password"], "not_found"),
        ([item("Password", "password", None)], "not_found"),
        ([item("Password", "password", [])], "bad_answer"),
        ([item("Password", "password", {"of": "something"})], "bad_answer"),
        ([item("Password", "password", "*** Not Valid For Display ***")], "bad_parameter"),
    ],
)
def test_odd_fields_are_no_secret(case: Case, vault: SecretServer, items: Any, expected: Problem) -> None:
    vault.items = items
    assert problem(case).problem == expected


@pytest.mark.parametrize("number", ["", "0", "-1", "1.5", "4 2", "٤٢", "0x2a", "2147483648", "42/../43", "42?x=1"])
def test_what_is_no_id_is_not_asked_for(case: Case, vault: SecretServer, number: str) -> None:
    assert problem(replace(case, wanted={**WANTED, "SecretId": number})).problem == "bad_parameter"
    assert vault.asked == []


def test_a_denied_secret_is_told_from_one_that_wants_a_comment(case: Case, vault: SecretServer) -> None:
    denied = problem(replace(case, wanted={**WANTED, "SecretId": "43"}))
    assert denied.problem == "denied"
    assert "may not see it" in denied.detail
    code = {
        "errorCode": "API_ValidateSecretAccessCommentRequired",
        "message": "The requested Secret requires a comment",
    }
    vault.next_secret.append(says(code, 400))
    commented = problem(case)
    assert commented.problem == "denied"
    assert "comment" in commented.detail


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"errorCode": 7, "message": "The request is invalid."}'])
def test_another_bad_request_is_a_bad_parameter(case: Case, vault: SecretServer, body: bytes) -> None:
    vault.next_secret.append(Answered(400, body))
    assert problem(case).problem == "bad_parameter"


def test_no_right_is_denied_after_one_more_sign_in(case: Case, vault: SecretServer) -> None:
    fetch(case)
    vault.next_secret.extend([says({"message": "no"}, 403), says({"message": "no"}, 403)])
    assert problem(case).problem == "denied"
    assert len(vault.tokens) == 2
    assert vault.next_secret == type(vault.next_secret)()


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_sign_in_is_answered_is_told(case: Case, vault: SecretServer, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.next_token.append(answer)
    assert problem(replace(case, means=vault.means(seconds=0.5 if answer.wait else 10.0))).problem == expected
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_a_reading_is_answered_is_told(case: Case, vault: SecretServer, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.next_secret.append(answer)
    assert problem(replace(case, means=vault.means(seconds=0.5 if answer.wait else 10.0))).problem == expected
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize("token", [None, "", 7, "a b", "a\r\nX: y", "ä"])
def test_a_token_that_no_header_may_hold_is_a_bad_answer(case: Case, vault: SecretServer, token: Any) -> None:
    vault.next_token.append(says({"access_token": token, "expires_in": 1199}))
    assert problem(case).problem == "bad_answer"


def test_credentials_cross_only_tls_unless_the_operator_says_otherwise(case: Case, vault: SecretServer) -> None:
    given = vault.given(Host=vault.host.replace("https:", "http:"))
    assert problem(replace(case, given=given)).problem == "bad_parameter"
    assert vault.asked == []


def test_a_vault_of_another_authority_is_sent_nothing(case: Case, vault: SecretServer) -> None:
    strangers = replace(case, means=Means(ssl.create_default_context, ssl.create_default_context))
    assert problem(strangers).problem == "unreachable"
    assert vault.asked == []


class TestItsToken:
    """What a sign-in gave is kept, renewed, forgotten when it is refused, and shared."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def case(self, case: Case, clock: Clock) -> Case:
        return replace(case, backend=DelineaSecretServer(clock))

    def test_is_kept_for_the_next_fetch_in_another_event_loop_too(self, case: Case, vault: SecretServer) -> None:
        for _ in range(3):
            fetch(case)
        assert len(vault.tokens) == 1

    def test_is_not_used_for_other_credentials(self, case: Case, vault: SecretServer) -> None:
        fetch(case)
        assert case.refused is not None
        assert problem(replace(case, given=case.refused)).problem == "denied"
        assert fetch(case).reveal() == VALUE
        assert len(vault.tokens) == 1

    @pytest.mark.parametrize(
        ("life", "lives"), [(1199, 1138.0), (100, 89.0), (None, 539.0), ("soon", 539.0), (-1, 539.0), (10**400, 9e6)]
    )
    def test_is_renewed_before_its_life_ends(
        self, case: Case, vault: SecretServer, clock: Clock, life: Any, lives: float
    ) -> None:
        vault.life = life
        fetch(case)
        clock.now += lives
        fetch(case)
        assert len(vault.tokens) == 1
        if lives < 9e6:
            clock.now += 2.0
            fetch(case)
            assert len(vault.tokens) == 2

    def test_is_used_to_its_end_when_it_cannot_be_renewed(self, case: Case, vault: SecretServer, clock: Clock) -> None:
        fetch(case)
        clock.now += 1150.0
        vault.next_token.append(Answered(503))
        assert fetch(case).reveal() == VALUE
        clock.now += 50.0
        vault.next_token.append(Answered(503))
        assert problem(case).problem == "sealed"

    def test_is_fetched_anew_once_when_it_was_revoked(self, case: Case, vault: SecretServer) -> None:
        fetch(case)
        vault.revoke()
        assert fetch(case).reveal() == VALUE
        assert len(vault.tokens) == 2

    def test_that_is_new_and_refused_is_not_asked_for_again(self, case: Case, vault: SecretServer) -> None:
        vault.next_secret.append(Answered(401))
        assert problem(case).problem == "denied"
        assert len(vault.tokens) == 1

    def test_is_one_for_a_hundred_fetches(self, case: Case, vault: SecretServer) -> None:
        async def hundred() -> set[str]:
            fetches = [case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)]
            return {found.reveal() for found in await asyncio.gather(*fetches)}

        assert asyncio.run(hundred()) == {VALUE}
        assert len(vault.tokens) == 1
        vault.revoke()
        assert asyncio.run(hundred()) == {VALUE}
        assert len(vault.tokens) == 2

    def test_comes_to_the_others_when_the_caller_that_asked_is_cancelled(self, case: Case, vault: SecretServer) -> None:
        vault.next_token.append(says({"access_token": "slow-token", "expires_in": 1199}))
        vault.next_token[0] = replace(vault.next_token[0], wait=0.3)
        vault.valid.add("slow-token")

        async def two() -> SecretText:
            first = asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means))
            second = asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means))
            await asyncio.to_thread(until_asked, vault)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await second

        assert asyncio.run(two()).reveal() == VALUE
        assert vault.tokens == []

    def test_that_is_not_given_fails_all_who_wait_for_it_each_with_an_error_of_its_own(
        self, case: Case, vault: SecretServer
    ) -> None:
        vault.next_token.append(Answered(503, wait=0.2))

        async def many() -> list[Any]:
            fetches = [case.backend.fetch(case.wanted, case.given, case.means) for _ in range(10)]
            return await asyncio.gather(*fetches, return_exceptions=True)

        failures = asyncio.run(many())
        assert {failure.problem for failure in failures} == {"sealed"}
        assert len({id(failure) for failure in failures}) == 10
        assert all(isinstance(failure, VaultFailed) for failure in failures)
        assert len(vault.asked) == 1

    def test_is_asked_for_anew_when_the_event_loop_of_a_sign_in_is_gone(self, case: Case, vault: SecretServer) -> None:
        vault.next_token.append(Answered(wait=30.0))
        loop = asyncio.new_event_loop()
        task = loop.create_task(case.backend.fetch(case.wanted, case.given, case.means))
        try:
            loop.run_until_complete(asyncio.to_thread(until_asked, vault))
            assert fetch(case).reveal() == VALUE
        finally:
            for one in asyncio.all_tasks(loop):
                one.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
