"""CyberArk's Central Credential Provider, from a double that wants a client certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

import pytest
from broken_answers import BROKEN
from double import Answered, Asked, Double, page, says

from canary import new_canary
from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.backends.cyberark_ccp import CyberArkCentralCredentialProvider
from keyrelay.testing.pam import Case, PamContract, fetch, problem

APPLICATION = "KeyRelay App"
WANTED = {"Safe": "Mail-Relays", "Folder": "Root\\Outgoing", "Object": "smtp relay: a@b.example"}


class Ccp:
    """Answers by "Call the Web Service using REST". ``in_place``: what it answers whatever is asked."""

    def __init__(self, directory, **more) -> None:
        self.content: str | None = new_canary()
        self.in_place: Answered | None = None
        self.double = Double(directory, self.answer, client_certificate=True, **more)

    def answer(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        assert asked.client == "keyrelay.test", "the application is known by its certificate"
        assert asked.body == b""
        assert asked.headers["accept"] == "application/json"
        if self.in_place is not None:
            return self.in_place
        path, _, query = asked.target.partition("?")
        if path != "/AIMWebService/api/Accounts":
            return page(404)
        # The web server takes the query apart at & and unescapes it; the provider takes the criteria apart at ;.
        application, criteria = query.split("&")
        assert application.startswith("AppID=")
        assert criteria.count(";") == 2, "the semicolons between the criteria are not escaped"
        named = dict(one.split("=", 1) for one in unquote(criteria).split(";"))
        assert list(named) == ["Safe", "Folder", "Object"]
        if unquote(application.removeprefix("AppID=")) != APPLICATION:
            return error(403, "APPAP306E", f"Authentication error for App ID [{application}].")
        if named != WANTED:
            told = f"Password object matching query [{criteria}] was not found (Diagnostic Info: 5)."
            return error(404, "APPAP004E", told)
        about = {"UserName": "relay", "Address": "mail.example", "PasswordChangeInProcess": "False"}
        return says({"Content": self.content, **about})

    def case(self, **given) -> Case:
        host = f"127.0.0.1:{self.double.port}"
        given = {"AppId": APPLICATION, "Host": host, "Site": "AIMWebService"} | given
        return Case(
            backend=CyberArkCentralCredentialProvider(),
            means=self.double.means(),
            given=given,
            wanted=WANTED,
            value=self.content,
            missing=WANTED | {"Object": "nothing"},
            refused=given | {"AppId": "another"},
            away=given | {"Host": "127.0.0.1:1"},
            rotate=self.rotate,
        )

    def rotate(self) -> str:
        self.content = "a new one"
        return self.content


def error(status: int, code: str, message: str = "") -> Answered:
    return says({"ErrorCode": code, "ErrorMsg": message}, status)


@pytest.fixture
def ccp(tmp_path) -> Iterator[Ccp]:
    made = Ccp(tmp_path)
    with made.double:
        yield made


class TestCyberArkCentralCredentialProvider(PamContract):
    @pytest.fixture
    def case(self, ccp) -> Case:
        return ccp.case()


def test_the_query_is_the_published_one(ccp):
    fetch(ccp.case())
    path, _, query = ccp.double.asked[0].target.partition("?")
    assert path == "/AIMWebService/api/Accounts"
    assert query.startswith("AppID=KeyRelay%20App&Safe=Mail-Relays;Folder=Root%5COutgoing;Object=smtp%20relay")


@pytest.mark.parametrize("host", ["https://127.0.0.1:{}", "https://127.0.0.1:{}/", "localhost:{}"])
def test_a_host_may_be_given_as_a_url(ccp, host):
    assert fetch(ccp.case(Host=host.format(ccp.double.port))).reveal() == ccp.content


@pytest.mark.parametrize(
    "host",
    ["ccp.example/elsewhere", "u:p@ccp.example", "ccp.example?x", "ccp.example#x", "ftp://ccp.example", "a b", "/"],
)
def test_a_host_that_is_more_than_a_name_and_a_port_is_refused(ccp, host):
    failure = problem(ccp.case(Host=host))
    assert (failure.problem, "Host" in failure.detail) == ("bad_parameter", True)


def test_a_password_is_not_asked_for_without_tls_unless_that_is_allowed(ccp):
    case = ccp.case(Host="http://127.0.0.1:1")
    assert problem(case).problem == "bad_parameter"
    assert problem(replace(case, means=ccp.double.means(allow_plain_http=True))).problem == "unreachable"


@pytest.mark.parametrize("character", ["+", "&", "%", ";", "\r\n", "\0", "\u2028", "\ud800"])
@pytest.mark.parametrize("name", ["Safe", "Folder", "Object"])
def test_what_would_be_another_criterion_is_refused(ccp, name, character):
    odd = f"smtp{character}Safe=Payroll"
    failure = problem(replace(ccp.case(), wanted=WANTED | {name: odd}))
    assert failure.problem == "bad_parameter"
    assert name in failure.detail
    assert ccp.double.asked == []


@pytest.mark.parametrize(
    ("name", "odd"), [("AppId", "a;b"), ("AppId", "a&Safe=b"), ("Site", "../x"), ("Site", "a\r\nb")]
)
def test_odd_values_of_a_provider_are_refused(ccp, name, odd):
    failure = problem(ccp.case(**{name: odd}))
    assert (failure.problem, name in failure.detail) == ("bad_parameter", True)
    assert ccp.double.asked == []


@pytest.mark.parametrize("site", ["Another", "AIMWebService?x=", "AIMWebService#"])
def test_a_site_that_is_not_there_is_a_wrong_parameter(ccp, site):
    failure = problem(ccp.case(Site=site))
    assert (failure.problem, "Site" in failure.detail) == ("bad_parameter", True)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "AIMWS030E", "bad_parameter"),
        (400, "AIMWS031E", "bad_parameter"),
        (400, "APPAP227E", "bad_parameter"),
        (400, "APPAP228E", "bad_parameter"),
        (400, "APPAP229E", "bad_parameter"),
        (400, "APPAP081E", "bad_parameter"),
        (400, "CASVL010E", "bad_parameter"),
        (400, "APPAP007E", "sealed"),
        (403, "APPAP306E", "denied"),
        (403, "APPAP008E", "denied"),
        (404, "APPAP004E", "not_found"),
        (500, "APPAP282E", "sealed"),
    ],
)
def test_what_the_product_documents_is_told_apart(ccp, status, code, expected):
    ccp.in_place = error(status, code, "words of the vault")
    failure = problem(ccp.case())
    assert failure.problem == expected
    assert code in failure.detail
    assert "words" not in failure.detail


@pytest.mark.parametrize(
    ("status", "expected"), [(400, "bad_parameter"), (403, "denied"), (404, "not_found"), (500, "bad_answer")]
)
@pytest.mark.parametrize("code", ["APPAP999E", None, 7, ["APPAP004E"]])
def test_a_code_that_nobody_knows_is_told_by_its_status(ccp, status, expected, code):
    ccp.in_place = error(status, code)
    failure = problem(ccp.case())
    assert failure.problem == expected
    assert "APPAP" not in failure.detail


def test_a_page_of_the_web_server_that_forbids_points_to_the_certificate(ccp):
    ccp.in_place = page(403)
    failure = problem(ccp.case())
    assert failure.problem == "denied"
    assert "KEYRELAY_VAULT_CLIENT_CERT" in failure.detail


@pytest.mark.parametrize(("content", "expected"), [("", "not_found"), (None, "not_found"), ({"a": "b"}, "bad_answer")])
def test_an_answer_without_a_password(ccp, content, expected):
    ccp.in_place = says({"Content": content})
    assert problem(ccp.case()).problem == expected


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_is_none(ccp, broken):
    ccp.in_place, expected = broken
    assert problem(replace(ccp.case(), means=ccp.double.means(seconds=1.0))).problem == expected


def test_a_site_that_wants_a_certificate_and_gets_none_is_not_reached(ccp):
    means = ccp.double.means()
    case = replace(ccp.case(), means=replace(means, client_trust=means.trust))
    with pytest.raises(VaultFailed) as failed:
        fetch(case)
    assert failed.value.problem == "unreachable"
    assert ccp.double.asked == []
