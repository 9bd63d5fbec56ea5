"""BeyondTrust Password Safe, against a double that checks each request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broken_answers import BROKEN
from double import Answered, page, says
from password_safe_double import BASE, KEY, SESSION, USER, VALUE, PasswordSafe, Request

from keyrelay import log
from keyrelay.pam.backends.beyondtrust import BeyondTrustPasswordSafe
from keyrelay.testing.pam import Case, PamContract, fetch, problem

WANTED = {"SystemId": "17", "AccountId": "42"}
ALL = [
    "POST Auth/SignAppin",
    "POST Requests",
    "GET Credentials/5001",
    "PUT Requests/5001/Checkin",
    "POST Auth/Signout",
]
SILENCE = Answered(wait=30.0)


@pytest.fixture(autouse=True)
def _quiet_library() -> Iterator[None]:
    """As the service has it: at DEBUG, the HTTP library logs the headers of answers, and with them the session."""
    assert "httpcore2" in log._TALKATIVE
    library = logging.getLogger("httpcore2")
    before = library.level
    library.setLevel(logging.WARNING)
    yield
    library.setLevel(before)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[PasswordSafe]:
    with PasswordSafe(tmp_path) as vault:
        yield vault


@pytest.fixture
def case(vault: PasswordSafe) -> Case:
    return case_of(vault)


def case_of(vault: PasswordSafe) -> Case:
    return Case(
        backend=BeyondTrustPasswordSafe(),
        means=vault.means(),
        given=vault.given(),
        wanted=WANTED,
        value=VALUE,
        missing={**WANTED, "AccountId": "404"},
        refused=vault.given(APIKey="another-key"),
        away=vault.given(Host=f"https://127.0.0.1:9{BASE}"),
        rotate=vault.rotate,
        handed_out=[SESSION],
    )


class TestBeyondTrustKeepsTheContract(PamContract):
    pass


class TestBeyondTrustWithAClientCertificateKeepsTheContract(PamContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Iterator[Case]:
        with PasswordSafe(tmp_path, client_certificate=True) as vault:
            case = case_of(vault)
            thumbprint = {"ClientCertificate": "a909502dd82ae41433e6f83886b00d4277a32a7b"}
            assert case.refused is not None
            yield replace(case, given={**case.given, **thumbprint}, refused={**case.refused, **thumbprint})
            assert {asked.client for asked in vault.asked} <= {"keyrelay.test"}


def test_it_is_the_published_type() -> None:
    assert BeyondTrustPasswordSafe.name == "BeyondTrust-PasswordSafe"
    parameters = BeyondTrustPasswordSafe.parameters
    assert [(one.name, one.secret, one.instance, one.required) for one in parameters] == [
        ("Host", False, False, True),
        ("APIKey", True, False, True),
        ("Username", False, False, True),
        ("ClientCertificate", False, False, False),
        ("SystemId", False, True, True),
        ("AccountId", False, True, True),
    ]


def test_one_fetch_is_one_session_that_leaves_nothing_open(case: Case, vault: PasswordSafe) -> None:
    fetch(case)
    assert vault.steps == ALL
    assert {asked.headers["authorization"] for asked in vault.asked} == {f"PS-Auth key={KEY}; runas={USER};"}
    assert {"SystemID": 17, "AccountID": 42}.items() <= vault.asked[1].document.items()
    assert set(vault.sessions.values()) == {False}
    assert not any(request.open for request in vault.requests.values())


def test_each_fetch_has_a_session_and_cookies_of_its_own(case: Case, vault: PasswordSafe) -> None:
    async def several() -> None:
        await asyncio.gather(*(case.backend.fetch(case.wanted, case.given, case.means) for _ in range(10)))

    asyncio.run(several())
    fetch(case)
    assert len(vault.sessions) == 11
    assert set(vault.sessions.values()) == {False}


@pytest.mark.parametrize("end", [BASE, BASE + "/", "", "/"])
def test_a_host_without_a_path_means_the_base_endpoint(case: Case, vault: PasswordSafe, end: str) -> None:
    assert fetch(replace(case, given=vault.given(Host=vault.url + end))).reveal() == VALUE


def test_an_older_base_endpoint_is_used_as_given(case: Case, vault: PasswordSafe) -> None:
    vault.rules = lambda asked: says(asked.target, 404)
    failed = problem(replace(case, given=vault.given(Host=vault.url + "/eEye.RetinaCS.Server/api/public/v3")))
    assert failed.problem == "bad_parameter"
    assert [asked.target for asked in vault.asked] == ["/eEye.RetinaCS.Server/api/public/v3/Auth/SignAppin"]


@pytest.mark.parametrize("blank", ["", " ", "\t "])
def test_a_blank_thumbprint_shows_no_certificate(tmp_path: Path, blank: str) -> None:
    with PasswordSafe(tmp_path, client_certificate=True) as vault:
        assert problem(replace(case_of(vault), given=vault.given(ClientCertificate=blank))).problem == "unreachable"
        assert vault.asked == []


@pytest.mark.parametrize("name", ["SystemId", "AccountId"])
@pytest.mark.parametrize("number", ["", "-1", "1.5", "4 2", "٤٢", "0x2a", "2147483648", "42/../43", "true"])
def test_what_is_no_number_is_not_asked_for(case: Case, vault: PasswordSafe, name: str, number: str) -> None:
    assert problem(replace(case, wanted={**WANTED, name: number})).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize("parameter", ["APIKey", "Username"])
@pytest.mark.parametrize("value", ["a; runas=admin", "a;", "a\r\nX-Injected: yes", "ä", " a", "a\0"])
def test_nothing_is_smuggled_into_the_authorization(
    case: Case, vault: PasswordSafe, parameter: str, value: str
) -> None:
    failed = problem(replace(case, given=vault.given(**{parameter: value})))
    assert failed.problem == "bad_parameter"
    assert parameter in failed.detail
    assert vault.asked == []


def test_a_refused_sign_in_is_not_followed_by_a_second_one_nor_by_a_sign_out(case: Case, vault: PasswordSafe) -> None:
    assert problem(replace(case, given=vault.given(Username="somebody"))).problem == "denied"
    assert vault.steps == ["POST Auth/SignAppin"]


def test_a_user_with_a_second_factor_is_told(case: Case, vault: PasswordSafe) -> None:
    vault.will("POST Auth/SignAppin", Answered(401, b'"Enter your code"', {"WWW-Authenticate-2FA": "RADIUS"}))
    failed = problem(case)
    assert failed.problem == "denied"
    assert "second factor" in failed.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"4031", "may not request this account"),
        (b'"4031 - no"', "may not request this account"),
        (b'"4034"', "waits for approval"),
        (b'"4035"', "status 403"),
        (b"40310", "status 403"),
        (b"", "status 403"),
        (b"<html>", "status 403"),
    ],
)
@pytest.mark.parametrize("step", ["POST Requests", "GET Credentials/N"])
def test_why_it_is_forbidden_is_told(case: Case, vault: PasswordSafe, step: str, body: bytes, said: str) -> None:
    vault.will(step, Answered(403, body))
    failed = problem(case)
    assert failed.problem == "denied"
    assert said in failed.detail
    assert set(vault.sessions.values()) == {False}


def test_an_account_of_another_system_is_denied(case: Case) -> None:
    assert problem(replace(case, wanted={**WANTED, "SystemId": "18"})).problem == "denied"


def test_an_account_without_a_password_is_not_found(case: Case, vault: PasswordSafe) -> None:
    assert problem(replace(case, wanted={**WANTED, "AccountId": "43"})).problem == "not_found"
    assert not any(request.open for request in vault.requests.values())


def test_a_request_that_waits_for_approval_is_left_for_the_approver(case: Case, vault: PasswordSafe) -> None:
    case = replace(case, wanted={"SystemId": "18", "AccountId": "44"})
    failed = problem(case)
    assert failed.problem == "denied"
    assert "approval" in failed.detail
    assert vault.requests[5001].open
    assert vault.steps[-1] == "POST Auth/Signout"
    vault.requests[5001].approved = True
    assert fetch(case).reveal() == "waits for approval"


def test_a_conflicting_request_means_come_later(case: Case, vault: PasswordSafe) -> None:
    vault.will("POST Requests", says("Conflicting request exists", 409))
    assert problem(case).problem == "sealed"


def test_a_request_that_was_open_before_is_left_open(case: Case, vault: PasswordSafe) -> None:
    vault.requests[4999] = Request(17, 42)
    assert fetch(case).reveal() == VALUE
    assert vault.requests[4999].open
    assert vault.steps == [ALL[0], ALL[1], "GET Credentials/4999", ALL[4]]


def test_a_request_that_another_checks_in_meanwhile_is_asked_for_again(case: Case, vault: PasswordSafe) -> None:
    vault.requests[4999] = Request(17, 42, open=False)
    vault.will("POST Requests", says(4999))
    assert fetch(case).reveal() == VALUE
    assert vault.steps == [ALL[0], ALL[1], "GET Credentials/4999", *ALL[1:]]


def test_a_request_that_is_never_there_is_not_asked_for_without_end(case: Case, vault: PasswordSafe) -> None:
    vault.requests[4999] = Request(17, 42, open=False)
    vault.will("POST Requests", says(4999), says(4999))
    assert problem(case).problem == "not_found"
    assert len(vault.asked) == 6


@pytest.mark.parametrize("answer", [{"RequestID": 5}, "5", True, None, 5.5, [5]])
def test_a_request_without_a_number_is_a_bad_answer(case: Case, vault: PasswordSafe, answer: Any) -> None:
    vault.will("POST Requests", says(answer, 201))
    assert problem(case).problem == "bad_answer"
    assert vault.steps == [ALL[0], ALL[1], ALL[4]]


@pytest.mark.parametrize("answer", [{"Password": "x"}, ["x"]])
def test_credentials_that_are_no_text_are_a_bad_answer(case: Case, vault: PasswordSafe, answer: Any) -> None:
    vault.will("GET Credentials/N", says(answer))
    assert problem(case).problem == "bad_answer"
    assert vault.steps == ALL


@pytest.mark.parametrize("step", ["POST Requests", "GET Credentials/N"])
@pytest.mark.parametrize("name", BROKEN)
def test_whatever_is_answered_it_signs_out(case: Case, vault: PasswordSafe, step: str, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.will(step, answer)
    assert problem(replace(case, means=vault.means(seconds=0.5 if answer.wait else 10.0))).problem == expected
    assert vault.steps[-1] == "POST Auth/Signout"
    assert set(vault.sessions.values()) == {False}
    assert not any(request.open for request in vault.requests.values())
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize(
    "name", [name for name, (answer, _) in BROKEN.items() if answer.status != 200 or answer.hang_up]
)
def test_whatever_a_sign_in_is_answered_is_told(case: Case, vault: PasswordSafe, name: str) -> None:
    answer, expected = BROKEN[name]
    vault.will("POST Auth/SignAppin", answer)
    assert problem(case).problem == expected
    assert vault.steps == ["POST Auth/SignAppin"]


@pytest.mark.parametrize("answer", [page(500), page(), Answered(302), Answered(hang_up=True), Answered(404)])
@pytest.mark.parametrize("step", ["PUT Requests/N/Checkin", "POST Auth/Signout"])
def test_a_secret_that_was_read_is_given_even_if_leaving_fails(
    case: Case, vault: PasswordSafe, step: str, answer: Answered
) -> None:
    vault.will(step, answer)
    assert fetch(case).reveal() == VALUE
    assert vault.steps == ALL


def test_leaving_takes_a_short_time_at_most(case: Case, vault: PasswordSafe) -> None:
    vault.will("PUT Requests/N/Checkin", SILENCE)
    vault.will("POST Auth/Signout", SILENCE)
    began = time.monotonic()
    assert fetch(replace(case, means=vault.means(seconds=60.0))).reveal() == VALUE
    assert time.monotonic() - began < 25.0


@pytest.mark.parametrize("step", ["POST Requests", "GET Credentials/N", "PUT Requests/N/Checkin"])
def test_a_cancelled_fetch_signs_out(case: Case, vault: PasswordSafe, step: str) -> None:
    vault.will(step, SILENCE)
    expected = {"POST Requests": 2, "GET Credentials/N": 3, "PUT Requests/N/Checkin": 4}[step]

    async def cancelled() -> None:
        task = asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means))
        await asyncio.to_thread(until_asked, vault, expected)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert vault.steps[-1] == "POST Auth/Signout"
    assert ("PUT Requests/5001/Checkin" in vault.steps) == (step != "POST Requests")


def test_a_fetch_that_takes_too_long_is_told_so_and_signs_out(case: Case, vault: PasswordSafe) -> None:
    vault.will("GET Credentials/N", SILENCE)

    async def limited() -> None:
        async with asyncio.timeout(0.5):
            await case.backend.fetch(case.wanted, case.given, case.means)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert vault.steps == ALL


def until_asked(vault: PasswordSafe, often: int) -> None:
    while len(vault.asked) < often:
        time.sleep(0.01)
