"""Tokens as attackers and broken clients send them: each is refused, and for the reason that the log gives."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey

import json_web
from bearing import ask, furnished, status, trusting, who
from complaints import complaint
from keyrelay.access.admission import TokenRefused
from keyrelay.access.token_text import ALGORITHMS, take_apart
from live import LiveServer, settings_for
from oidc_server import OidcServer, rsa_key
from token_server import Answer

STRANGER = rsa_key(50)


def now() -> int:
    return int(time.time())


@pytest.fixture
def reasons(logged):
    """Why tokens were refused, as the log has it."""

    def read() -> list[str]:
        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        return [line["reason"] for line in lines if line["event"] == "token refused"]

    return read


def pem(provider) -> bytes:
    return provider.published["key-0"].as_pem(private=False)


def claims(provider):
    return json_web.claims_of(provider.token())


RIGHT = {"alg": "RS256", "typ": "JWT", "kid": "key-0"}

FOREST = {
    "no signature": ("algorithm", lambda p: json_web.unsigned({"alg": "none"}, claims(p))),
    "no signature, written otherwise": ("algorithm", lambda p: json_web.unsigned({**RIGHT, "alg": "nOnE"}, claims(p))),
    "no signature, named as one": ("signature", lambda p: json_web.unsigned(RIGHT, claims(p))),
    "the public key as a secret": (
        "algorithm",
        lambda p: json_web.with_secret({**RIGHT, "alg": "HS256"}, claims(p), pem(p)),
    ),
    "the public key as a secret, named as RS256": (
        "signature",
        lambda p: json_web.with_secret(RIGHT, claims(p), pem(p)),
    ),
    "the public key as a secret in JSON": (
        "algorithm",
        lambda p: json_web.with_secret(
            {**RIGHT, "alg": "HS256"}, claims(p), json.dumps(p.published["key-0"].as_dict()).encode()
        ),
    ),
    "an empty secret": ("algorithm", lambda p: json_web.with_secret({**RIGHT, "alg": "HS512"}, claims(p), b"")),
    "an encrypted token": ("malformed", lambda p: p.token() + ".x.y"),
    "an algorithm that is none of ours": ("algorithm", lambda p: _with_header(p, {**RIGHT, "alg": "ES256K"})),
    "an algorithm that is no text": ("algorithm", lambda p: _with_header(p, {**RIGHT, "alg": ["RS256"]})),
    "no algorithm": ("algorithm", lambda p: _with_header(p, {"kid": "key-0"})),
    "an algorithm that does not fit the key": (
        "algorithm",
        lambda p: _with_header(p, {**RIGHT, "alg": "ES256"}),
    ),
    "signed as PS256, named as RS256": (
        "signature",
        lambda p: json_web.signed(RIGHT, claims(p), p.published["key-0"], "PS256"),
    ),
    "signed by a stranger under our key's name": ("signature", lambda p: p.token(key=STRANGER)),
    "another payload under the signature": ("signature", lambda p: _changed(p, roles=["Readers", "Admins"])),
    "a cut signature": ("signature", lambda p: p.token().rpartition(".")[0] + "." + "A" * 40),
    "another issuer": ("unknown issuer", lambda p: p.token(iss="https://login.example.org/tenant")),
    "an issuer with one more slash": ("unknown issuer", lambda p: p.token(iss=p.issuer + "/")),
    "an issuer in other letters": ("unknown issuer", lambda p: p.token(iss=p.issuer.upper())),
    "no issuer": ("unknown issuer", lambda p: p.token(iss=None)),
    "a list of issuers": ("unknown issuer", lambda p: p.token(iss=[p.issuer])),
    "another audience": ("audience", lambda p: p.token(aud="api://other")),
    "other audiences": ("audience", lambda p: p.token(aud=["api://other", "api://keyrelay/"])),
    "an audience that begins alike": ("audience", lambda p: p.token(aud="api://keyrelay.example.org")),
    "no audience": ("audience", lambda p: p.token(aud=None)),
    "an audience that is an object": ("audience", lambda p: p.token(aud={"api://keyrelay": 1})),
    "audiences that are none": ("audience", lambda p: p.token(aud=[["api://keyrelay"], {}, 1, None])),
    "expired": ("expired", lambda p: p.token(exp=now() - 61)),
    "expired long ago": ("expired", lambda p: p.token(exp=0)),
    "no end": ("claims", lambda p: p.token(exp=None)),
    "an end that is text": ("claims", lambda p: p.token(exp=str(now() + 600))),
    "an end that is true": ("claims", lambda p: p.token(exp=True)),
    "an end that is a list": ("claims", lambda p: p.token(exp=[now() + 600])),
    "an end without an end": ("malformed", lambda p: _with_claims(p, '{"exp": 1e999}')),
    "an end that is no number": ("malformed", lambda p: _with_claims(p, '{"exp": NaN}')),
    "an end of many digits": ("claims", lambda p: p.token(exp=10**400)),
    "an end of too many digits": ("malformed", lambda p: _with_claims(p, '{"exp": ' + "9" * 5000 + "}")),
    "not yet valid": ("not yet valid", lambda p: p.token(nbf=now() + 120)),
    "issued in the future": ("not yet valid", lambda p: p.token(iat=now() + 120)),
    "a beginning that is text": ("claims", lambda p: p.token(nbf="now")),
    "a foreign key": ("unknown key", lambda p: p.token(header={"kid": "other"}, key=STRANGER)),
    "a path as a key": ("unknown key", lambda p: p.token(header={"kid": "../../../../etc/passwd"}, key=STRANGER)),
    "the null device as a key": (
        "algorithm",
        lambda p: json_web.with_secret({"alg": "HS256", "kid": "/dev/null"}, claims(p), b""),
    ),
    "SQL as a key": (
        "unknown key",
        lambda p: p.token(header={"kid": "key-0' UNION SELECT 'secret' -- "}, key=STRANGER),
    ),
    "an address as a key": ("unknown key", lambda p: p.token(header={"kid": "https://x.example.org/"}, key=STRANGER)),
    "a null character in a key": ("unknown key", lambda p: p.token(header={"kid": "key-0\0"})),
    "a key in other letters": ("unknown key", lambda p: p.token(header={"kid": "KEY-0"})),
    "an empty key": ("unknown key", lambda p: p.token(header={"kid": ""})),
    "a list of keys": ("malformed", lambda p: p.token(header={"kid": ["key-0"]})),
    "an object as a key": ("malformed", lambda p: p.token(header={"kid": {"key-0": 1}})),
    "a number as a key": ("malformed", lambda p: p.token(header={"kid": 0})),
    "an endless key": ("malformed", lambda p: p.token(header={"kid": "k" * 2000})),
    "a token for something else": ("type", lambda p: p.token(header={"typ": "logout+jwt"})),
    "a type that is no text": ("type", lambda p: p.token(header={"typ": {"JWT": 1}})),
    "something that must be understood": ("malformed", lambda p: p.token(header={"crit": ["exp"], "exp": 1})),
    "a payload that is not encoded": ("malformed", lambda p: p.token(header={"crit": ["b64"], "b64": False})),
    "a huge token": ("too large", lambda p: p.token(padding="x" * 13_000)),
    "a claim twice": ("malformed", lambda p: _with_claims(p, _twice(claims(p), "roles", ["Readers"]))),
    "the issuer twice": ("malformed", lambda p: _with_claims(p, _twice(claims(p), "iss", "https://x.example.org"))),
    "the algorithm twice": ("malformed", lambda p: _with_header(p, '{"alg": "none", "alg": "RS256"}')),
    "claims that are a list": ("malformed", lambda p: _with_claims(p, "[1]")),
    "claims that are text": ("malformed", lambda p: _with_claims(p, '"text"')),
    "claims that are null": ("malformed", lambda p: _with_claims(p, "null")),
    "claims that are no JSON": ("malformed", lambda p: _with_claims(p, "{")),
    "claims that are deeply nested": ("malformed", lambda p: _with_claims(p, "[" * 5000)),
    "a header that is a list": ("malformed", lambda p: "W10." + ".".join(p.token().split(".")[1:])),
    "padding": ("malformed", lambda p: p.token() + "=="),
    "a line break": ("malformed", lambda p: p.token().replace(".", ".%0a")),
    "two parts": ("malformed", lambda p: p.token().rpartition(".")[0]),
    "garbage": ("malformed", lambda p: "\xff\xfe\x80 ' OR 1=1"),
    "nothing": ("malformed", lambda p: ""),
    "dots": ("malformed", lambda p: ".."),
    "another token of the provider": ("audience", lambda p: p.token(aud="client-id-of-a-page", nonce="x")),
}  # fmt: skip


def _with_header(provider, head) -> str:
    return json_web.signed(head, claims(provider), provider.published["key-0"], "RS256")


def _with_claims(provider, text: str) -> str:
    return json_web.signed(RIGHT, text, provider.published["key-0"])


def _changed(provider, **more) -> str:
    head, _, signature = provider.token().split(".")
    return f"{head}.{json_web.part(claims(provider) | more)}.{signature}"


def _twice(members, name: str, value: object) -> str:
    return json.dumps(members)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"


@pytest.fixture(scope="module")
def forest(request, tmp_path_factory, sqlite_template):
    """A server and a provider for all of them."""
    directory = tmp_path_factory.mktemp("forest")
    settings = settings_for("sqlite", request, directory, sqlite_template)
    with OidcServer(directory / "provider") as provider:
        server = LiveServer.start(trusting(settings, provider))
        yield furnished(server, provider), provider
        server.stop()


@pytest.mark.parametrize("tree", FOREST)
def test_each_is_refused_for_its_reason(forest, reasons, tree):
    server, provider = forest
    reason, make = FOREST[tree]
    # Each from an address of its own: so many failures from one would have to wait.
    address = f"127.0.1.{1 + list(FOREST).index(tree)}"
    answer = ask(server, make(provider), address=address)
    assert complaint(answer, 401) == (
        "The token is not accepted. Get a new token from a provider that keyrelay knows; its log says why this one"
        " is refused."
    )
    assert answer.json()["ErrorCode"] == "0xA0140001"
    assert reasons() == [reason]
    assert status(server, provider.token(), address=address) == 200  # and it has spoilt nothing


def test_what_is_only_odd_is_accepted(house, provider):
    odd = {
        "a minute of skew": provider.token(exp=now() - 1, nbf=now() + 30, iat=now() + 30),
        "broken seconds": provider.token(exp=now() + 600.5, nbf=now() - 0.5),
        "several audiences": provider.token(aud=["api://other", "api://keyrelay"]),
        "an access token by its type": provider.token(header={"typ": "at+JWT"}),
        "no type": provider.token(header={"typ": None}),
        "unknown header": provider.token(header={"x-something": {"a": [1]}}),
        "unhashable claims": provider.token(groups=[{"a": 1}, ["b"], None, 7, "c"], oid={"x": 1}, azp=["y"], sub={}),
        "an end far away": provider.token(exp=10**17),
        "letters of any language": provider.token(preferred_username="Jürgen パス", groups=["Größe", "\ud800"]),
    }  # fmt: skip
    assert {name: status(house, token) for name, token in odd.items()} == dict.fromkeys(odd, 200)


def test_keys_that_a_token_brings_along_or_points_to_are_ignored(house, provider, reasons):
    mine = STRANGER.as_dict(private=False, kid="key-0")
    somewhere = provider.issuer + "/evil"
    provider.answers["/tenant/evil"] = Answer(200, json.dumps({"keys": [mine]}).encode())
    brought = (
        {"jwk": mine},
        {"jku": somewhere},
        {"x5u": somewhere},
        {"x5c": ["MIIB"]},
        {"jku": somewhere, "jwk": mine},
    )
    for more in brought:
        assert status(house, provider.token(header=more, key=STRANGER)) == 401
        assert status(house, provider.token(header={"kid": "evil", **more}, key=STRANGER)) == 401
        assert status(house, provider.token(header=more)) == 200  # a right signature is right all the same
    assert set(reasons()) == {"signature", "unknown key"}
    assert not [request for request in provider.requests if "evil" in request.path]


# --- Keys of every kind --------------------------------------------------------------------------------------

KEYS = {
    "RS256": rsa_key(1), "RS384": rsa_key(1), "RS512": rsa_key(1),
    "PS256": rsa_key(1), "PS384": rsa_key(1), "PS512": rsa_key(1),
    "ES256": ECKey.generate_key("P-256"), "ES384": ECKey.generate_key("P-384"), "ES512": ECKey.generate_key("P-521"),
    "EdDSA": OKPKey.generate_key("Ed25519"), "Ed25519": OKPKey.generate_key("Ed25519"),
    "Ed448": OKPKey.generate_key("Ed448"),
}  # fmt: skip


def test_every_algorithm_that_is_allowed_works(house, provider):
    assert KEYS.keys() == ALGORITHMS
    provider.published |= KEYS
    for algorithm, key in KEYS.items():
        token = provider.token(header={"alg": algorithm, "kid": algorithm}, key=key)
        assert status(house, token) == 200, algorithm


def test_a_key_signs_only_with_the_algorithm_that_it_is_for(house, provider, reasons):
    key = rsa_key(2)
    provider.answers["/tenant/keys"] = Answer(
        200,
        json.dumps(
            {
                "keys": [
                    key.as_dict(private=False, kid="by alg", alg="RS384", use="sig"),
                    key.as_dict(private=False, kid="no alg"),
                    key.as_dict(private=False, kid="by ops", key_ops=["verify"]),
                ]
            }
        ).encode(),
    )
    right = [("RS384", "by alg"), ("RS256", "no alg"), ("PS512", "no alg"), ("RS256", "by ops")]
    for algorithm, name in right:
        assert status(house, provider.token(header={"alg": algorithm, "kid": name}, key=key)) == 200
    assert status(house, provider.token(header={"alg": "RS256", "kid": "by alg"}, key=key)) == 401
    assert reasons() == ["algorithm"]


def test_keys_that_cannot_be_used_are_passed_over(house, provider, reasons):
    good, weak = rsa_key(3).as_dict(private=False, kid="good"), ECKey.generate_key("P-256").as_dict(private=False)
    secret = OctKey.import_key(b"s" * 32)
    odd = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        secret.as_dict(private=True, kid="key-0"),
        good | {"kid": "encrypts", "use": "enc"},
        good | {"kid": "other use", "use": "tls"},
        good | {"kid": "ops", "key_ops": ["encrypt"]},
        good | {"kid": "alg", "alg": "RSA-OAEP"},
        good | {"kid": ["a list"]},
        good | {"kid": "exponent", "e": "AQ"},
        good | {"kid": "even", "e": "Ag"},
        good | {"kid": "large exponent", "e": good["n"]},
        good | {"kid": "small", "n": "AQAB"},
        good | {"kid": "huge", "n": "A" + "Q" * 3000},
        good | {"kid": "odd", "n": "!!"},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "EC", "kid": "no curve"} | weak | {"crv": "P-999"},
        {"kid": "off the curve"} | weak | {"x": weak["y"]},
        OKPKey.generate_key("X25519").as_dict(private=False, kid="agrees"),
        ECKey.generate_key("secp256k1").as_dict(private=False, kid="coin"),
        {"kty": ["RSA"]}, {"kty": None}, [], None, 7, "RSA", {},
    ]  # fmt: skip
    provider.answers["/tenant/keys"] = Answer(200, json.dumps({"keys": [*odd, good]}).encode())
    assert status(house, provider.token(header={"kid": "good"}, key=rsa_key(3))) == 200
    assert status(house, provider.token(header={"kid": None}, key=rsa_key(3))) == 200  # the only one there is
    shared = claims(provider)
    for forged in ({"alg": "HS256", "kid": "key-0"}, {"alg": "HS256", "kid": "secret"}):
        assert status(house, json_web.with_secret(forged, shared, b"s" * 32)) == 401
    assert status(house, provider.token(header={"kid": "encrypts"}, key=rsa_key(3))) == 401
    assert reasons() == ["algorithm", "algorithm", "unknown key"]


def test_a_private_key_that_a_provider_publishes_by_mistake_is_not_taken_over(house, provider):
    whole = rsa_key(4).as_dict(private=True, kid="private")
    provider.answers["/tenant/keys"] = Answer(200, json.dumps({"keys": [whole]}).encode())
    assert status(house, provider.token(header={"kid": "private"}, key=rsa_key(4))) == 200
    kept = house.node.bearers.key_sets._sets[provider.issuer].keys[0]
    assert not kept.key.is_private
    assert "d" not in json.loads(kept.fingerprint)


def test_a_token_without_a_key_id_is_checked_only_if_there_is_one_key(house, provider, reasons):
    assert status(house, provider.token(header={"kid": None})) == 200
    provider.rotate()
    assert status(house, provider.token()) == 200
    assert status(house, provider.token(header={"kid": None})) == 401
    assert reasons() == ["no key id"]


def test_of_several_keys_with_one_id_the_one_that_fits_counts(house, provider):
    one, other = rsa_key(5), ECKey.generate_key("P-256")
    keys = [STRANGER, other, one]
    same = [key.as_dict(private=False, kid="same") for key in keys]
    provider.answers["/tenant/keys"] = Answer(200, json.dumps({"keys": same}).encode())
    assert status(house, provider.token(header={"kid": "same"}, key=one)) == 200
    assert status(house, provider.token(header={"kid": "same", "alg": "ES256"}, key=other)) == 200
    assert status(house, provider.token(header={"kid": "same"}, key=rsa_key(6))) == 401


# --- Any text ------------------------------------------------------------------------------------------------

texts = st.text(st.characters(max_codepoint=255), max_size=200)
json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
).map(json.dumps)


@settings(max_examples=300)
@given(st.one_of(texts, st.tuples(texts, texts, texts).map(".".join)))
def test_no_text_does_anything_but_be_refused(text):
    with pytest.raises(TokenRefused):
        take_apart(text)


@settings(max_examples=300)
@given(json_texts, json_texts, st.binary(max_size=40))
def test_no_json_does_anything_but_be_refused_or_taken_apart(head, body, signature):
    text = f"{json_web.part(head)}.{json_web.part(body)}.{json_web.encoded(signature)}"
    try:
        presented = take_apart(text)
    except TokenRefused:
        return
    assert presented.algorithm in ALGORITHMS


def test_whoever_gets_in_is_whom_the_provider_named(house, provider):
    assert who(house, provider.token(preferred_username="admin")) == "entra:admin"
