"""The relay: looked at as a diagnosis does, without a credential, and told without its words."""

from __future__ import annotations

import pytest

from canary import leaks, new_canary
from doctoring import environment, found, looked
from keyrelay.doctor import relay as the_check
from live import ANONYMOUS, BASIC
from relaying import certificates, implicit_tls_at, running

TLS = {"UseSSL": True}


@pytest.fixture
def to(sqlite_server):
    """A profile that points to a port of this machine, and the environment of a node that trusts the relay."""

    def aim(port, body=BASIC, **more):
        sqlite_server.put_v2(body | {"Host": "localhost", "Port": port} | more).raise_for_status()
        return environment(sqlite_server.settings, CA_BUNDLE=certificates().authority)

    return aim


def test_a_relay_with_starttls_is_reached_without_signing_in(to):
    with running(starttls=True, auth=("PLAIN",)) as relay:
        found(to(relay.port), "relay", "ok", "over verified TLS")
        assert spoken(relay) <= {"EHLO", "STARTTLS", "QUIT"}
        assert "STARTTLS" in spoken(relay)


def test_a_relay_with_implicit_tls_is_reached_too(to):
    with running(implicit_tls=True, auth=("PLAIN",)) as relay, implicit_tls_at(relay.port) as port:
        found(to(port), "relay", "ok", "over verified TLS")


def test_an_anonymous_relay_without_tls_is_reached(to):
    with running() as relay:
        found(to(relay.port, ANONYMOUS), "relay", "ok", "without TLS")


def test_offline_nobody_is_connected_to(to):
    with running() as relay:
        found(to(relay.port), "relay", "skipped", "--offline", offline=True)
        assert spoken(relay) == set()


@pytest.mark.parametrize(
    ("rules", "stage", "words"),
    [
        ({"starttls": True, "certificate": "expired"}, "tls", ("expired",)),
        ({"starttls": True, "certificate": "wrong_name"}, "tls", ()),
        ({}, "tls", ("STARTTLS",)),
        ({"close": "greeting"}, "greeting", ()),
        ({"replies": {"greeting": "554 5.7.1 go away"}}, "greeting", ()),
        ({"replies": {"ehlo": "421 4.3.2 later"}}, "hello", ()),
    ],
    ids=["expired", "wrong name", "no STARTTLS", "hangs up", "turned away", "busy"],
)
def test_what_keeps_mail_from_the_relay_is_a_failure_with_its_stage_and_remedy(to, rules, stage, words):
    with running(**rules) as relay:
        finding = found(to(relay.port), "relay", "failure", f"as of the stage {stage}", *words)
    assert "keyrelay smtp test" in finding.advice


def test_a_port_on_which_nobody_listens_is_a_failure(to):
    with running() as relay:
        port = relay.port
    found(to(port), "relay", "failure", "as of the stage connect", str(port))


def test_a_name_that_is_none_is_a_failure(sqlite_server):
    sqlite_server.put_v2(ANONYMOUS | {"Host": "nowhere.example.org"}).raise_for_status()
    found(environment(sqlite_server.settings), "relay", "failure", "as of the stage resolve", "nowhere.example.org")


def test_credentials_that_would_not_be_sent_there_are_a_failure(to):
    with running(auth=("PLAIN",)) as relay:  # no TLS, and the profile does not insist on it
        environ = to(relay.port, UseSSL=False)
        found(environ, "relay", "failure")
        found(environ | {"KEYRELAY_ALLOW_INSECURE_SIGN_IN": "yes"}, "relay", "ok", "without TLS")
        assert spoken(relay) <= {"EHLO", "QUIT"}


def test_a_certificate_that_mail_does_not_need_is_a_warning(to):
    with running(starttls=True, certificate="self_signed") as relay:
        found(to(relay.port, ANONYMOUS), "relay", "warning", "cannot be verified")


def test_a_certificate_that_ends_soon_is_a_warning(to, monkeypatch):
    monkeypatch.setattr(the_check, "_SOON", 100_000)
    with running(starttls=True) as relay:
        found(to(relay.port), "relay", "warning", "certificate ends in")


def test_the_words_of_a_relay_are_never_told(to):
    secret = new_canary()
    for rules in (
        {"replies": {"greeting": f"220 {secret} ESMTP"}, "starttls": True},
        {"replies": {"greeting": f"554 5.7.1 {secret}"}},
        {"replies": {"ehlo": f"550 5.7.1 {secret}"}},
        {"replies": {"starttls": f"454 4.7.0 {secret}"}, "starttls": True},
        {"extensions": (secret, "SIZE 1000")},
        {"raw_greeting": secret.encode() * 3 + b"\r\n"},
    ):
        with running(**rules) as relay:
            finding = looked(to(relay.port), "relay")["relay"]
        assert leaks({"secret": secret}, str(finding).encode()) == [], rules


def spoken(relay):
    """The verbs that were said to it."""
    return {line.split()[0].upper() for _, line in relay.commands}
