"""``keyrelay smtp test`` prints the right cause, and a remedy that a tired administrator can follow."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from explained import assert_fit_for_people, document_of, marks

from keyrelay import cli
from keyrelay.chaos.script import Script
from keyrelay.relay import opening
from live_causes import (
    BASIC,
    RECIPIENT,
    SENDER,
    USERS,
    Endpoint,
    Scene,
    deaf,
    nobody,
    patience,
    standing,
)
from token_server import Answer, issues, page, refused

STARTTLS = Script(starttls=True)
MICROSOFT = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the "


@dataclass(frozen=True)
class Case:
    """A scene, and pieces of the sentence and of the remedy that have to be there."""

    scene: Scene
    sentence: str
    remedy: str

    def __str__(self) -> str:
        return str(self.scene)


def tls(cause: str, sentence: str, remedy: str, **more: Any) -> Case:
    rules = {"host": "localhost", "place": STARTTLS} | more
    return Case(Scene(cause=cause, stage="tls", use_ssl=True, **rules), sentence, remedy)


def says(cause: str, reply: str, sentence: str, remedy: str, *, at: str = "auth", **more: Any) -> Case:
    """A relay that says this at a stage; while signing in, over TLS."""
    stages = {"ehlo": "hello", "auth": "auth", "mail": "sender", "rcpt": "recipient", "body": "data"}
    script = Script(starttls=at == "auth", auth=("PLAIN", "XOAUTH2"), users=USERS, replies={at: reply, "helo": reply})
    rules = {"authentication": BASIC, "use_ssl": True} if at == "auth" else {}
    scene = Scene(**{"cause": cause, "stage": stages[at], "place": script} | rules | more)  # type: ignore[arg-type]
    return Case(scene, sentence, remedy)


def token(cause: str, answer: Answer, sentence: str, remedy: str, *, ends: datetime | None = None) -> Case:
    place = Script(starttls=True, auth=("XOAUTH2",), users=USERS)
    scene = Scene(cause=cause, stage="token", place=place, use_ssl=True, endpoint=Endpoint(answer, ends=ends))
    return Case(scene, sentence, remedy)


CASES = [
    Case(
        Scene(cause="connection-refused-loopback", stage="connect", place=nobody),
        "Nobody listens on port 587 of localhost",
        "check the port it listens on",
    ),
    Case(
        Scene(cause="connection-refused", stage="connect", place=nobody, host="mail.test", elsewhere={465: Script()}),
        "mail.test refused the connection: nobody listens on port 587",
        "Check Port",
    ),
    Case(
        Scene(cause="connect-timed-out", stage="connect", place=deaf, waits=True),
        "Nothing came back from localhost on port 587",
        "Ask your network team to open TCP 587 from this machine to localhost",
    ),
    Case(
        Scene(cause="port-25-blocked", stage="connect", place=deaf, port=25, waits=True),
        "block port 25",
        "Port 587 with UseSSL on",
    ),
    # The wrong mode for the port, both ways.
    tls(
        "port-speaks-starttls",
        "Port 465 of localhost begins in clear text and then offers STARTTLS",
        "Set Port to 587 and leave UseSSL on.",
        port=465,
        elsewhere={587: STARTTLS},
    ),
    tls(
        "port-speaks-clear-text",
        "Port 465 of localhost speaks clear text and offers no TLS at all.",
        "Port 587 has TLS: set Port to 587 and leave UseSSL on.",
        port=465,
        place=Script(),
        elsewhere={587: STARTTLS},
    ),
    Case(
        Scene(cause="port-speaks-tls-at-once", stage="greeting", place=Script(implicit_tls=True), port=465, waits=True),
        "Port 465 of localhost speaks TLS from the first byte, and UseSSL is off.",
        "Switch UseSSL on; leave Port at 465.",
    ),
    Case(
        Scene(
            cause="port-wants-implicit-tls",
            stage="greeting",
            place=Script(implicit_tls=True),
            port=2465,
            use_ssl=True,
            elsewhere={465: Script(implicit_tls=True)},
            waits=True,
        ),
        "Port 2465 of localhost speaks TLS from the first byte",
        "Port 465 works: set Port to 465 with UseSSL on.",
    ),
    tls(
        "starttls-not-offered",
        "UseSSL is on, and localhost offers no STARTTLS on port 587",
        "Port 465 has TLS: set Port to 465.",
        place=Script(),
        elsewhere={465: Script(implicit_tls=True)},
    ),
    # Certificates.
    tls(
        "certificate-expired",
        "A certificate of localhost has expired",
        "renew it",
        place=Script(starttls=True, certificate="expired"),
    ),
    tls(
        "certificate-chain-incomplete",
        "without the one of the authority that issued it (CN=An authority that nobody knows).",
        "KEYRELAY_CA_BUNDLE",
        place=Script(starttls=True, certificate="unknown_ca"),
    ),
    tls(
        "certificate-self-signed",
        "localhost shows a certificate that it has signed itself",
        "KEYRELAY_CA_BUNDLE",
        place=Script(starttls=True, certificate="self_signed"),
    ),
    tls(
        "certificate-for-other-name",
        "The certificate that mail.example.org shows is not for this name, but for: localhost, 127.0.0.1, ::1.",
        "Give as Host a name that stands on the certificate",
        host="mail.example.org",
    ),
    # Signing in.
    says("credentials-wrong", "535 Incorrect authentication data", "does not accept this user name", "Give both again"),
    says(
        "credentials-wrong",
        "535 5.7.8 Error: authentication failed",
        "localhost does not accept this user name and password.",
        "many relays want the whole address as user name",
    ),
    says(
        "exchange-credentials-wrong",
        "535 5.7.3 Authentication unsuccessful",
        "Exchange does not accept this user name and password.",
        "neither locked nor expired",
    ),
    says(
        "microsoft-token-refused",
        "535 5.7.3 Authentication unsuccessful",
        f"Exchange does not accept it for the mailbox {SENDER}",
        "SMTP.SendAsApp with admin consent",
        endpoint=Endpoint(),
    ),
    says(
        "microsoft-smtp-auth-off-tenant",
        MICROSOFT + "Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.",
        "switched off for the whole organisation",
        "tick Authenticated SMTP",
    ),
    says(
        "microsoft-smtp-auth-off-mailbox",
        MICROSOFT + "Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
        "switched off for this mailbox",
        "tick Authenticated SMTP",
    ),
    says(
        "microsoft-basic-off",
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        "Microsoft does not take passwords for SMTP in this organisation.",
        "Choose OAuth client credentials (RelayAuthenticationType 3).",
    ),
    says(
        "microsoft-concurrent-connections",
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
        "Exchange Online allows three",
        "It will work again when the others are done.",
    ),
    says(
        "relay-shutting-down",
        "421 4.7.0 Temporary System Problem. Try again later.",
        "localhost ended the connection while keyrelay was signing in",
        "Try again in some minutes.",
    ),
    says(
        "relay-shutting-down",
        "421 4.3.2 Service not available",
        "localhost ended the connection while keyrelay was naming the sender",
        "Try again in some minutes.",
        at="mail",
    ),
    says(
        "sign-in-temporarily-failed",
        "454 4.7.0 Temporary authentication failure",
        "localhost cannot check credentials now",
        "Try again later.",
    ),
    # The envelope and the message.
    says(
        "sign-in-required",
        "530 5.7.0 Authentication required",
        "localhost wants a sign-in, and the profile is Anonymous.",
        "Choose Basic (RelayAuthenticationType 2) with user name and password, or OAuth (3).",
        at="mail",
    ),
    says(
        "message-too-large",
        "552 5.3.4 Message size exceeds fixed limit",
        "The message is larger than localhost or the recipient takes.",
        "Send a smaller message",
        at="mail",
    ),
    says(
        "recipient-unknown",
        f"550 5.1.1 <{RECIPIENT}>: Recipient address rejected: User unknown in virtual mailbox table",
        f"There is no mailbox {RECIPIENT}, as far as localhost knows.",
        "Correct the recipient.",
        at="rcpt",
    ),
    says(
        "relay-denied",
        f"554 5.7.1 <{RECIPIENT}>: Relay access denied",
        "localhost does not pass on mail from this machine to other domains",
        "Have the relay's administrator allow this machine's address",
        at="rcpt",
    ),
    # The token endpoint.
    token(
        "token-client-refused",
        refused(400, "invalid_client", "Client authentication failed."),
        "The token endpoint 127.0.0.1 does not accept ClientId and ClientSecret.",
        "Give both again, without spaces around them.",
    ),
    token(
        "entra-secret-wrong",
        refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided."),
        "the secret's ID was copied instead of its Value",
        "copy the column Value",
    ),
    token("token-forbidden", Answer(401), "The token endpoint 127.0.0.1 refused (HTTP 401)", "Check ClientId"),
    token(
        "token-answer-is-a-page",
        page(),
        "The token endpoint 127.0.0.1 answered with a web page instead of a token.",
        "use the one that ends in /token",
    ),
    token(
        "token-already-expired",
        issues(expires_in=0),
        "The token endpoint 127.0.0.1 issued a token that has ended already: expires_in 0.",
        "Check the clocks",
    ),
    token(
        "token-certificate-dates",
        issues(),
        "The certificate of the token endpoint 127.0.0.1 is not valid today",
        "Check date and time of this machine (timedatectl).",
        ends=datetime(2020, 1, 1, tzinfo=UTC),
    ),
]


@dataclass(frozen=True)
class Typed:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(monkeypatch, capsys) -> Callable[..., Typed]:
    """``keyrelay`` as its process would run it, but in this one: names and ports lead where a scene wants."""
    app = cli.app

    def run(*arguments: str) -> Typed:
        capsys.readouterr()
        # Given its arguments, because without any it suspects that a test has forgotten them.
        monkeypatch.setattr(cli, "app", functools.partial(app, list(arguments)))
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        assert isinstance(code, int), code
        return Typed(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cause_and_its_remedy_are_printed(case, typed, keyrelay, monkeypatch, tmp_path):
    scene = case.scene
    monkeypatch.setattr(opening, "Terms", functools.partial(opening.Terms, patience=patience(scene)))
    with standing(scene, tmp_path) as (endpoint, bundle):
        given = keyrelay.environment | {"KEYRELAY_NAME_SERVERS": "none", "KEYRELAY_CA_BUNDLE": str(bundle)}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        profile = tmp_path / "profile.json"
        profile.write_text(json.dumps(document_of(scene, endpoint)))
        assert typed("smtp", "set", str(profile)).code == 0
        done = typed("smtp", "test", "--to", RECIPIENT)
    assert (done.code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    (failed,) = [line for line in lines if line.startswith("It failed at the stage ")]
    (remedy,) = [line for line in lines if line.startswith("What to do: ")]
    assert failed.startswith(f"It failed at the stage {scene.stage}. "), done.stdout
    assert case.sentence in failed
    assert case.remedy in remedy
    assert lines[-1] == f"[{scene.cause}]"
    assert lines[0] == f"Testing {scene.host}, port {scene.port}, and mail {RECIPIENT}."
    assert [stage for stage, mark in marks(lines).items() if mark == "✗"] == [scene.stage]
    assert_fit_for_people(done.stdout)
    said = [line for line in lines if line.startswith("The relay said: ")]
    replies = scene.place.replies if isinstance(scene.place, Script) else {}
    assert said == [f"The relay said: {reply}" for reply in list(replies.values())[:1]]
