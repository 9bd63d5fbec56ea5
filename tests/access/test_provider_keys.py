"""The keys of an identity provider: fetched once, kept while it is away, exchanged under load, from nowhere else."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bearing import CHIEF, READ, counted, furnished, grant, register, status, trusting
from keyrelay.access import discovery, key_sets, oidc
from keyrelay.access import sign_in as sign_in_module
from keyrelay.access.signatures import PublicKey
from keyrelay.network.trust import Trust
from live import LiveServer
from oidc_server import DISCOVERY, KEYS, OidcServer, rsa_key
from token_server import Answer, page, redirect, says


class Clock:
    """The time as keyrelay sees it; the test turns it on."""

    def __init__(self, server, monkeypatch) -> None:
        self.ahead = 0.0
        self._now = time.time
        server.node.bearers.key_sets._clock = lambda: time.monotonic() + self.ahead
        for module in (sign_in_module, oidc):
            monkeypatch.setattr(module, "time", self)

    def time(self) -> float:
        return self._now() + self.ahead


@pytest.fixture
def clock(house, monkeypatch):
    return Clock(house, monkeypatch)


@pytest.fixture
def verified(monkeypatch):
    return counted(monkeypatch, PublicKey, "has_signed")


@pytest.fixture
def told(logged):
    """What the log says of tokens and keys: the reason or the sentence of each line."""

    def read() -> list[str]:
        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        return [line.get("reason") or line.get("why") for line in lines if "reason" in line or "why" in line]

    return read


def until(holds, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- The provider is away ------------------------------------------------------------------------------------


def test_cached_keys_serve_while_the_provider_is_down_and_a_new_key_does_not(open_house, provider, told):
    assert status(open_house, provider.token()) == 200
    old = provider.signing
    new = provider.rotate()
    provider.down = True
    assert status(open_house, provider.token(sub="another")) == 401
    assert told()[-1] == "unknown key"
    provider.signing = old
    assert status(open_house, provider.token(sub="one more")) == 200
    provider.down, provider.signing = False, new
    open_house.node.bearers.key_sets._clock = lambda: time.monotonic() + 11
    assert status(open_house, provider.token()) == 200


def test_keys_serve_for_a_day_while_the_provider_is_down_and_no_longer(house, provider, clock, told):
    def fresh(**claims) -> str:
        return provider.token(exp=int(time.time() + 10 * 86_400), **claims)

    assert status(house, fresh()) == 200
    provider.down = True
    for hours in (0.9, 1.1, 5, 23.9):
        clock.ahead = hours * 3600
        assert status(house, fresh(sub=f"after {hours} hours")) == 200
    until(lambda: any("it ended the connection" in sentence for sentence in told()))
    clock.ahead = 24.1 * 3600
    assert status(house, fresh(sub="too late")) == 401
    assert told()[-1] == "keys unavailable"
    provider.down = False
    clock.ahead += 11
    assert status(house, fresh(sub="again")) == 200


def test_a_provider_that_was_never_reached_is_nobodys_guess_and_is_not_hammered(house, provider, clock, told):
    provider.down = True
    token = provider.token()
    assert {status(house, token) for _ in range(40)} == {401}
    assert len(provider.requests) == 1
    assert set(told()) >= {"keys unavailable"}
    provider.down = False
    clock.ahead = 11
    assert status(house, token) == 200


def test_a_decision_is_looked_at_again_when_its_keys_are(house, provider, clock, verified):
    token = provider.token(exp=int(time.time()) + 7200)
    assert [status(house, token) for _ in range(5)] == [200] * 5
    assert (len(verified), provider.looks) == (1, 1)
    clock.ahead = 3601
    assert status(house, token) == 200
    until(lambda: provider.looks == 2)
    assert [status(house, token) for _ in range(5)] == [200] * 5
    assert len(verified) == 2


# --- Keys come and go ----------------------------------------------------------------------------------------


def test_foreign_keys_make_us_look_once_in_ten_seconds(house, provider, clock):
    assert status(house, provider.token()) == 200
    foreign = [provider.token(header={"kid": f"foreign-{number}"}) for number in range(30)]
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda token: status(house, token), foreign)) <= {401, 429}
    assert provider.looks == 2
    clock.ahead = 4
    status(house, provider.token(header={"kid": "foreign"}))
    assert provider.looks == 2
    clock.ahead = 11
    status(house, provider.token(header={"kid": "foreign"}))
    assert provider.looks == 3


def test_foreign_keys_do_not_keep_good_tokens_waiting_while_the_provider_is_slow(house, provider, monkeypatch):
    monkeypatch.setattr(key_sets, "_MOST_WAITING", 5)
    monkeypatch.setattr(sign_in_module, "_WAITING", 10)
    assert status(house, provider.token()) == 200
    provider.answers[DISCOVERY] = Answer(wait=3)
    foreign = [provider.token(header={"kid": f"foreign-{number}"}) for number in range(30)]
    with ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(status, house, token) for token in foreign]
        until(lambda: sum(answer.done() for answer in answers) == 25)
        began = time.monotonic()
        assert status(house, provider.token(sub="good")) == 200
        assert time.monotonic() - began < 1
    assert {answer.result() for answer in answers} <= {401, 429}


def test_the_first_token_does_not_make_us_look_twice(house, provider):
    assert status(house, provider.token(header={"kid": "foreign"})) == 401
    assert provider.looks == 1


def test_a_provider_changes_its_keys_under_load_and_no_good_token_fails(open_house, provider):
    over, answers = threading.Event(), []

    def load(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            answers.append(status(open_house, provider.token(sub=f"{name} {number}")))

    with ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load, f"load {number}") for number in range(6)]
        first = provider.signing
        until(lambda: len(answers) > 20)
        provider.rotate()
        until(lambda: provider.looks >= 2)
        seen = len(answers)
        until(lambda: len(answers) > seen + 50)
        del provider.published[first]
        seen = len(answers)
        until(lambda: len(answers) > seen + 50)
        over.set()
        for each in loads:
            each.result()
    assert set(answers) == {200}
    assert provider.looks == 2


def test_decisions_end_when_a_look_shows_that_a_key_is_gone(open_house, provider, verified):
    old = provider.token()
    assert status(open_house, old) == 200
    stolen = provider.signing
    provider.rotate()
    del provider.published[stolen]
    assert status(open_house, old) == 200  # nobody has heard of it yet
    assert status(open_house, provider.token()) == 200  # this one makes us look
    assert status(open_house, old) == 401
    assert len(verified) == 2


def test_decisions_of_another_provider_go_on_then(sqlite_settings, provider, tmp_path, start, verified):
    with OidcServer(tmp_path / "other") as other:
        server = furnished(start(trusting(sqlite_settings, provider, other)), provider)
        register(server, other, "okta")
        grant(server, "Readers", READ, scheme="okta")
        theirs = other.token(roles=["Readers"])
        assert status(server, theirs) == status(server, provider.token()) == 200
        gone = provider.signing
        provider.rotate()
        del provider.published[gone]
        assert status(server, provider.token()) == 200
        assert len(verified) == 3
        assert status(server, theirs) == 200
        assert len(verified) == 3


def test_a_key_that_went_away_is_noticed_within_the_hour(house, provider, clock):
    token = provider.token(exp=int(time.time()) + 86_400)
    assert status(house, token) == 200
    provider.published["key-9"] = rsa_key(9)
    del provider.published["key-0"]
    clock.ahead = 3601
    until(lambda: status(house, token) == 401)


def test_a_provider_without_any_key_has_taken_all_of_them_back(house, provider, clock):
    token = provider.token(exp=int(time.time()) + 86_400)
    assert status(house, token) == 200
    provider.answers[KEYS] = says({"keys": []})
    clock.ahead = 3601
    until(lambda: status(house, token) == 401)


# --- Disabled ------------------------------------------------------------------------------------------------


def test_a_disabled_provider_lets_nobody_in_from_that_moment_on(fresh_settings, provider, start, told):
    settings = trusting(fresh_settings, provider)
    here, there = start(settings), start(settings)
    furnished(here, provider)
    token = provider.token()
    until(lambda: status(there, token) == 200)
    assert status(here, token) == 200
    here.run(lambda node: node.identity_providers.disable("ENTRA"))
    began = time.monotonic()
    assert status(here, token) == status(here, provider.token(sub="new")) == 401
    until(lambda: status(there, token) == 401, 1 + began - time.monotonic())
    assert "provider disabled" in told()
    here.run(lambda node: node.identity_providers.enable("entra", CHIEF))
    assert status(here, token) == 200


# --- A hostile provider --------------------------------------------------------------------------------------

HUGE = Answer(200, b" " * 2_000_000, {"Content-Length": str(100 * 1024 * 1024)}, hold=20)
EVIL = {
    "another issuer": (DISCOVERY, lambda p: says(p.discovery | {"issuer": "https://x.example.org"}), "issuer"),
    "an issuer with a slash": (DISCOVERY, lambda p: says(p.discovery | {"issuer": p.issuer + "/"}), "and not"),
    "no issuer": (DISCOVERY, lambda p: says({"jwks_uri": p.issuer + "/keys"}), "issuer none"),
    "an issuer that is a list": (DISCOVERY, lambda p: says(p.discovery | {"issuer": [p.issuer]}), "issuer none"),
    "no keys": (DISCOVERY, lambda p: says({"issuer": p.issuer}), "no jwks_uri"),
    "keys over plain http": (DISCOVERY, lambda p: _keys_at(p, p.issuer.replace("https", "http") + "/keys"), "https://"),
    "keys in a file": (DISCOVERY, lambda p: _keys_at(p, "file:///etc/passwd"), "https://"),
    "keys at no host": (DISCOVERY, lambda p: _keys_at(p, "https:///keys"), "https://"),
    "keys with a password": (DISCOVERY, lambda p: _keys_at(p, "https://a:b@127.0.0.1/keys"), "https://"),
    "keys with a line break": (DISCOVERY, lambda p: _keys_at(p, p.issuer + "/keys?a\r\nX-Evil: 1"), "https://"),
    "a redirect": (DISCOVERY, lambda p: redirect(p.issuer + "/elsewhere"), "redirects"),
    "a redirect to the keys": (KEYS, lambda p: redirect(p.issuer + "/elsewhere"), "redirects"),
    "100 MB": (DISCOVERY, lambda _: HUGE, "more than 256 KiB"),
    "100 MB of keys": (KEYS, lambda _: HUGE, "more than 256 KiB"),
    "nothing for long": (DISCOVERY, lambda _: Answer(wait=20), "no answer in time"),
    "keys that come slowly": (KEYS, lambda _: Answer(200, b" " * 100, cut=150, hold=20), "no answer in time"),
    "a page": (DISCOVERY, lambda _: page(), "no JSON object"),
    "a list": (DISCOVERY, lambda _: says([]), "no JSON object"),
    "deep nesting": (DISCOVERY, lambda _: Answer(200, b"[" * 100_000), "no JSON object"),
    "a failure": (DISCOVERY, lambda _: Answer(500, b"{}"), "answers 500"),
    "nothing there": (KEYS, lambda _: Answer(404), "answers 404"),
    "keys that are no list": (KEYS, lambda _: says({"keys": {"key-0": {}}}), "no list of keys"),
    "no HTTP": (DISCOVERY, lambda _: Answer(raw=b"220 smtp.example.org ESMTP\r\n"), "ended the connection"),
}


def _keys_at(provider, where: str) -> Answer:
    return says(provider.discovery | {"jwks_uri": where})


@pytest.mark.parametrize("evil", EVIL)
def test_nobody_gets_in_by_what_a_hostile_provider_answers(house, provider, told, monkeypatch, evil):
    monkeypatch.setattr(discovery, "_SECONDS", 1.0)
    path, make, words = EVIL[evil]
    provider.answers[path] = make(provider)
    provider.answers["/tenant/elsewhere"] = says(provider.discovery | {"keys": [rsa_key().as_dict(kid="key-0")]})
    began = time.monotonic()
    assert status(house, provider.token()) == 401
    assert time.monotonic() - began < 4
    assert not [request for request in provider.requests if "elsewhere" in request.path]
    sentence, reason = told()
    assert reason == "keys unavailable"
    assert words in sentence


def test_a_provider_whose_certificate_nobody_trusts_gives_no_keys(sqlite_settings, provider, start, told):
    server = furnished(start(sqlite_settings), provider)
    assert status(server, provider.token()) == 401
    assert "its certificate is from an authority that is not trusted" in told()[0]


def test_a_provider_on_this_machine_may_speak_plain_http(sqlite_settings, tmp_path, start):
    with OidcServer(tmp_path / "plain", tls=False) as plain:
        server = furnished(start(sqlite_settings), plain)
        assert status(server, plain.token()) == 200


def test_a_file_of_authorities_that_has_gone_bad_is_told_in_the_log(sqlite_settings, provider, start, told):
    server = furnished(start(trusting(sqlite_settings, provider)), provider)
    server.node.bearers.key_sets._trust = Trust(authorities=sqlite_settings.data_dir / "missing.pem").for_http
    assert status(server, provider.token()) == 401
    assert "cannot be used" in told()[0]


def test_a_server_stops_while_a_provider_is_being_asked(sqlite_settings, provider):
    server = furnished(LiveServer.start(trusting(sqlite_settings, provider)), provider)
    provider.answers[DISCOVERY] = Answer(wait=30)
    asking = threading.Thread(target=status, args=(server, provider.token()))
    asking.start()
    until(lambda: provider.requests)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    asking.join(10)
