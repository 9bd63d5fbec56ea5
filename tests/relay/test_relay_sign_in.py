"""Signing in: the right mechanism, once, over a connection that is safe, and what the relay makes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.network.trust import Trust
from keyrelay.relay.model import Evidence, Reply
from keyrelay.relay.opening import Patience, Terms, open_session
from keyrelay.relay.sign_in import TokenSignIn
from keyrelay.relay.token import TokenRequest, Tokens
from keyrelay.relay.transcript import Redactor, Transcript
from keyrelay.secrets.model import SecretText
from relaying import (
    CONTENT,
    PASSWORD,
    USER,
    answering,
    both_loops,
    certificates,
    envelope,
    evidence_of,
    password,
    profile,
    relay,
    run,
    session,
    terms,
)
from token_server import TokenServer, issues, refused

SENDER = "mailer@example.org"
TOKEN = "a-token.of-40-characters.QXZJVKWqxzjvkwYQ"


def auths(there: ChaosRelay) -> list[tuple[int, str]]:
    return [(number, line) for number, line in there.commands if line.upper().startswith("AUTH")]


async def signed_in(script: Script, user: str = USER, text: str = PASSWORD) -> tuple[str | None, list[str]]:
    """Who the relay takes us for, and the mechanisms that were tried."""
    async with relay(script) as there:
        async with session(there.port, password(user, text), use_ssl=True) as made:
            await made.send(envelope(), CONTENT)
        assert there.mistakes == []
        return there.messages[0].user, [line.split()[1] for _, line in auths(there)]


@both_loops
@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (("PLAIN",), "PLAIN"),
        (("LOGIN",), "LOGIN"),
        (("LOGIN", "PLAIN"), "PLAIN"),
        (("XOAUTH2", "LOGIN", "OAUTHBEARER"), "LOGIN"),
    ],
)
def test_a_password_signs_in_by_the_mechanism_that_is_offered(offered, taken, loop):
    script = Script(starttls=True, auth=offered, users={USER: PASSWORD}, require_auth=True)
    assert run(signed_in(script), loop) == (USER, [taken])


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("DOMAIN\\user", "p\u00e4ssw\u00f6rd \u20ac \U0001f511"),
        ("user@example.org", " spaces around "),
        ("u", "="),
        ("u" * 200, "p" * 1000),
    ],
)
def test_names_and_passwords_of_all_kinds_arrive_as_they_are(mechanism, user, text):
    script = Script(starttls=True, auth=(mechanism,), users={user: text}, require_auth=True)
    assert run(signed_in(script, user, text)) == (user, [mechanism])


@both_loops
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    "reply",
    [
        "535 5.7.8 no",
        "535 no enhanced code",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled",
        "454 4.7.0 Temporary authentication failure",
        "432 4.3.2 Concurrent connections limit exceeded",
        "421 4.7.0 Too many errors",
        "534 5.7.9 Authentication mechanism is too weak",
    ],
)
def test_a_refusal_is_quoted_and_nothing_else_is_tried(mechanism, reply, loop):
    async def main() -> None:
        script = Script(starttls=True, auth=(mechanism,), replies={"auth": reply})
        async with relay(script) as there:
            evidence = await evidence_of(open_session(profile(there.port, use_ssl=True), password(), terms()))
            assert (evidence.stage, evidence.kind, str(evidence.reply)) == ("auth", "reply", reply)
            assert len(auths(there)) == 1
            assert there.connections == 1

    run(main(), loop)


@pytest.mark.parametrize(
    ("offered", "kind", "detail"),
    [((), "not_offered", "AUTH"), (("OAUTHBEARER", "XOAUTH2"), "no_mechanism", "OAUTHBEARER, XOAUTH2")],
)
def test_without_a_mechanism_for_a_password_nothing_is_tried(offered, kind, detail):
    async def main() -> None:
        async with relay(starttls=True, auth=offered) as there:
            evidence = await evidence_of(open_session(profile(there.port, use_ssl=True), password(), terms()))
            assert (evidence.stage, evidence.kind, evidence.detail) == ("auth", kind, detail)
            assert auths(there) == []

    run(main())


@pytest.mark.parametrize("allowed", [False, True])
def test_a_password_crosses_no_unencrypted_connection_unless_that_is_allowed(allowed):
    async def main() -> None:
        async with relay(auth=("PLAIN",), users={USER: PASSWORD}) as there:
            made = terms(allow_insecure_sign_in=allowed)
            if allowed:
                async with session(there.port, password(), on=made):
                    pass
                assert len(auths(there)) == 1
            else:
                evidence = await evidence_of(open_session(profile(there.port), password(), made))
                assert (evidence.stage, evidence.kind, evidence.detail) == ("auth", "insecure", "unencrypted")
                assert auths(there) == []

    run(main())


# --- Tokens --------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path) as server:
        server.answer = issues(TOKEN)
        yield server


@pytest.fixture
def trusting(tokens, tmp_path):
    """Makes terms, on the loop they are for: one trust for both authorities."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificates().authority.read_bytes() + tokens.authority.read_bytes())

    def make(**more) -> Terms:
        trust = Trust(authorities=bundle)
        return Terms(trust, Tokens(trust.for_http), "client.test", patience=Patience(reply=10.0), **more)

    return make


def by_token(tokens: TokenServer, user: str = SENDER) -> TokenSignIn:
    secret = SecretText("client-secret-of-a-test")
    return TokenSignIn(user, TokenRequest(tokens.url, SecretText("client-1"), secret, "scope-1", None, ()))


@both_loops
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("user", [SENDER, "a=b,c=2C@example.org", "gr\u00fc\u00dfe@example.org"])
def test_a_token_signs_in_by_the_mechanism_that_is_offered(mechanism, user, loop, tokens, trusting):
    async def main() -> None:
        script = Script(starttls=True, auth=("PLAIN", mechanism), users={user: TOKEN}, require_auth=True)
        async with relay(script) as there:
            async with session(there.port, by_token(tokens, user), on=trusting(), use_ssl=True) as made:
                await made.send(envelope(), CONTENT)
            assert there.messages[0].user == user
            assert [line.split()[1] for _, line in auths(there)] == [mechanism]
            assert there.mistakes == []

    run(main(), loop)


def test_a_long_token_gets_through(tokens, trusting):
    long = "x" * 6000
    tokens.answer = issues(long)

    async def main() -> None:
        async with relay(starttls=True, auth=("XOAUTH2",), users={SENDER: long}, require_auth=True) as there:
            async with session(there.port, by_token(tokens), on=trusting(), use_ssl=True):
                pass
            assert there.mistakes == []

    run(main())


async def token_refused(
    script: Script, tokens: TokenServer, made: Terms
) -> tuple[Evidence, ChaosRelay, tuple[str, ...]]:
    """Why the relay did not like a token, the relay, and the dialogue at ``auth`` as it may be shown."""
    transcript = Transcript(Redactor())
    async with relay(script) as there:
        opening = open_session(profile(there.port, use_ssl=True), by_token(tokens), made, transcript)
        evidence = await evidence_of(opening)
    await made.tokens.close()
    return evidence, there, transcript.stages[-1].dialogue


@both_loops
@pytest.mark.parametrize(("mechanism", "says"), [("XOAUTH2", ("401", "")), ("OAUTHBEARER", ("invalid_token", "AQ=="))])
def test_what_the_relay_explains_in_json_is_decoded(mechanism, says, loop, tokens, trusting):
    status, goodbye = says

    async def main() -> None:
        script = Script(starttls=True, auth=(mechanism,), users={SENDER: "another token"})
        evidence, there, dialogue = await token_refused(script, tokens, trusting())
        assert str(evidence.reply) == "535 5.7.3 Authentication unsuccessful"
        assert evidence.facts["explained"]["status"] == status
        assert f"status {status}" in evidence.detail
        assert "scope https://mail.test/.default" in evidence.detail
        assert len(auths(there)) == 1
        assert there.commands[-1][1] == goodbye  # the relay says no after we have taken note
        assert there.mistakes == []
        assert not any(base64.b64encode(b'{"st').decode()[:4] in line for line in dialogue)

    run(main(), loop)


@pytest.mark.parametrize(
    "explained",
    [
        "",
        "not base64 at all!",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"[1, 2]").decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"[" * 50_000).decode()[:3000],
        base64.b64encode(json.dumps({"status": {"deep": ["x"]}, "unknown": "y"}).encode()).decode(),
    ],
)
def test_an_explanation_that_cannot_be_read_does_no_harm(explained, tokens, trusting):
    async def main() -> None:
        script = Script(starttls=True, auth=("XOAUTH2",), replies={"auth": f"334 {explained}"})
        async with relay(script) as there:
            opening = open_session(profile(there.port, use_ssl=True), by_token(tokens), trusting())
            evidence = await evidence_of(opening)
        assert (evidence.stage, evidence.kind) == ("auth", "reply")
        assert evidence.reply.code == 500  # what the relay says to an answer it did not expect

    run(main())


def test_a_token_that_the_relay_refused_is_not_used_again(tokens, trusting):
    async def main() -> None:
        made = trusting()
        script = Script(starttls=True, auth=("XOAUTH2",), replies={"auth": "535 5.7.3 no"})
        async with relay(script) as there:
            for _ in range(2):
                await evidence_of(open_session(profile(there.port, use_ssl=True), by_token(tokens), made))
        assert len(tokens.requests) == 2
        await made.tokens.close()

    run(main())


def test_a_token_is_kept_for_the_next_session(tokens, trusting):
    async def main() -> None:
        made = trusting()
        async with relay(starttls=True, auth=("XOAUTH2",), users={SENDER: TOKEN}) as there:
            for _ in range(3):
                opened = await open_session(profile(there.port, use_ssl=True), by_token(tokens), made)
                await opened.quit()
        assert len(tokens.requests) == 1
        await made.tokens.close()

    run(main())


def test_no_token_is_asked_for_over_a_connection_that_could_not_carry_it(tokens, trusting):
    async def main() -> None:
        async with relay(auth=("XOAUTH2",)) as there:
            evidence = await evidence_of(open_session(profile(there.port), by_token(tokens), trusting()))
            assert (evidence.stage, evidence.kind) == ("auth", "insecure")
        assert tokens.requests == []

    run(main())


def test_a_provider_that_refuses_is_the_stage_token_and_the_relay_hears_nothing(tokens, trusting):
    tokens.answer = refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")

    async def main() -> None:
        async with relay(starttls=True, auth=("XOAUTH2",)) as there:
            evidence = await evidence_of(open_session(profile(there.port, use_ssl=True), by_token(tokens), trusting()))
            assert (evidence.stage, evidence.kind) == ("token", "status")
            assert auths(there) == []

    run(main())


# --- Nothing of it is told -----------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_relay_that_repeats_the_credentials_does_not_get_them_into_the_report(mechanism, loop):
    async def main() -> None:
        transcript = Transcript(Redactor())
        async with relay(starttls=True, auth=(mechanism,), echo_credentials=True) as there:
            opening = open_session(profile(there.port, use_ssl=True), password(), terms(), transcript)
            evidence = await evidence_of(opening)
        said = f"{evidence} {transcript.stages}".casefold()
        secrets = [
            PASSWORD,
            base64.b64encode(PASSWORD.encode()).decode(),
            base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()[12:-4],
        ]
        for secret in secrets:
            for start in range(len(secret) - 5):
                assert secret[start : start + 6].casefold() not in said
        assert evidence.reply.code == 535

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"])
def test_a_relay_that_asks_for_ever_and_repeats_what_it_was_told_is_not_quoted(mechanism, loop, tokens, trusting):
    """The text of a 334 is for the mechanism: it is never cleaned, and never shown."""
    said: list[str] = []

    def answer(line: bytes) -> bytes:
        if line.startswith(b"EHLO"):
            return f"250-odd.test\r\n250 AUTH {mechanism}\r\n".encode()
        said.append(f"{PASSWORD} {TOKEN}")
        return f"334 {PASSWORD} {TOKEN}\r\n".encode()

    async def main() -> None:
        made = replace(trusting(), allow_insecure_sign_in=True)
        transcript = Transcript(Redactor())
        async with answering(answer) as port:
            credentials = by_token(tokens) if "OAUTH" in mechanism else password()
            evidence = await evidence_of(open_session(profile(port), credentials, made, transcript))
        await made.tokens.close()
        assert (evidence.stage, evidence.kind, evidence.reply) == ("auth", "reply", Reply(334, ()))
        assert len(said) == {"PLAIN": 1, "LOGIN": 3}.get(mechanism, 2)
        shown = f"{evidence} {transcript.stages}"
        assert PASSWORD not in shown
        assert TOKEN not in shown

    run(main(), loop)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_relay_that_repeats_the_token_does_not_get_it_into_the_report(mechanism, tokens, trusting):
    async def main() -> None:
        script = Script(starttls=True, auth=(mechanism,), echo_credentials=True)
        evidence, _, dialogue = await token_refused(script, tokens, trusting())
        said = f"{evidence} {dialogue}".casefold()
        coded = base64.b64encode(TOKEN.encode()).decode()
        for secret in (TOKEN, coded):
            for start in range(len(secret) - 5):
                assert secret[start : start + 6].casefold() not in said

    run(main())


def test_a_relay_that_repeats_the_token_of_an_earlier_session_does_not_get_it_into_the_report(tokens, trusting):
    async def main() -> None:
        made = trusting()
        signing_in = Script(starttls=True, auth=("XOAUTH2",), users={SENDER: TOKEN})
        refusal = f"550 5.7.1 not with {TOKEN[9:20]}"
        remembering = Script(replies={"greeting": f"220 {TOKEN} ESMTP", "ehlo": refusal, "helo": refusal})
        async with relay(replace(signing_in, then=(remembering,))) as there:
            await (await open_session(profile(there.port, use_ssl=True), by_token(tokens), made)).quit()
            transcript = Transcript(Redactor())
            opening = open_session(profile(there.port, use_ssl=True), by_token(tokens), made, transcript)
            evidence = await evidence_of(opening)
        said = f"{evidence} {transcript.stages}".casefold()
        for start in range(len(TOKEN) - 5):
            assert TOKEN[start : start + 6].casefold() not in said
        assert (evidence.stage, evidence.reply.code) == ("hello", 550)
        await made.tokens.close()

    run(main())
