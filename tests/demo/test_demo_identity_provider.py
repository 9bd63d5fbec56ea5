"""The demo's identity provider: a code with PKCE becomes an ID token, and that lets people into the demo's API."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from json_web import claims_of

VERIFIER = "a-verifier-that-is-long-enough-for-the-standard-0001"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:9/portal/sign-in/back"
ASKED = {
    "client_id": "keyrelay-portal",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "openid profile",
    "state": "state & more",
    "nonce": "nonce-1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture
def browser(demo):
    with httpx2.Client(base_url=demo.issuer, trust_env=False) as client:
        yield client


@pytest.fixture
def configuration(demo, browser) -> dict:
    found = browser.get("/.well-known/openid-configuration").json()
    assert found["issuer"] == demo.issuer
    return found


def code_for(browser, configuration, name: str, **other: str) -> str:
    """What a browser brings back when somebody has chosen who they are."""
    shown = browser.get(configuration["authorization_endpoint"], params={**ASKED, **other})
    assert "Sign in at the demo" in shown.text
    link = re.search(rf'<a href="([^"]+)">Sign in as {name}</a>', shown.text)[1].replace("&amp;", "&")
    answer = browser.get(f"{browser.base_url}/{link}")
    assert answer.status_code == 302
    where = urlsplit(answer.headers["location"])
    assert where._replace(query="").geturl() == BACK
    back = parse_qs(where.query)
    assert (back["state"], back["iss"]) == (["state & more"], [configuration["issuer"]])
    return back["code"][0]


def exchanged(browser, configuration, code: str, /, **other: str) -> httpx2.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": "keyrelay-portal",
        "redirect_uri": BACK,
        "code": code,
        "code_verifier": VERIFIER,
    }
    return browser.post(configuration["token_endpoint"], data=form | other)


@pytest.mark.parametrize(("name", "may_read_settings"), [("alice", 200), ("bob", 403)])
def test_people_sign_in_and_may_in_the_api_what_their_roles_allow(
    demo, browser, configuration, name, may_read_settings
):
    answer = exchanged(browser, configuration, code_for(browser, configuration, name))
    assert answer.headers["cache-control"] == "no-store"
    token = answer.raise_for_status().json()["id_token"]
    claims = claims_of(token)
    assert (claims["nonce"], claims["aud"], claims["preferred_username"]) == ("nonce-1", "keyrelay-portal", name)
    bearer = {"authorization": f"Bearer {token}"}
    found = [
        httpx2.get(demo.url + path, headers=bearer).status_code for path in ("/api/v1/messages", "/api/v1/profile")
    ]
    assert found == [200, may_read_settings]
    head, body, signature = token.split(".")
    forged = ".".join((head, body, signature[:-8] + "AAAAAAAA"))
    assert httpx2.get(demo.url + "/api/v1/messages", headers={"authorization": f"Bearer {forged}"}).status_code == 401


def test_a_code_is_good_once(browser, configuration):
    code = code_for(browser, configuration, "bob")
    assert exchanged(browser, configuration, code).status_code == 200
    again = exchanged(browser, configuration, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"code_verifier": VERIFIER + "x"}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
        ({"redirect_uri": BACK + "x"}, "invalid_grant"),
        ({"client_id": "somebody"}, "invalid_client"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"code": "guessed"}, "invalid_grant"),
    ],
)
def test_a_code_without_its_proof_is_refused(browser, configuration, other, error):
    answer = exchanged(browser, configuration, code_for(browser, configuration, "alice"), **other)
    assert answer.json()["error"] == error
    assert "id_token" not in answer.text


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"redirect_uri": "https://attacker.test/"}, "redirect_uri"),
        ({"redirect_uri": "javascript:alert(1)//127.0.0.1"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1@attacker.test/"}, "redirect_uri"),
        ({"client_id": "<script>"}, "client_id"),
        ({"response_type": "token"}, "response_type"),
        ({"scope": "profile"}, "openid"),
        ({"code_challenge_method": "plain"}, "code_challenge_method"),
        ({"code_challenge": "short"}, "code_challenge"),
    ],
)
def test_a_request_that_is_not_right_is_told_of_on_the_page_and_sent_nowhere(browser, configuration, other, told):
    for choice in ({}, {"as": "alice"}):
        answer = browser.get(configuration["authorization_endpoint"], params=ASKED | other | choice)
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert told in answer.text
        assert "<script>" not in answer.text


def test_what_a_request_brings_along_stands_in_the_links_as_text(browser, configuration):
    hostile = '"><script>alert(1)</script>'
    answer = browser.get(configuration["authorization_endpoint"], params=ASKED | {"state": hostile, hostile: "x"})
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; ")
