"""AUTH as the chaos relay does it: PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER, accepted and refused."""

from __future__ import annotations

import base64
import json
import smtplib

import pytest

ALL = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
USERS = {"mailer@a.test": "password-or-token"}
RULES = {"auth": ALL, "users": USERS, "require_auth": True}


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def plain(secret: str = "password-or-token") -> str:
    return coded(f"\0mailer@a.test\0{secret}")


def xoauth2(token: str = "password-or-token") -> str:
    return coded(f"user=mailer@a.test\x01auth=Bearer {token}\x01\x01")


def oauthbearer(token: str = "password-or-token") -> str:
    return coded(f"n,a=mailer@a.test,\x01host=mail.test\x01port=587\x01auth=Bearer {token}\x01\x01")


DIALOGUES = {
    "plain at once": [f"AUTH PLAIN {plain()}"],
    "plain when asked": ["AUTH PLAIN", plain()],
    "login": ["AUTH LOGIN", coded("mailer@a.test"), coded("password-or-token")],
    "login with the user at once": [f"AUTH LOGIN {coded('mailer@a.test')}", coded("password-or-token")],
    "xoauth2 at once": [f"AUTH XOAUTH2 {xoauth2()}"],
    "xoauth2 when asked": ["AUTH XOAUTH2", xoauth2()],
    "oauthbearer at once": [f"AUTH OAUTHBEARER {oauthbearer()}"],
    "oauthbearer when asked": ["AUTH OAUTHBEARER", oauthbearer()],
    "in small letters": [f"auth plain {plain()}"],
}


@pytest.mark.parametrize("dialogue", DIALOGUES.values(), ids=DIALOGUES)
def test_each_mechanism_signs_in_with_and_without_an_initial_response(relay, talk, dialogue):
    server = relay(**RULES)
    client = talk(server)
    assert "AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in client.hello()
    assert client.ask("MAIL FROM:<a@b.test>").startswith("530 5.7.0")
    for line in dialogue[:-1]:
        assert client.ask(line).startswith("334 ")
    assert client.ask(dialogue[-1]).startswith("235 ")
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("503")
    assert client.message().startswith("250")
    assert server.messages[0].user == "mailer@a.test"
    assert [line for _, line in server.commands if line in dialogue][: len(dialogue)] == dialogue


def test_an_ordinary_client_signs_in(relay):
    server = relay(**RULES)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.login("mailer@a.test", "password-or-token")
        client.sendmail("a@b.test", ["c@d.test"], "x")
    assert server.messages[0].user == "mailer@a.test"
    assert server.mistakes == []


def test_those_may_sign_in_too_whom_the_script_admits(relay, talk):
    server = relay(**{**RULES, "admits": lambda user, secret: (user, secret) == ("guest", "ticket")})
    for user, secret, code in [("guest", "ticket", "235"), ("guest", "forged", "535"), ("nobody", "ticket", "535")]:
        client = talk(server)
        client.hello()
        assert client.ask(f"AUTH PLAIN {coded(chr(0) + user + chr(0) + secret)}")[:3] == code
    client = talk(server)
    client.hello()
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("235")


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([f"AUTH PLAIN {plain('wrong')}"], "535 5.7.8"),
        ([f"AUTH LOGIN {coded('nobody')}", coded("x")], "535 5.7.8"),
        ([f"AUTH PLAIN {coded(chr(0) + 'mailer@a.test' + chr(0))}"], "535 5.7.8"),
        ([f"AUTH LOGIN {coded('nobody')}", "*"], "501 5.0.0"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH CRAM-MD5"], "504 5.5.4"),
    ],
)
def test_who_does_not_fit_is_refused_and_may_try_again(relay, talk, lines, reply):
    client = talk(relay(**RULES))
    client.hello()
    for line in lines[:-1]:
        client.ask(line)
    assert client.ask(lines[-1]).startswith(reply)
    assert client.ask("MAIL FROM:<a@b.test>").startswith("530")
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("235")


def test_a_token_is_refused_by_a_challenge_that_says_why(relay, talk):
    client = talk(relay(**RULES))
    client.hello()
    code, _, challenge = client.ask(f"AUTH XOAUTH2 {xoauth2('expired')}").partition(" ")
    refusal = json.loads(base64.b64decode(challenge))
    assert (code, refusal["status"], refusal["schemes"]) == ("334", "401", "Bearer")
    assert client.ask("").startswith("535 5.7.3")
    code, _, challenge = client.ask(f"AUTH OAUTHBEARER {oauthbearer('expired')}").partition(" ")
    assert (code, json.loads(base64.b64decode(challenge))["status"]) == ("334", "invalid_token")
    assert client.ask("AQ==").startswith("535 5.7.3")


@pytest.mark.parametrize(
    ("mechanism", "message", "last"), [("XOAUTH2", xoauth2("x"), "AQ=="), ("OAUTHBEARER", oauthbearer("x"), "")]
)
def test_the_challenge_has_one_right_response(relay, talk, mechanism, message, last):
    client = talk(relay(**RULES))
    client.hello()
    assert client.ask(f"AUTH {mechanism} {message}").startswith("334 ")
    assert client.ask(last).startswith("501 5.5.2")


@pytest.mark.parametrize(
    "message", ["user=a\x01auth=Bearer x\x01", "auth=Bearer x\x01\x01", "n,,\x01auth=Basic x\x01\x01"]
)
def test_a_token_message_in_another_form_is_a_mistake(relay, talk, message):
    for mechanism in ("XOAUTH2", "OAUTHBEARER"):
        client = talk(relay(**RULES))
        client.hello()
        assert client.ask(f"AUTH {mechanism} {coded(message)}").startswith("501 5.5.2")


def test_a_scripted_verdict_needs_no_challenge_before_it(relay, talk):
    for dialogue in DIALOGUES.values():
        client = talk(relay(auth=ALL, replies={"auth": "535 5.7.139 Authentication unsuccessful, basic is disabled"}))
        client.hello()
        for line in dialogue[:-1]:
            assert client.ask(line).startswith("334")
        assert client.ask(dialogue[-1]).startswith("535 5.7.139")


def test_a_scripted_welcome_takes_anybody(relay, talk):
    server = relay(auth=ALL, require_auth=True, replies={"auth": "235 2.7.0 come in"})
    client = talk(server)
    client.hello()
    assert client.ask(f"AUTH PLAIN {plain('whatever')}") == "235 2.7.0 come in"
    client.message()
    assert server.messages[0].user == "mailer@a.test"


def test_credentials_may_be_repeated_in_the_refusal(relay, talk):
    client = talk(relay(**RULES, echo_credentials=True))
    client.hello()
    reply = client.ask(f"AUTH PLAIN {plain()}")
    assert reply.startswith("535 ")
    assert plain() in reply
    assert "mailer@a.test password-or-token" in reply
    client.ask("AUTH LOGIN")
    client.ask(coded("mailer@a.test"))
    reply = client.ask(coded("password-or-token"))
    assert coded("password-or-token") in reply
    assert "password-or-token" in reply


def test_a_long_token_fits_and_one_longer_than_the_limit_does_not(relay, talk):
    token = "x" * 8000
    client = talk(relay(auth=ALL, users={"mailer@a.test": token}))
    client.hello()
    assert client.ask(f"AUTH XOAUTH2 {xoauth2(token)}").startswith("235")
    client = talk(relay(auth=ALL))
    client.hello()
    client.send(f"AUTH XOAUTH2 {xoauth2(token * 2)}\r\n".encode())
    assert client.rest().startswith(b"500 5.5.2")


def test_sign_in_waits_for_tls_where_the_script_says_so(relay, talk, certificates, trusting):
    client = talk(relay(**RULES, starttls=True, auth_needs_tls=True, certificates=certificates))
    assert "AUTH" not in client.hello()
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("538 5.7.11")
    client.ask("STARTTLS")
    client.wrap(trusting())
    assert "AUTH" in client.ask("EHLO a.test")
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("235")


def test_tls_forgets_who_signed_in_before_it(relay, talk, certificates, trusting):
    client = talk(relay(**RULES, starttls=True, certificates=certificates))
    client.hello()
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("235")
    client.ask("STARTTLS")
    client.wrap(trusting())
    client.ask("EHLO a.test")
    assert client.ask("MAIL FROM:<a@b.test>").startswith("530")


def test_nobody_signs_in_within_a_message_or_in_one_flight_with_it(relay, talk):
    client = talk(relay(auth=ALL, users=USERS))
    client.hello()
    client.ask("MAIL FROM:<a@b.test>")
    assert client.ask(f"AUTH PLAIN {plain()}").startswith("503")
    client.ask("RSET")
    client.send(f"AUTH PLAIN {plain()}\r\nMAIL FROM:<a@b.test>\r\n".encode())
    assert client.rest().startswith(b"503 5.5.0")
