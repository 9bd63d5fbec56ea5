"""Tokens of the client-credentials grant, from a real token server over TLS."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import socket
import ssl
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from canary import leaks, new_canary
from keyrelay.profile.model import RequestHeader
from keyrelay.relay.model import Evidence, StageFailed
from keyrelay.relay.token import Token, TokenRequest, Tokens
from keyrelay.secrets.model import SecretText
from token_server import Answer, TokenServer, issues, page, redirect, refused, says, signed

CLIENT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def server(tmp_path):
    with TokenServer(tmp_path) as server:
        yield server


class Clock:
    """A clock that a test turns on."""

    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


def asking(server, secret="Zx9-ordinary-Qk7", **more):
    given = {"scope": "https://outlook.example/.default", "audience": None, "headers": ()} | more
    return TokenRequest(server.url, SecretText(CLIENT), SecretText(secret), **given)


def run(server, work, *, clock=None, context=None, seconds=10.0):
    """Run something with the tokens of a process, and close them."""

    async def main():
        tokens = Tokens(context or server.trust(), seconds=seconds, **({"clock": clock} if clock else {}))
        try:
            return await work(tokens)
        finally:
            await tokens.close()

    return asyncio.run(main())


def fetch(server, request=None, **more) -> Token:
    return run(server, lambda tokens: tokens.token(request or asking(server)), **more)


def evidence(server, request=None, **more) -> Evidence:
    with pytest.raises(StageFailed) as failure:
        fetch(server, request, **more)
    assert failure.value.evidence.stage == "token"
    return failure.value.evidence


# --- The request ---------------------------------------------------------------------------------------------------


def test_the_grant_the_scope_and_the_audience_are_asked_for(server):
    token = fetch(server, asking(server, audience="api://mail"))
    (request,) = server.requests
    assert token.access.reveal() == "an-opaque-token-0001"
    assert (request.method, request.path) == ("POST", "/tenant/oauth2/v2.0/token")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.form == {
        "grant_type": "client_credentials",
        "scope": "https://outlook.example/.default",
        "audience": "api://mail",
        "client_id": CLIENT,
        "client_secret": "Zx9-ordinary-Qk7",
    }


def test_what_the_profile_does_not_name_is_not_asked_for(server):
    fetch(server, asking(server, scope=None))
    assert {"scope", "audience"}.isdisjoint(server.requests[0].form)


def test_the_headers_of_the_profile_are_added_and_cannot_replace_ours(server):
    wished = {"X-Tenant": "abc", "Accept": "application/vnd.x", "Content-Type": "text/plain", "accept-encoding": "gzip"}
    fetch(server, asking(server, headers=tuple(RequestHeader(*pair) for pair in wished.items())))
    headers = server.requests[0].headers
    assert (headers["x-tenant"], headers["accept"]) == ("abc", "application/vnd.x")
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("secret", ["plain", "with space+plus%25&=:/", "käse:ключ", "{not json", '{"a": 1}'])
@pytest.mark.parametrize("way", ["client_secret_post", "client_secret_basic"])
def test_any_secret_arrives_as_it_is(server, way, secret):
    server.clients[CLIENT] = secret
    fetch(server, asking(server, secret, client_authentication=way))
    request = server.requests[0]
    assert request.way == way
    assert "client_secret" in request.form or "authorization" in request.headers
    assert ("client_secret" in request.form) == (way == "client_secret_post")


def test_a_wrong_secret_is_refused_by_the_server_of_these_tests(server):
    server.clients[CLIENT] = "another"
    assert evidence(server).detail == "invalid_client"


def test_the_endpoint_may_be_unencrypted_and_the_facts_say_so(tmp_path):
    with TokenServer(tmp_path, tls=False) as plain:
        facts = fetch(plain, context=ssl.create_default_context()).facts
    assert facts["encrypted"] is False
    assert "tls" not in facts


def test_no_proxy_and_no_password_file_of_the_environment_is_used(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fetch(server)
    assert "authorization" not in server.requests[0].headers


# --- A private key instead of a secret -----------------------------------------------------------------------------


def pem(key) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def certificate_of(key) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "keyrelay")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now)
    return builder.sign(key, hashes.SHA256())


def pem_of(certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("make", "kind", "algorithm"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), RSAKey, "RS256"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), ECKey, "ES256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), ECKey, "ES384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), ECKey, "ES512"),
        (ed25519.Ed25519PrivateKey.generate, OKPKey, "EdDSA"),
    ],
    ids=["rsa", "p-256", "p-384", "p-521", "ed25519"],
)
@pytest.mark.parametrize("as_jwk", [False, True], ids=["pem", "jwk"])
def test_a_private_key_signs_the_request(server, make, kind, algorithm, as_jwk):
    key = make()
    jwk = kind.import_key(key)
    server.clients[CLIENT] = kind.import_key(jwk.as_dict(private=False))
    secret = json.dumps({**jwk.as_dict(private=True), "kid": "key-7"}) if as_jwk else pem(key)
    fetch(server, asking(server, secret))
    (request,) = server.requests
    assert request.way == "private_key_jwt"
    assert request.assertion.header["alg"] == algorithm
    assert request.assertion.header.get("kid") == ("key-7" if as_jwk else None)
    claims = request.assertion.claims
    assert claims["iss"] == claims["sub"] == CLIENT
    assert claims["aud"] == server.url
    assert claims["exp"] - claims["iat"] == 300


def test_every_assertion_is_new(server, rsa_key):
    async def twice(tokens):
        await tokens.token(asking(server, pem(rsa_key)))
        tokens.forget(asking(server, pem(rsa_key)))
        await tokens.token(asking(server, pem(rsa_key)))

    server.clients[CLIENT] = RSAKey.import_key(rsa_key.public_key())
    run(server, twice)
    assert len({request.assertion.claims["jti"] for request in server.requests}) == 2


def test_a_jwk_may_choose_its_algorithm(server, rsa_key):
    server.clients[CLIENT] = RSAKey.import_key(rsa_key.public_key())
    members = RSAKey.import_key(rsa_key).as_dict(private=True)
    fetch(server, asking(server, json.dumps({**members, "alg": "PS256"})))
    assert server.requests[0].assertion.header["alg"] == "PS256"


@pytest.mark.parametrize("order", ["key first", "certificate first", "a chain"])
def test_the_certificate_of_the_key_is_named(server, rsa_key, order):
    certificate = certificate_of(rsa_key)
    issuer = certificate_of(ec.generate_private_key(ec.SECP256R1()))
    parts = {
        "key first": [pem(rsa_key), pem_of(certificate)],
        "certificate first": [pem_of(certificate), pem(rsa_key)],
        "a chain": [pem_of(issuer), pem_of(certificate), pem(rsa_key)],
    }
    server.clients[CLIENT] = RSAKey.import_key(rsa_key.public_key())
    fetch(server, asking(server, "".join(parts[order])))
    header = server.requests[0].assertion.header
    assert _unpadded(header["x5t"]) == certificate.fingerprint(hashes.SHA1())
    assert _unpadded(header["x5t#S256"]) == certificate.fingerprint(hashes.SHA256())


def _unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("line_break", ["\r\n", " ", "\\n", ""])
def test_a_pem_may_have_lost_its_line_breaks(server, rsa_key, line_break):
    server.clients[CLIENT] = RSAKey.import_key(rsa_key.public_key())
    both = pem(rsa_key) + pem_of(certificate_of(rsa_key))
    fetch(server, asking(server, both.strip().replace("\n", line_break)))
    assert "x5t" in server.requests[0].assertion.header


def _encrypted(key):
    how = serialization.BestAvailableEncryption(b"passphrase")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()


def _traditionally_encrypted(key):
    how, form = serialization.BestAvailableEncryption(b"pass"), serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, how).decode()


BAD_KEYS = {
    "cut off": (lambda key: pem(key)[:400], "the END line of the private key is missing"),
    "damaged": (lambda key: pem(key).replace("MII", "MIJ", 1), "the private key is damaged or of an unknown kind"),
    "encrypted": (_encrypted, "the private key is encrypted with a passphrase"),
    "encrypted the old way": (_traditionally_encrypted, "the private key is encrypted with a passphrase"),
    "two keys": (lambda key: pem(key) * 2, "there is more than one private key"),
    "another's certificate": (
        lambda key: pem(key) + pem_of(certificate_of(ec.generate_private_key(ec.SECP256R1()))),
        "the certificate belongs to another private key",
    ),
    "a damaged certificate": (
        lambda key: pem(key) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "the certificate beside the private key cannot be read",
    ),
    "too short": (
        lambda _: pem(rsa.generate_private_key(65537, 1024)),
        "an RSA key of 1024 bits is too short; providers want 2048 or more",
    ),
    "another curve": (
        lambda _: pem(ec.generate_private_key(ec.SECP256K1())),
        "a key of this kind cannot sign in; use RSA, P-256, P-384, P-521 or Ed25519",
    ),
    "a public JWK": (
        lambda key: json.dumps(RSAKey.import_key(key).as_dict(private=False)),
        "the JWK is not a private key",
    ),
    "a JWK of a secret": (lambda _: '{"kty": "oct", "k": "AAAA"}', "the JWK is not a private key"),
    "a damaged JWK": (
        lambda _: '{"kty": "EC", "crv": "P-256", "d": "AA", "x": "AA", "y": 7}',
        "the JWK is damaged or of an unknown kind",
    ),
    "a JWK with a foreign algorithm": (
        lambda key: json.dumps({**RSAKey.import_key(key).as_dict(private=True), "alg": "HS256"}),
        "the JWK names an algorithm that does not go with its key",
    ),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_cannot_be_used_is_named_and_nothing_is_sent(server, rsa_key, case):
    make, detail = BAD_KEYS[case]
    secret = make(rsa_key)
    found = evidence(server, asking(server, secret))
    assert (found.kind, found.detail) == ("bad_key", detail)
    assert server.requests == []


# --- What a token tells --------------------------------------------------------------------------------------------


def test_an_opaque_token_tells_its_type_and_life(server):
    before = datetime.now(UTC)
    token = fetch(server)
    assert timedelta(0) <= token.expires_at - before - timedelta(hours=1) < timedelta(minutes=1)
    facts = dict(token.facts)
    assert abs(facts.pop("clock_skew")) < 60
    assert facts.pop("tls").startswith("TLSv1.")
    assert facts == {
        "encrypted": True,
        "address": "127.0.0.1",
        "status": 200,
        "token_type": "Bearer",
        "format": "opaque",
        "lifetime": 3600,
        "cached": False,
    }


def test_a_jwt_tells_what_it_is_for(server):
    now = int(time.time())
    access = signed(
        aud="https://outlook.example",
        roles=["SMTP.SendAsApp"],
        tid="the-tenant",
        appid=CLIENT,
        iss="https://sts.example/the-tenant/",
        iat=now - 300,
        exp=now + 3600,
    )
    server.answer = issues(access, None)
    token = fetch(server)
    assert token.access.reveal() == access
    assert token.expires_at == datetime.fromtimestamp(now + 3600, UTC)
    facts = token.facts
    assert facts["format"] == "jwt"
    assert facts["audience"] == ["https://outlook.example"]
    assert facts["roles"] == ["SMTP.SendAsApp"]
    assert (facts["tenant"], facts["app_id"]) == ("the-tenant", CLIENT)
    assert facts["issuer"] == "https://sts.example/the-tenant/"
    assert facts["issued_at"] == datetime.fromtimestamp(now - 300, UTC).isoformat()
    assert facts["expires_at"] == datetime.fromtimestamp(now + 3600, UTC).isoformat()
    assert abs(facts["clock_skew"]) < 60, "Microsoft dates tokens back, which is no wrong clock"
    json.dumps(facts)


@pytest.mark.parametrize(
    ("claims", "members"),
    [
        ({"scp": "Mail.Send SMTP.Send"}, {}),
        ({"scope": ["Mail.Send", "SMTP.Send"]}, {}),
        ({}, {"scope": "Mail.Send SMTP.Send"}),
    ],
)
def test_scopes_are_read_in_every_spelling(server, claims, members):
    server.answer = issues(signed(**claims), **members)
    assert fetch(server).facts["scopes"] == ["Mail.Send", "SMTP.Send"]


@pytest.mark.parametrize("skew", [-900, 900])
def test_a_wrong_clock_shows_in_the_date_of_the_answer(server, skew):
    theirs = format_datetime(datetime.now(UTC) - timedelta(seconds=skew), usegmt=True)
    server.answer = says({"access_token": "a-token", "token_type": "bearer"}, date=theirs)
    assert abs(fetch(server).facts["clock_skew"] - skew) < 60


def test_a_token_from_the_future_shows_that_our_clock_is_behind(server):
    members = {"access_token": signed(iat=int(time.time()) + 900), "token_type": "bearer"}
    server.answer = says(members, date="")
    assert abs(fetch(server).facts["clock_skew"] + 900) < 60


def test_a_token_that_is_dated_back_says_nothing_of_our_clock(server):
    members = {"access_token": signed(iat=int(time.time()) - 900), "token_type": "bearer"}
    server.answer = says(members, date="")
    assert "clock_skew" not in fetch(server).facts


@pytest.mark.parametrize("life", ["3600", 3600.0, " 3600 "])
def test_a_life_may_be_written_as_text(server, life):
    server.answer = issues(expires_in=life)
    assert fetch(server).facts["lifetime"] == 3600


def test_a_life_beyond_all_measure_is_no_trouble(server):
    server.answer = issues(expires_in=10**300)
    assert fetch(server).expires_at - datetime.now(UTC) < timedelta(days=366)


def test_a_token_without_an_end_has_none(server):
    server.answer = issues(expires_in=None)
    assert fetch(server).expires_at is None


def test_a_missing_token_type_is_forgiven(server):
    server.answer = says({"access_token": "a-token"})
    assert fetch(server).facts["token_type"] is None


# --- Answers that are none -----------------------------------------------------------------------------------------


def _ago(seconds):
    return int(time.time()) - seconds


NOT_TOKENS = {
    "invalid_client": (
        lambda: refused(400, "invalid_client", "AADSTS7000215: Wrong one.\r\nTrace ID: 1"),
        "status",
        "invalid_client AADSTS7000215",
    ),
    "401": (lambda: refused(401), "status", "invalid_client"),
    "403": (lambda: refused(403, "access_denied", "No."), "status", "access_denied"),
    "a code of its own": (lambda: refused(400, "E0000011"), "status", "E0000011"),
    "a code that is none": (lambda: says({"error": {"code": 7}}, 400), "status", ""),
    "429": (lambda: refused(429, "slow_down", retry_after="17"), "status", "slow_down"),
    "503": (lambda: Answer(503, b"busy", {"Retry-After": "17"}), "status", "text that is no JSON"),
    "an HTML 404": (lambda: page(404), "status", "an HTML page"),
    "an HTML 502": (lambda: page(502), "status", "an HTML page"),
    "201": (lambda: says({"access_token": "a-token"}, 201), "status", ""),
    "an HTML 200": (page, "not_json", "an HTML page"),
    "an XML 200": (lambda: Answer(200, b"<a/>", {}), "not_json", "an XML document"),
    "nothing": (lambda: Answer(200), "not_json", "an empty answer"),
    "text": (lambda: Answer(200, b"access_token=1"), "not_json", "text that is no JSON"),
    "a list": (lambda: says([1]), "not_json", "JSON that is no object"),
    "deep JSON": (lambda: Answer(200, b"[" * 60_000), "not_json", "text that is no JSON"),
    "long numbers": (lambda: Answer(200, b'{"a":' + b"9" * 9000 + b"}"), "not_json", "text that is no JSON"),
    "compressed": (lambda: Answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"}), "not_json", "a compressed answer"),
    "huge": (lambda: says({"access_token": "a" * 70_000}), "not_json", "an answer of more than 64 KiB"),
    "not HTTP": (lambda: Answer(raw=b"220 mail.example ESMTP\r\n\r\n"), "not_json", "no HTTP answer"),
    "redirected": (lambda: redirect("https://other.example/token?x=1"), "redirected", "https://other.example/token"),
    "redirected by 302": (lambda: redirect("/elsewhere", 302), "redirected", "/elsewhere"),
    "no access_token": (lambda: says({"token_type": "bearer"}), "no_token", "no access_token"),
    "an empty access_token": (lambda: issues(""), "no_token", "no access_token"),
    "a number": (lambda: says({"access_token": 7}), "no_token", "no access_token"),
    "an error with 200": (lambda: refused(200, "invalid_scope"), "no_token", "invalid_scope"),
    "another type": (lambda: issues(token_type="mac"), "no_token", "token_type mac"),
    "a type that is no text": (lambda: issues(token_type=7), "no_token", "token_type is no text"),
    "a line break": (lambda: issues("a\r\nb"), "no_token", "the access_token holds characters that no token has"),
    "a space": (lambda: issues("a b"), "no_token", "the access_token holds characters that no token has"),
    "a letter": (lambda: issues("é"), "no_token", "the access_token holds characters that no token has"),
    "ends at once": (lambda: issues(expires_in=0), "token_expired", "expires_in 0"),
    "has ended": (lambda: issues(expires_in=-60), "token_expired", "expires_in -60"),
    "ends some time": (lambda: issues(expires_in="soon"), "token_expired", "expires_in that is no number"),
    "ends in a list": (lambda: issues(expires_in=[1]), "token_expired", "expires_in that is no number"),
    "an ended JWT": (lambda: issues(signed(exp=1.7e9)), "token_expired", "it ended at 2023-11-14T22:13:20+00:00"),
    "closed at once": (lambda: Answer(raw=b""), "closed", ""),
    "closed in the head": (lambda: replace(issues(), cut=20), "closed", ""),
    "closed in the body": (lambda: replace(issues(), cut=-5), "closed", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_TOKENS)
def test_an_answer_without_a_token_says_why(server, case):
    make, kind, detail = NOT_TOKENS[case]
    server.answer = make()
    found = evidence(server)
    assert (found.kind, found.detail) == (kind, detail)
    assert len(server.requests) == 1, "a redirect is not followed, and nothing is tried again"
    json.dumps(found.facts)


def test_a_refusal_carries_what_the_provider_said(server):
    server.answer = refused(429, "slow_down", "Not so fast.\r\nTrace ID: 1\x1b[31m" + "x" * 900, retry_after="17")
    facts = evidence(server).facts
    assert (facts["status"], facts["error"], facts["retry_after"]) == (429, "slow_down", "17")
    assert facts["error_description"].startswith("Not so fast.  Trace ID: 1 [31mxxx")
    assert len(facts["error_description"]) == 300


def test_an_ended_token_shows_that_the_clocks_differ(server):
    clock = Clock()
    clock.ahead = timedelta(hours=2)
    server.answer = issues(signed(exp=_ago(-3600)))
    found = evidence(server, clock=clock)
    assert found.kind == "token_expired"
    assert abs(found.facts["clock_skew"] - 7200) < 60


@hypothesis_settings(max_examples=60)
@given(
    members=st.dictionaries(
        st.sampled_from(["access_token", "token_type", "expires_in", "error", "error_description", "scope"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
        | st.just("bearer") | st.dictionaries(st.text(), st.integers(), max_size=1),
    ),
    claims=st.none() | st.dictionaries(
        st.sampled_from(["aud", "roles", "scp", "exp", "iat", "iss", "tid", "azp"]),
        st.none() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers(), max_size=3),
    ),
    status=st.sampled_from([200, 200, 400, 500, 302]),
)  # fmt: skip
def test_whatever_is_answered_is_a_token_or_a_reason(members, claims, status):
    from keyrelay.relay.token_answer import read
    from keyrelay.relay.token_request import Answer as Answered

    if claims is not None:
        members = members | {"access_token": signed(**claims)}
    now = datetime.now(UTC)
    body = json.dumps(members).encode()
    try:
        facts = read(Answered(status, {"date": "rubbish"}, body, now, now, {}, (SecretText("Zx9-ordinary-Qk7"),))).facts
    except StageFailed as failure:
        facts = failure.evidence.facts
    assert all(character.isprintable() for character in json.dumps(facts))


# --- Endpoints that do not answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_slow_endpoint_is_given_up_in_time(server, loop):
    async def main():
        tokens = Tokens(server.trust(), seconds=0.3)
        with pytest.raises(StageFailed) as failure:
            await tokens.token(asking(server))
        await tokens.close()
        return failure.value.evidence

    server.answer = replace(issues(), wait=60)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=loop) as runner:
        found = runner.run(main())
    assert found.kind == "timeout"
    assert found.facts["address"] == "127.0.0.1", "it was reached"
    assert time.monotonic() - began < 30


def test_an_endpoint_that_stops_in_the_middle_is_given_up_in_time(server):
    server.answer = replace(issues(), cut=-5, hold=60)
    assert evidence(server, seconds=0.5).kind == "timeout"


def test_a_port_where_nobody_listens_is_refused(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}/token"
        found = evidence(server, replace(asking(server), endpoint=url))
    assert found.kind == "refused"
    assert "address" not in found.facts


def test_a_name_that_does_not_exist_is_unknown(server, monkeypatch):
    def no_such_name(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    found = evidence(server, replace(asking(server), endpoint="https://login.example.invalid/token"))
    assert found.kind == "name_unknown"


@pytest.mark.parametrize("host", ["a" * 70 + ".example", ".example", "exa mple", "[::1", "a..b", "xn--a"])
def test_a_host_that_can_be_none_is_unknown(server, host):
    found = evidence(server, replace(asking(server), endpoint=f"https://{host}/token"))
    assert found.kind == "name_unknown"


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"names": ("other.example",)}, "name_mismatch"),
        ({"ends": datetime(2020, 1, 1, tzinfo=UTC)}, "expired"),
    ],
    ids=["another name", "expired"],
)
def test_a_certificate_that_will_not_do_is_named(tmp_path, options, kind, loop):
    async def main(server):
        tokens = Tokens(server.trust())
        try:
            await tokens.token(asking(server))
        except StageFailed as failure:
            return failure.evidence
        finally:
            await tokens.close()

    with TokenServer(tmp_path, **options) as server, asyncio.Runner(loop_factory=loop) as runner:
        found = runner.run(main(server))
        assert found.kind == kind
        assert server.requests == [], "the secret is not sent before the other side is known"


def test_a_certificate_of_an_unknown_authority_is_refused(server):
    found = evidence(server, context=ssl.create_default_context())
    assert found.kind == "unknown_issuer"
    assert server.requests == []


def test_an_endpoint_that_wants_a_certificate_of_ours_is_understood(server):
    """With TLS 1.3, and after we have sent the request; TLS 1.2 has no word for it."""
    context = server._context
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse():
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.settimeout(20)
            with suppress(ssl.SSLError):
                context.wrap_socket(connection.dup(), server_side=True)
            connection.shutdown(socket.SHUT_WR)  # closing with unread bytes would overtake the alert
            while connection.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        request = replace(asking(server), endpoint=f"https://127.0.0.1:{listener.getsockname()[1]}/token")
        found = evidence(server, request)
        thread.join(20)
    assert found.kind == "client_certificate"


def test_an_endpoint_without_tls_is_told_from_one_that_fails(tmp_path):
    with TokenServer(tmp_path, tls=False) as plain:
        request = replace(asking(plain), endpoint=plain.url.replace("http:", "https:"))
        assert evidence(plain, request, context=ssl.create_default_context()).kind == "not_tls"


# --- Keeping, renewing, sharing ------------------------------------------------------------------------------------


def test_a_hundred_callers_make_one_request(server):
    async def together(tokens):
        return await asyncio.gather(*(tokens.token(asking(server)) for _ in range(100)))

    server.answer = replace(issues(), wait=0.1)
    found = run(server, together)
    assert len(server.requests) == 1
    assert {token.access.reveal() for token in found} == {"an-opaque-token-0001"}


def test_a_hundred_callers_share_one_failure_and_the_next_asks_again(server):
    async def together(tokens):
        failures = await asyncio.gather(*(tokens.token(asking(server)) for _ in range(100)), return_exceptions=True)
        assert len(server.requests) == 1
        server.answer = issues()
        return failures, await tokens.token(asking(server))

    server.answer = replace(refused(), wait=0.1)
    failures, token = run(server, together)
    assert all(isinstance(failure, StageFailed) for failure in failures)
    assert len({id(failure) for failure in failures}) == 100, "each has a traceback of its own"
    assert token.facts["cached"] is False


def test_a_kept_token_is_used_again_and_says_so(server):
    async def twice(tokens):
        return [await tokens.token(asking(server)), await tokens.token(asking(server))]

    first, second = run(server, twice)
    assert len(server.requests) == 1
    assert (first.facts["cached"], second.facts["cached"]) == (False, True)
    assert second.access == first.access


DIFFERENT = {
    "endpoint": lambda request: replace(request, endpoint=request.endpoint + "?v=2"),
    "client_id": lambda request: replace(request, client_id=SecretText("another")),
    "client_secret": lambda request: replace(request, client_secret=SecretText("another")),
    "scope": lambda request: replace(request, scope="another"),
    "audience": lambda request: replace(request, audience="another"),
    "headers": lambda request: replace(request, headers=(RequestHeader("X-A", "1"),)),
    "client_authentication": lambda request: replace(request, client_authentication="client_secret_basic"),
}


@pytest.mark.parametrize("part", DIFFERENT)
def test_a_token_serves_no_other_request(server, part):
    async def both(tokens):
        await tokens.token(asking(server))
        await tokens.token(DIFFERENT[part](asking(server)))

    run(server, both)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("life", "used_until"), [(3600, 3300), (600, 540), (None, 540)], ids=["an hour", "ten minutes", "unknown"]
)
def test_a_token_is_renewed_before_it_ends(server, life, used_until):
    async def later(tokens):
        await tokens.token(asking(server))
        clock.ahead = timedelta(seconds=used_until - 20)
        await tokens.token(asking(server))
        assert len(server.requests) == 1
        clock.ahead = timedelta(seconds=used_until + 1)
        return await tokens.token(asking(server))

    clock = Clock()
    server.answer = issues(expires_in=life)
    assert run(server, later, clock=clock).facts["cached"] is False
    assert len(server.requests) == 2


def test_the_old_token_is_used_to_its_end_when_it_cannot_be_renewed(server, caplog):
    async def later(tokens):
        old = await tokens.token(asking(server))
        server.answer = refused(503, "temporarily_unavailable")
        clock.ahead = timedelta(seconds=3400)
        again = [await tokens.token(asking(server)) for _ in range(5)]
        assert [token.access for token in again] == [old.access] * 5
        assert len(server.requests) == 2, "a provider that is down does not delay every caller"
        clock.ahead = timedelta(seconds=3440)
        await tokens.token(asking(server))
        assert len(server.requests) == 3, "and is asked again after a while"
        clock.ahead = timedelta(seconds=3601)
        with pytest.raises(StageFailed):
            await tokens.token(asking(server))

    clock = Clock()
    run(server, later, clock=clock)
    assert [record.message for record in caplog.records if record.name.startswith("keyrelay")] == [
        "A token could not be renewed; the old one is used until it ends"
    ] * 2


def test_a_failed_renewal_does_not_stretch_a_life(server):
    async def later(tokens):
        await tokens.token(asking(server))
        server.answer = refused(503)
        clock.ahead = timedelta(seconds=3590)
        await tokens.token(asking(server))
        clock.ahead = timedelta(seconds=3605)
        with pytest.raises(StageFailed):
            await tokens.token(asking(server))

    clock = Clock()
    run(server, later, clock=clock)


def test_a_forgotten_token_is_asked_for_anew(server):
    async def again(tokens):
        await tokens.token(asking(server))
        tokens.forget(asking(server, "another"))
        await tokens.token(asking(server))
        assert len(server.requests) == 1
        tokens.forget(asking(server))
        server.answer = issues("the-second-token")
        return await tokens.token(asking(server))

    assert run(server, again).access.reveal() == "the-second-token"


def test_a_caller_that_goes_away_does_not_take_the_request_along(server):
    async def one_leaves(tokens):
        leaving = asyncio.create_task(tokens.token(asking(server)))
        staying = asyncio.create_task(tokens.token(asking(server)))
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    server.answer = replace(issues(), wait=0.3)
    assert run(server, one_leaves).access.reveal() == "an-opaque-token-0001"
    assert len(server.requests) == 1


def test_closing_ends_what_is_under_way_and_leaves_no_task(server):
    async def main():
        tokens = Tokens(server.trust())
        waiting = asyncio.create_task(tokens.token(asking(server)))
        while not server.requests:  # noqa: ASYNC110 - it lives in another thread
            await asyncio.sleep(0.01)
        await tokens.close()
        with pytest.raises(StageFailed, match="closed"):
            await waiting
        with pytest.raises(StageFailed, match="closed"):
            await tokens.token(asking(server))
        return asyncio.all_tasks() - {asyncio.current_task()}

    server.answer = replace(issues(), wait=60)
    assert asyncio.run(main()) == set()


def test_what_is_kept_has_a_bound(server):
    from keyrelay.relay import token as module

    async def many(tokens):
        for number in range(5):
            await tokens.token(asking(server, scope=str(number)))
        assert len(tokens._kept) == 3
        await tokens.token(asking(server, scope="4"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_KEPT", 3)
        run(server, many)
    assert len(server.requests) == 5


def test_the_trust_may_be_made_anew_for_each_request(server):
    made = []

    def trust():
        made.append(1)
        return server.trust()

    async def twice(tokens):
        await tokens.token(asking(server))
        tokens.forget(asking(server))
        await tokens.token(asking(server))

    run(server, twice, context=trust)
    assert len(made) == 2


# --- Secrets -------------------------------------------------------------------------------------------------------


@contextmanager
def everything_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        for name in ("httpx2", "httpcore2", "asyncio"):
            caplog.set_level(logging.DEBUG, logger=name)
        yield


def _echo(request):
    """All that was sent, in the clear and as it was coded, where a provider's words stand."""
    said = " ".join([*request.form.values(), request.body.decode(), request.headers.get("authorization", "")])
    return refused(400, said[:200], f"AADSTS7000215: {said}")


ECHOES = {
    "a description": _echo,
    "a header": lambda request: refused(429, retry_after=request.form.get("client_secret", "1")),
    "a place": lambda request: redirect("https://x.example/" + request.form.get("client_secret", "")),
    "a type": lambda request: issues(token_type=request.form.get("client_secret", "x")),
    "a claim": lambda request: issues(signed(aud=request.form.get("client_secret", "x"), exp=_ago(60))),
}


@pytest.mark.parametrize("way", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("case", ECHOES)
def test_a_provider_that_repeats_the_secret_does_not_get_it_shown(server, case, way):
    secret = new_canary()
    server.answer = ECHOES[case]
    with pytest.raises(StageFailed) as failure:
        fetch(server, asking(server, secret, client_authentication=way))
    shown = _all_of(failure.value)
    assert leaks({"secret": secret}, shown.encode()) == []


def test_a_provider_that_repeats_the_assertion_does_not_get_it_shown(server, rsa_key):
    server.answer = lambda request: refused(400, description=request.form["client_assertion"][-200:])
    with pytest.raises(StageFailed) as failure:
        fetch(server, asking(server, pem(rsa_key)))
    shown = _all_of(failure.value)
    assert "error_description" in shown
    signature = server.requests[0].form["client_assertion"].rpartition(".")[2]
    assert leaks({"signature": signature, "key": pem(rsa_key).split("\n")[3]}, shown.encode()) == []


def test_a_provider_that_repeats_the_sign_in_header_does_not_get_it_shown(server):
    """Coded twice: what is special in a URL is escaped before base64."""
    server.answer = lambda request: refused(401, description=request.headers["authorization"])
    found = evidence(server, asking(server, "+/" + new_canary() + "&%", client_authentication="client_secret_basic"))
    assert found.facts["error_description"] == "Basic …"


def test_a_provider_that_repeats_the_token_does_not_get_it_shown(server):
    token = new_canary()
    server.answer = issues(token, token_type="Bearer", scope=f"a {token} b")
    assert leaks({"token": token}, json.dumps(dict(fetch(server).facts)).encode()) == []


@pytest.mark.parametrize("way", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("ends", ["a token", "a refusal", "a hang-up", "a time-out"])
def test_no_secret_is_logged_shown_or_kept_by_an_error(server, caplog, way, ends):
    planted = {"secret": new_canary(), "token": new_canary()}
    answers = {"a token": issues(planted["token"]), "a refusal": refused(), "a hang-up": Answer(raw=b"")}
    server.answer = answers.get(ends, replace(issues(), wait=60))
    request = asking(server, planted["secret"], client_authentication=way)

    async def ask(tokens):
        try:
            shown = repr(await tokens.token(request))
        except StageFailed as failure:
            shown = _all_of(failure)
        return shown + repr(request) + repr(vars(tokens)) + repr(list(tokens._kept))

    with everything_logged(caplog):
        shown = run(server, ask, seconds=0.3 if ends == "a time-out" else 10)
    assert server.requests
    assert any(record.name.startswith("httpcore2") for record in caplog.records), "they were listened to"
    assert leaks(planted, (shown + caplog.text).encode()) == []


def _all_of(failure) -> str:
    """An exception as it shows itself, and every one that hangs on it."""
    parts = []
    while failure is not None:
        parts += [str(failure), repr(failure), repr(vars(failure))]
        failure = failure.__cause__ or failure.__context__
    return "".join(parts)


def test_an_error_does_not_carry_the_request_along(server):
    found = []
    try:
        fetch(server, asking(server, "Zx9-ordinary-Qk7"), context=ssl.create_default_context())
    except StageFailed as failure:
        found = [failure.__cause__, failure.__context__]
    assert found == [None, None]


def test_the_token_server_of_the_tests_closes_what_it_has_just_accepted(tmp_path):
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        for _ in range(20):
            with ExitStack() as clients, TokenServer(tmp_path, tls=False) as server:
                for _ in range(3):
                    clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        gc.collect()
    assert [str(warning.message) for warning in left_open] == []
