"""Signing in through an identity provider, step by step: what lets somebody in, and the many things that do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

import json_web
from bearing import CHIEF, grant, register, trusting
from keyrelay.access import code_exchange, round_trip
from keyrelay.access.discovery import NotDiscovered
from keyrelay.access.endpoints import read
from keyrelay.api.session_cookie import NAME, SIGN_IN
from live import ADMIN_PASSWORD, LiveServer
from oidc_server import DISCOVERY, KEYS, TOKEN, OidcServer, rsa_key
from sign_ins import App
from token_server import Answer, page, redirect, refused, says
from visiting import CLIENT, SECRET, Visitor, changed, opened

READ = "/system_settings/read/"


@pytest.fixture
def provider(tmp_path):
    with OidcServer(tmp_path / "provider") as provider:
        yield provider


@pytest.fixture
def house(sqlite_settings, provider, start) -> LiveServer:
    server = start(trusting(sqlite_settings, provider))
    opened(server, provider)
    return server


@pytest.fixture
def visitor(house, provider) -> Visitor:
    return Visitor(house, provider)


def refused_with(answer: httpx2.Response, status: int, code: str) -> str:
    """The words of a page that refuses somebody."""
    assert answer.status_code == status, answer.text
    assert f"<code>{code}</code>" in answer.text
    assert NAME + "=" not in answer.headers.get("set-cookie", "")
    assert SECRET not in answer.text
    return answer.text


# --- Getting in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ways", [("client_secret_basic",), ("client_secret_post",), ("private_key_jwt", "client_secret_post")]
)
def test_a_client_with_a_secret_shows_it_in_the_way_that_the_provider_knows(house, provider, visitor, ways):
    provider.sign_ins.ways = ways
    answer = visitor.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "./sign-in?kept=1")
    assert "entra:jo@example.org" in visitor.get("/portal/").text
    assert SIGN_IN not in visitor.cookies


def test_a_public_client_needs_no_secret(house, provider, visitor):
    opened(house, provider, secret=None)
    visitor.sign_in()
    assert visitor.is_in
    (asked,) = [request for request in provider.requests if request.path == TOKEN]
    assert "authorization" not in asked.headers
    assert set(asked.form) == {"grant_type", "code", "redirect_uri", "code_verifier", "client_id"}


def test_whoever_comes_in_has_the_roles_of_their_claims_and_without_any_sees_so(house, provider, visitor):
    visitor.sign_in()
    assert "no role" in visitor.get("/portal/").text
    grant(house, "Readers", READ)
    provider.claims["roles"] = ["Readers"]
    visitor.sign_in()
    assert "no role" not in visitor.get("/portal/").text
    assert visitor.get("/KeyfactorAPI/SMTP").status_code == 200


def test_somebody_gets_to_the_page_they_had_asked_for(visitor):
    assert visitor.arrive(after="outbox?state=waiting") == "./outbox?state=waiting"


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "../x", "\r\nx: y"])
def test_and_never_to_another_site(visitor, elsewhere):
    assert visitor.arrive(after=elsewhere) == "./"


def test_the_session_is_a_new_one_and_the_old_one_is_over(visitor):
    visitor.sign_in()
    first = dict(visitor.cookies)
    visitor.sign_in()
    assert visitor.cookies[NAME] != first[NAME]
    assert visitor.is_in
    visitor.cookies = first
    assert not visitor.is_in


def test_a_session_that_was_put_upon_somebody_is_not_taken_over(visitor):
    visitor.cookies[NAME] = "a-token-that-somebody-else-knows"
    visitor.sign_in()
    assert visitor.cookies[NAME] != "a-token-that-somebody-else-knows"


def test_they_come_back_to_the_public_address_when_there_is_one(sqlite_settings, provider, start):
    public = "https://mail.example.org/keyrelay/"
    server = start(replace(trusting(sqlite_settings, provider), public_url=public))
    opened(server, provider)
    answer = Visitor(server, provider).get("/portal/sign-in/with?provider=entra")
    (redirect_uri,) = parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"]
    assert redirect_uri == "https://mail.example.org/keyrelay/portal/signed-in"


def test_any_node_takes_in_whom_another_has_sent(fresh_settings, provider, start, eventually):
    settings = replace(trusting(fresh_settings, provider), public_url="https://mail.example.org")
    one, other = start(settings), start(settings)
    opened(one, provider)
    provider.apps[CLIENT] = App("https://mail.example.org/portal/signed-in", SECRET)
    visitor = Visitor(one, provider)
    eventually(lambda: "Sign in with entra" in httpx2.get(other.url + "/portal/sign-in").text)
    back = visitor.leave()
    visitor.server = other
    assert visitor.get(back.replace("https://mail.example.org", other.url)).status_code == 303
    assert visitor.is_in
    visitor.server = one
    assert visitor.is_in


@pytest.mark.parametrize("host", ["a b", "evil.example/x", "a@b", 'x"y'])
def test_a_host_that_is_none_is_no_way_back(visitor, host):
    answer = visitor.get("/portal/sign-in/with?provider=entra", host=host)
    assert answer.status_code in {400, 502}  # some are no request at all
    assert "location" not in answer.headers


def test_the_provider_of_the_settings_signs_people_in_too(sqlite_settings, provider, start):
    chosen = replace(
        trusting(sqlite_settings, provider),
        oidc_authority=provider.issuer,
        oidc_audience="api://keyrelay",
        oidc_scheme="corp",
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
    )
    server = start(chosen)
    provider.apps[CLIENT] = App(server.url + "/portal/signed-in", SECRET)
    visitor = Visitor(server, provider)
    visitor.sign_in("corp")
    assert visitor.is_in


def test_an_authorization_endpoint_may_have_a_query_of_its_own(house, provider, visitor):
    address = provider.issuer + "/authorize?tenant=a"
    provider.answers[DISCOVERY] = lambda _: says(provider.discovery | {"authorization_endpoint": address})
    location = visitor.get("/portal/sign-in/with?provider=entra").headers["location"]
    assert location.startswith(address + "&response_type=code&")


def test_nothing_of_it_is_in_the_log_or_in_the_database(house, provider, visitor, logged, database_text):
    back = visitor.leave()
    cookie = visitor.cookies[SIGN_IN]
    visitor.get(back)
    (asked,) = [request for request in provider.requests if request.path == TOKEN]
    (code,), (state,) = (parse_qs(urlsplit(back).query)[name] for name in ("code", "state"))
    kept = database_text()
    for secret in (SECRET, code, state, cookie, asked.form["code_verifier"], visitor.cookies[NAME]):
        assert secret not in logged.getvalue()
        assert secret.encode() not in kept


def test_the_cookie_of_the_way_is_for_no_script_and_for_ten_minutes(visitor):
    answer = visitor.get("/portal/sign-in/with?provider=entra")
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"path=/", "secure", "httponly", "samesite=lax", "max-age=600"}


# --- Whom it does not offer ----------------------------------------------------------------------------------


def test_only_providers_that_people_can_sign_in_through_are_offered(house, provider, visitor):
    register(house, "https://other.example.org", "machines")
    assert "Sign in with entra" in visitor.get("/portal/sign-in").text
    assert "machines" not in visitor.get("/portal/sign-in").text
    refused_with(visitor.get("/portal/sign-in/with?provider=machines"), 404, "not_found")
    house.run(lambda node: node.identity_providers.disable("entra"))
    assert "entra" not in visitor.get("/portal/sign-in").text
    refused_with(visitor.get("/portal/sign-in/with?provider=entra"), 404, "not_found")


@pytest.mark.parametrize("change", ["disable", "remove", "no client"])
def test_one_that_is_gone_meanwhile_lets_nobody_in_and_ends_its_sessions(house, provider, visitor, change):
    inside = Visitor(house, provider)
    inside.sign_in()
    back = visitor.leave()
    keeper = house.node.identity_providers
    work = {
        "disable": lambda _: keeper.disable("entra"),
        "remove": lambda _: keeper.remove("entra"),
        "no client": lambda _: keeper.set_client("entra", None, CHIEF),
    }
    house.run(work[change])
    refused_with(visitor.get(back), 403, "sign_in_refused")
    assert not inside.is_in


# --- Answers that belong to nothing --------------------------------------------------------------------------


def without_cookie(visitor: Visitor, back: str) -> str:
    visitor.cookies.clear()
    return back


def of_another_trip(visitor: Visitor, back: str) -> str:
    visitor.leave()
    return back


def cookie_twice(visitor: Visitor, back: str) -> str:
    visitor.cookies["x=y; " + SIGN_IN] = visitor.cookies[SIGN_IN]
    return back


ASTRAY: dict[str, Callable[[Visitor, str], str]] = {
    "no cookie": without_cookie,
    "another trip": of_another_trip,
    "two cookies": cookie_twice,
    "no state": lambda _, back: changed(back, state=None),
    "wrong state": lambda _, back: changed(back, state="x" * 43),
    "odd state": lambda _, back: changed(back, state="\u00e4\ud7ff"),
    "two states": lambda _, back: back + "&state=x",
    "no code": lambda _, back: changed(back, code=None),
    "empty code": lambda _, back: changed(back, code=""),
    "long code": lambda _, back: changed(back, code="x" * 8193),
    "long": lambda _, back: back + "&x=" + "x" * 20_000,
    "another issuer": lambda _, back: changed(back, iss="https://other.example.org"),
    "no issuer": lambda _, back: changed(back, iss=None),
}


@pytest.mark.parametrize("astray", ASTRAY)
def test_an_answer_that_this_browser_has_not_asked_for_is_nothing(provider, visitor, astray):
    back = ASTRAY[astray](visitor, visitor.leave())
    refused_with(visitor.get(back), 400, "sign_in_not_begun")
    assert provider.sign_ins.redeemed == []


def test_one_that_came_astray_does_not_end_the_way_of_its_own(visitor):
    back = visitor.leave()
    refused_with(visitor.get(changed(back, state="x")), 400, "sign_in_not_begun")
    visitor.get(back)
    assert visitor.is_in


def test_another_sites_page_cannot_use_up_anybodys_attempts(house, visitor):
    for _ in range(40):
        visitor.get("/portal/signed-in?state=x&code=y")
    visitor.sign_in()
    assert visitor.is_in


def test_nobody_is_signed_in_as_whoever_began(house, provider, visitor):
    """Login CSRF: the answer that somebody got for themselves is worth nothing in another browser."""
    victim = Visitor(house, provider)
    refused_with(victim.get(visitor.leave()), 400, "sign_in_not_begun")
    own = victim.leave()
    refused_with(victim.get(visitor.leave()), 400, "sign_in_not_begun")
    victim.get(own)
    assert victim.is_in


@pytest.mark.parametrize(("seconds", "begun"), [(595, True), (600, False), (-61, False)])
def test_a_way_ends_after_ten_minutes(monkeypatch, visitor, seconds, begun):
    back = visitor.leave()
    clock = SimpleNamespace(time=lambda: time.time() + seconds)
    monkeypatch.setattr("keyrelay.portal.provider_sign_in.time", clock)
    answer = visitor.get(back)
    assert (answer.status_code == 303) is begun
    if not begun:
        refused_with(answer, 400, "sign_in_not_begun")


@pytest.mark.parametrize("text", ["", "x", "a.b.c.d", "\u00e4", "0" * 4000, "{seed}.{id}.9.%"])
def test_a_cookie_that_is_none_is_none(text):
    assert round_trip.RoundTrip.read(text, time.time()) is None


@pytest.mark.parametrize("named", [True, False])
def test_two_providers_that_are_mixed_up_let_nobody_in(sqlite_settings, provider, tmp_path, start, named):
    """A code is of no use at the other one, nor gets there if they name themselves (RFC 9700 section 4.4)."""
    with OidcServer(tmp_path / "other") as other:
        for one in (provider, other):
            one.sign_ins.names_itself = named
        server = start(trusting(sqlite_settings, provider, other))
        opened(server, provider)
        opened(server, other, "corp")
        visitor = Visitor(server, provider)
        state = parse_qs(urlsplit(visitor.leave("entra")).query)["state"][0]
        foreign = changed(Visitor(server, other).leave("corp"), state=state)
        refused_with(visitor.get(foreign), *((400, "sign_in_not_begun") if named else (403, "sign_in_refused")))
        assert len(provider.sign_ins.redeemed) == (not named)
        assert other.sign_ins.redeemed == []
        assert not visitor.is_in


# --- The provider says no ------------------------------------------------------------------------------------


def test_somebody_who_says_no_is_told_so(provider, visitor):
    provider.sign_ins.changes = {"error": "access_denied", "error_description": "<script>1</script>", "code": None}
    said = refused_with(visitor.sign_in(), 403, "sign_in_denied")
    assert "cancelled" in said
    assert "script>1" not in said
    assert SIGN_IN not in visitor.cookies


def test_words_that_nobody_knows_are_not_repeated(provider, visitor):
    provider.sign_ins.changes = {"error": "buy-now-at-evil.example", "code": None}
    assert "evil" not in refused_with(visitor.sign_in(), 403, "sign_in_denied")


# --- The code --------------------------------------------------------------------------------------------------


def test_a_code_is_good_once(visitor):
    back = visitor.leave()
    kept = dict(visitor.cookies)
    visitor.get(back)
    visitor.cookies = kept
    refused_with(visitor.get(back), 403, "sign_in_refused")


def test_a_code_of_somebody_else_is_refused_because_of_pkce(house, provider, visitor):
    stolen = parse_qs(urlsplit(Visitor(house, provider).leave()).query)["code"][0]
    refused_with(visitor.get(changed(visitor.leave(), code=stolen)), 403, "sign_in_refused")


def test_guessing_codes_is_slowed_down_and_told_in_the_trail(house, provider, visitor, eventually):
    # Meanwhile some are forgiven, one a second.
    while (answer := visitor.get(changed(visitor.leave(), code="guess"))).status_code != 429:
        refused_with(answer, 403, "sign_in_refused")
        assert len(provider.sign_ins.redeemed) < 90
    assert len(provider.sign_ins.redeemed) >= 30
    said = refused_with(answer, 429, "too_many_attempts")
    assert f"Try again in {answer.headers['retry-after']} seconds" in said

    async def told(node: Any) -> bool:
        rows = await node.store.rows("SELECT details FROM audit_entry")
        return any("/portal/signed-in" in str(row) and "sign_in_refused" in str(row) for row in rows)

    eventually(lambda: house.run(told))


def test_a_wrong_client_secret_is_told_as_such_and_nobodys_guess(house, provider, visitor):
    provider.apps[CLIENT] = replace(provider.apps[CLIENT], secret="another")
    for _ in range(31):
        said = refused_with(visitor.sign_in(), 502, "identity_provider_failed")
    assert "client secret" in said
    assert "Nobody shall see" not in said


@pytest.mark.parametrize("error", ["invalid_request", "a word of its own", None])
def test_guesses_are_slowed_down_also_where_the_provider_has_another_word_for_them(provider, visitor, error):
    provider.answers[TOKEN] = Answer(404, b"") if error is None else refused(400, error, "words")
    for _ in range(90):
        answer = visitor.get(changed(visitor.leave(), code="guess"))
        if answer.status_code == 429:
            return
        refused_with(answer, 502, "identity_provider_failed")
    pytest.fail("nobody was slowed down")


HUGE = Answer(200, b'{"id_token": "' + b"x" * 70_000 + b'"}')
TROUBLE: dict[str, Any] = {
    "500": Answer(500, b"<html>An error with a secret</html>"),
    "html": page(),
    "empty": Answer(200, b""),
    "no object": says(["x"]),
    "no id token": says({"access_token": "x"}),
    "id token no text": says({"id_token": 5}),
    "redirect": redirect("https://127.0.0.1:1/"),
    "hangs up": Answer(raw=b""),
    "huge": HUGE,
    "half": Answer(200, b'{"id_token": "x"}', cut=40),
    "unknown error": refused(400, "<script>", "words"),
    "deep": Answer(200, b"[" * 60_000),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_token_endpoint_in_trouble_is_told_as_such(provider, visitor, trouble):
    back = visitor.leave()
    provider.answers[TOKEN] = TROUBLE[trouble]
    said = refused_with(visitor.get(back), 502, "identity_provider_failed")
    assert "secret</html>" not in said
    assert "<script>" not in said.replace('<script type="module"', "")


def test_a_slow_token_endpoint_is_given_up(monkeypatch, provider, visitor):
    monkeypatch.setattr(code_exchange, "_SECONDS", 0.3)
    back = visitor.leave()
    provider.answers[TOKEN] = Answer(200, b"{}", wait=5)
    began = time.monotonic()
    assert "timeout" in refused_with(visitor.get(back), 502, "identity_provider_failed")
    assert time.monotonic() - began < 4


def test_only_so_many_codes_are_redeemed_at_once(monkeypatch, visitor):
    monkeypatch.setattr("keyrelay.access.code_flow._MOST_AT_ONCE", 0)
    refused_with(visitor.sign_in(), 429, "too_many_attempts")


# --- The ID token ----------------------------------------------------------------------------------------------

Making = Callable[[OidcServer, dict[str, Any]], str]
NOW = time.time


def unsigned(provider: OidcServer, claims: dict[str, Any]) -> str:
    said = json_web.claims_of(provider.token(**claims))
    return json_web.unsigned({"alg": "none", "typ": "JWT"}, said)


def with_our_secret(provider: OidcServer, claims: dict[str, Any]) -> str:
    said = json_web.claims_of(provider.token(**claims))
    return json_web.with_secret({"alg": "HS256", "kid": provider.signing}, said, SECRET.encode())


def with_the_public_key(provider: OidcServer, claims: dict[str, Any]) -> str:
    said = json_web.claims_of(provider.token(**claims))
    pem = provider.published[provider.signing].as_pem(private=False)
    return json_web.with_secret({"alg": "HS256", "kid": provider.signing}, said, pem)


def altered(provider: OidcServer, claims: dict[str, Any]) -> str:
    head, _, signature = provider.token(**claims).split(".")
    said = json_web.claims_of(provider.token(**claims)) | {"preferred_username": "admin"}
    return f"{head}.{json_web.part(said)}.{signature}"


BAD: dict[str, Making] = {
    "no nonce": lambda p, c: p.token(**c | {"nonce": None}),
    "wrong nonce": lambda p, c: p.token(**c | {"nonce": "x" * 43}),
    "nonce no text": lambda p, c: p.token(**c | {"nonce": 5}),
    "another audience": lambda p, c: p.token(**c | {"aud": "somebody-else"}),
    "the API's audience": lambda p, c: p.token(**c | {"aud": "api://keyrelay"}),
    "no audience": lambda p, c: p.token(**c | {"aud": None}),
    "several, and not who asked": lambda p, c: p.token(**c | {"aud": [CLIENT, "other"]}),
    "asked for by another": lambda p, c: p.token(**c, azp="other"),
    "asked for by us, for another": lambda p, c: p.token(**c | {"aud": "other", "azp": CLIENT}),
    "another issuer": lambda p, c: p.token(**c, iss="https://other.example.org"),
    "no issuer": lambda p, c: p.token(**c, iss=None),
    "over": lambda p, c: p.token(**c, exp=int(NOW()) - 61),
    "without end": lambda p, c: p.token(**c, exp=None),
    "not yet": lambda p, c: p.token(**c, nbf=int(NOW()) + 120),
    "issued ahead": lambda p, c: p.token(**c, iat=int(NOW()) + 120),
    "nobody": lambda p, c: p.token(**c, sub=None, preferred_username=None),
    "control characters": lambda p, c: p.token(**c, preferred_username="a\nb"),
    "alg none": unsigned,
    "HS256 with our secret": with_our_secret,
    "HS256 with the public key": with_the_public_key,
    "altered": altered,
    "another key": lambda p, c: p.token(key=rsa_key(55), **c),
    "unknown key": lambda p, c: p.token(header={"kid": "unheard-of"}, **c),
    "a logout token": lambda p, c: p.token(header={"typ": "logout+jwt"}, **c),
    "crit": lambda p, c: p.token(header={"crit": ["x"], "x": 1}, **c),
    "no token": lambda _p, _c: "x",
    "five parts": lambda p, c: p.token(**c) + ".x.x",
    "too large": lambda p, c: p.token(**c, more="x" * 20_000),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_id_token_that_is_not_right_lets_nobody_in(house, provider, visitor, bad):
    provider.sign_ins.id_token = lambda claims: BAD[bad](provider, claims)
    said = refused_with(visitor.sign_in(), 403, "sign_in_refused")
    assert "keyrelay&#39;s log" in said or "keyrelay's log" in said
    assert SIGN_IN not in visitor.cookies


GOOD: dict[str, Making] = {
    "a list of one": lambda p, c: p.token(**c | {"aud": [CLIENT]}),
    "several, and we asked": lambda p, c: p.token(**c | {"aud": [CLIENT, "other"], "azp": CLIENT}),
    "a minute over": lambda p, c: p.token(**c, exp=int(NOW()) - 30),
    "a minute ahead": lambda p, c: p.token(**c, iat=int(NOW()) + 30),
}


@pytest.mark.parametrize("good", GOOD)
def test_one_that_is_right_does(provider, visitor, good):
    provider.sign_ins.id_token = lambda claims: GOOD[good](provider, claims)
    assert visitor.sign_in().status_code == 303
    assert visitor.is_in


def test_a_new_key_of_the_provider_is_learnt(provider, visitor):
    visitor.sign_in()
    provider.rotate()
    assert visitor.sign_in().status_code == 303


def test_keys_that_cannot_be_had_are_nobodys_guess(provider, visitor):
    provider.answers[KEYS] = Answer(503)
    assert "keys" in refused_with(visitor.sign_in(), 502, "identity_provider_failed")


# --- Discovery -------------------------------------------------------------------------------------------------

DISCOVERED: dict[str, Any] = {
    "no authorization endpoint": {"authorization_endpoint": None},
    "no token endpoint": {"token_endpoint": None},
    "plain http": {"token_endpoint": "http://login.example.org/token"},
    "plain authorization": {"authorization_endpoint": "http://127.0.0.1/authorize"},
    "script": {"authorization_endpoint": "javascript:alert(1)"},
    "header": {"authorization_endpoint": "https://a.example\r\nset-cookie: x=y"},
    "no text": {"authorization_endpoint": 5},
    "another issuer": {"issuer": "https://other.example.org"},
    "no PKCE": {"code_challenge_methods_supported": ["plain"]},
}


@pytest.mark.parametrize("wrong", DISCOVERED)
def test_a_discovery_document_that_cannot_be_used_sends_nobody_anywhere(provider, visitor, wrong):
    provider.answers[DISCOVERY] = lambda _: says(provider.discovery | DISCOVERED[wrong])
    answer = visitor.get("/portal/sign-in/with?provider=entra")
    refused_with(answer, 502, "identity_provider_failed")
    assert "location" not in answer.headers


def test_a_provider_that_is_away_is_asked_once_and_local_users_still_get_in(house, provider, visitor):
    provider.down = True
    for _ in range(5):
        refused_with(visitor.get("/portal/sign-in/with?provider=entra"), 502, "identity_provider_failed")
    assert len(provider.requests) == 1
    given = {"name": "admin", "password": ADMIN_PASSWORD}
    assert httpx2.post(f"{house.url}/portal/sign-in", data=given).status_code == 303


def test_the_endpoints_are_asked_for_once_an_hour(provider, visitor):
    visitor.sign_in()
    asked = sum(request.path == DISCOVERY for request in provider.requests)
    visitor.sign_in()
    assert sum(request.path == DISCOVERY for request in provider.requests) == asked


def test_what_is_not_said_is_what_the_standard_means():
    authority = "https://login.example.org"
    given = {"authorization_endpoint": authority + "/a", "token_endpoint": authority + "/t"}
    found = read(given, authority)
    assert (found.client_authentication, found.names_itself) == ("client_secret_basic", False)
    with pytest.raises(NotDiscovered):
        read(given | {"code_challenge_methods_supported": []}, authority)


@pytest.mark.parametrize("path", ["/portal/sign-in/with", "/portal/signed-in"])
def test_only_get_is_offered(house, path):
    assert httpx2.post(house.url + path).status_code == 405
    assert httpx2.head(house.url + path).status_code == 405
