"""The traps that users of other products fell into when mail was to be sent, each as a test of its own name."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from canary import leaks
from complaints import complaint
from keyrelay.api.diagnoses import report_document
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.errors import BadInput
from keyrelay.network.trust import Trust
from keyrelay.profile.model import Basic, OAuthClientCredentials, SmtpProfile
from keyrelay.relay.diagnosis import Diagnoses, Mode, Order, Report
from keyrelay.relay.opening import Patience, Terms, open_session
from keyrelay.relay.pool import Limits, SessionPool
from keyrelay.relay.token import Tokens
from keyrelay.secrets.model import SecretText
from live import LiveServer
from relaying import (
    ANONYMOUS,
    CHUNKED,
    CONTENT,
    OFFERS,
    PASSWORD,
    PIPELINED,
    PLAIN,
    USER,
    as_given,
    both_loops,
    certificates,
    envelope,
    evidence_of,
    password,
    profile,
    relay,
    run,
    running,
    session,
    terms,
    until,
)
from token_server import TokenServer, issues

RECIPIENT = "ops@example.org"
STORED_PASSWORD, STORED_CLIENT_SECRET = "QXZJVKWqxzjvkwYbasicPASS", "YwkvjzxqWKVJZXQclientSECR"
TOKEN = "an-issued-token-0123456789"


async def diagnosed(made: SmtpProfile, on: Terms | None = None, mode: Mode = "message") -> Report:
    diagnoses = Diagnoses(on or terms(), as_given(), ())
    try:
        return await diagnoses.run(Order(made, mode, RECIPIENT))
    finally:
        await diagnoses.close()


def basic(user: str = USER, text: str = PASSWORD) -> Basic:
    return Basic(SecretText(user), SecretText(text))


def oauth(endpoint: str) -> OAuthClientCredentials:
    return OAuthClientCredentials(SecretText("client-1"), SecretText("client-secret-1"), endpoint, "scope-1")


# --- Keycloak 39486, 49242: the test endpoint with another host and the stored secret --------------------------


@dataclass
class Stage:
    """A node, what it sends to, and those who wait for its secrets somewhere else."""

    server: LiveServer
    relay: ChaosRelay
    evil: ChaosRelay
    provider: TokenServer
    evil_provider: TokenServer

    def seen(self, of: str) -> bytes:
        """Everything that has arrived anywhere."""
        relays, providers = {
            "all": ([self.relay, self.evil], [self.provider, self.evil_provider]),
            "evil": ([self.evil], [self.evil_provider]),
        }[of]
        said = [line for there in relays for _, line in there.commands]
        asked = [f"{request.headers} {request.body!r}" for one in providers for request in one.requests]
        return "\n".join([*said, *asked]).encode()

    def forget(self) -> None:
        for there in (self.relay, self.evil):
            there.commands.clear()
        for provider in (self.provider, self.evil_provider):
            provider.requests.clear()

    def diagnose(self, **changes: Any) -> Any:
        order = {"mode": "envelope", "recipient": RECIPIENT, "profile": changes}
        return self.server.post("/api/v1/diagnoses", json=order)


@pytest.fixture(scope="module")
def stage(request, tmp_path_factory, sqlite_template) -> Iterator[Stage]:
    from live import settings_for

    directory = tmp_path_factory.mktemp("stage")
    greedy = Script(starttls=True, auth=("PLAIN", "LOGIN", "XOAUTH2"), users={USER: STORED_PASSWORD})
    providers = [TokenServer(tmp_path_factory.mktemp("provider")) for _ in range(2)]
    for provider in providers:
        provider.answer = issues(TOKEN)
    bundle = directory / "bundle.pem"
    authorities = [certificates().authority, *(provider.authority for provider in providers)]
    bundle.write_bytes(b"".join(authority.read_bytes() for authority in authorities))
    settings = replace(settings_for("sqlite", request, directory, sqlite_template), ca_bundle=bundle)
    with running(greedy) as there, running(greedy) as evil, providers[0], providers[1]:
        server = LiveServer.start(settings)
        try:
            yield Stage(server, there, evil, *providers)
        finally:
            server.stop()


def stored_basic(stage: Stage) -> None:
    body = {
        "Host": "localhost",
        "Port": stage.relay.port,
        "RelayAuthenticationType": 2,
        "UseSSL": True,
        "RelayUsername": {"SecretValue": USER},
        "RelayPassword": {"SecretValue": STORED_PASSWORD},
        "SenderAccount": "mailer@example.org",
        "SenderName": "PKI",
    }
    stage.server.put_v2(body).raise_for_status()
    stage.forget()


def stored_oauth(stage: Stage) -> None:
    body = {
        "Host": "localhost",
        "Port": stage.relay.port,
        "RelayAuthenticationType": 3,
        "UseSSL": True,
        "SenderAccount": "mailer@example.org",
        "SenderName": "PKI",
        "ClientId": {"SecretValue": "client-1"},
        "ClientSecret": {"SecretValue": STORED_CLIENT_SECRET},
        "TokenEndpoint": stage.provider.url,
        "Scope": "scope-1",
    }
    stage.server.put_v2(body).raise_for_status()
    stage.forget()


Change = Callable[[Stage], dict[str, Any]]
BASIC_CHANGES: dict[str, Change] = {
    "host": lambda _: {"host": "127.0.0.1"},
    "host and port": lambda stage: {"host": "127.0.0.1", "port": stage.evil.port},
    "port": lambda stage: {"port": stage.evil.port},
    "TLS": lambda _: {"use_ssl": False},
    "user": lambda _: {"relay_username": {"secret_value": "somebody-else"}},
    "sign-in": lambda stage: {
        "authentication": "oauth_client_credentials",
        "client_id": {"secret_value": "client-1"},
        "token_endpoint": stage.evil_provider.url,
    },
}
OAUTH_CHANGES: dict[str, Change] = {
    "host": lambda _: {"host": "127.0.0.1"},
    "port": lambda stage: {"port": stage.evil.port},
    "TLS": lambda _: {"use_ssl": False},
    "token URL": lambda stage: {"token_endpoint": stage.evil_provider.url},
    "token URL's path": lambda stage: {"token_endpoint": stage.provider.url + "/other"},
    "scope": lambda _: {"scope": "scope-2"},
    "audience": lambda _: {"audience": "somebody-else"},
    "client id": lambda _: {"client_id": {"secret_value": "client-2"}},
}


@pytest.mark.parametrize("change", BASIC_CHANGES.values(), ids=BASIC_CHANGES)
def test_a_test_with_another_destination_never_gets_the_stored_password(change, stage):
    stored_basic(stage)
    before = stage.relay.connections + stage.evil.connections
    complaint(stage.diagnose(**change(stage)))
    assert not leaks({"password": STORED_PASSWORD}, stage.seen("all"))
    assert stage.relay.connections + stage.evil.connections == before  # validation comes before any connection


@pytest.mark.parametrize("change", OAUTH_CHANGES.values(), ids=OAUTH_CHANGES)
def test_a_test_with_another_destination_never_gets_the_stored_client_secret(change, stage):
    stored_oauth(stage)
    before = stage.relay.connections + stage.evil.connections
    said = complaint(stage.diagnose(**change(stage)))
    assert "given" in said
    assert not leaks({"client secret": STORED_CLIENT_SECRET}, stage.seen("all"))
    assert stage.provider.requests == stage.evil_provider.requests == []
    assert stage.relay.connections + stage.evil.connections == before


def test_a_test_of_the_same_destination_does_get_the_stored_password(stage):
    """Otherwise the tests above would show nothing."""
    stored_basic(stage)
    answer = stage.diagnose(sender_name="Another name").raise_for_status().json()
    assert answer["verdict"] == "ok", answer
    assert leaks({"password": STORED_PASSWORD}, stage.seen("all"))
    assert not leaks({"password": STORED_PASSWORD}, str(answer).encode())


def test_a_test_of_the_same_destination_does_get_the_stored_client_secret(stage):
    stored_oauth(stage)
    stage.diagnose(sender_name="Another name").raise_for_status()
    assert leaks({"client secret": STORED_CLIENT_SECRET}, stage.seen("all"))
    assert stage.seen("evil") == b""


# --- listmonk 1073: no RSET after a refused RCPT ---------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("extensions", OFFERS.values(), ids=OFFERS)
def test_two_mails_on_one_connection_and_the_first_is_refused(extensions, loop):
    async def main() -> None:
        async with relay(extensions=extensions, rcpt_replies={"bad@b.test": "550 5.1.1 nobody"}) as there:
            async with session(there.port) as opened:
                first = await opened.send(envelope("bad@b.test", sender="first@a.test"), CONTENT)
                second = await opened.send(envelope("good@b.test", sender="second@a.test"), CONTENT)
            assert (first.accepted, second.accepted) == ((), ("good@b.test",))
            assert [(one.sender, one.recipients) for one in there.messages] == [("second@a.test", ("good@b.test",))]
            verbs = [line.split()[0] for _, line in there.commands]
            assert verbs.index("RSET") < len(verbs) - 1 - verbs[::-1].index("MAIL")
            assert there.connections == 1

    run(main(), loop)


# --- Library defaults: opportunistic STARTTLS strips silently --------------------------------------------------


@both_loops
@pytest.mark.parametrize("credentials", [ANONYMOUS, password()], ids=["anonymous", "basic"])
def test_a_relay_that_hides_starttls_gets_neither_mail_nor_password(credentials, loop):
    async def main() -> None:
        async with relay(auth=("PLAIN",), users={USER: PASSWORD}) as there:
            evidence = await evidence_of(open_session(profile(there.port, use_ssl=True), credentials, terms()))
            assert (evidence.stage, evidence.kind, evidence.detail) == ("tls", "not_offered", "STARTTLS")
            assert [line.split()[0] for _, line in there.commands] == ["EHLO"]
            await until(lambda: not there.open)

    run(main(), loop)


@both_loops
def test_a_relay_that_hides_starttls_gets_no_password_without_use_ssl_either(loop):
    async def main() -> None:
        async with relay(auth=("PLAIN",), users={USER: PASSWORD}) as there:
            evidence = await evidence_of(open_session(profile(there.port), password(), terms()))
            assert (evidence.stage, evidence.kind) == ("auth", "insecure")
            assert [line.split()[0] for _, line in there.commands] == ["EHLO"]

    run(main(), loop)


# --- aiosmtplib 5.1.2: an answer injected before STARTTLS ------------------------------------------------------


@both_loops
@pytest.mark.parametrize("use_ssl", [True, False])
@pytest.mark.parametrize(
    "injected",
    [
        b"250 injected\r\n",
        b"250-half a reply\r\n",
        b"250-\r\n",
        b"2",
        b"\r\n",
        b"no reply\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_bytes_behind_the_220_of_starttls_end_the_session(injected, use_ssl, loop):
    async def main() -> None:
        async with relay(starttls=True, inject=injected, auth=("PLAIN",), users={USER: PASSWORD}) as there:
            opening = open_session(profile(there.port, use_ssl=use_ssl), ANONYMOUS, terms())
            evidence = await evidence_of(opening)
            assert (evidence.stage, evidence.kind) == ("tls", "injected")
            assert [line.split()[0] for _, line in there.commands] == ["EHLO", "STARTTLS"]
            await until(lambda: not there.open)

    run(main(), loop)


# --- aiosmtplib 5.1.1: CR and LF in addresses or headers -------------------------------------------------------

nasty = st.lists(
    st.sampled_from(
        [
            "\r",
            "\n",
            "\r\n",
            "\0",
            "\x0b",
            "\x85",
            "\u2028",
            "RCPT TO:<evil@evil.test>",
            "Bcc: evil@evil.test",
            ">",
            "<",
            "a",
            "b@c.test",
            " ",
            ".",
            "\r\n.\r\nMAIL FROM:<evil@evil.test>",
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)


@given(nasty, st.sampled_from(["sender", "recipient"]), st.sampled_from(sorted(OFFERS)))
@hypothesis_settings(max_examples=60)
def test_no_address_becomes_a_command(text, place, offered):
    """The last line of defence, below everything that checks addresses."""
    address = f"a{text}@example.org"

    async def main() -> None:
        async with relay(extensions=OFFERS[offered]) as there:
            async with session(there.port) as opened:
                written = envelope(address) if place == "recipient" else envelope(sender=address)
                try:
                    await opened.send(written, CONTENT, needs_smtputf8=not address.isascii())
                except ValueError:
                    assert [line.split()[0] for _, line in there.commands] == ["EHLO"]
            heard = [line for _, line in there.commands]
            assert not [line for line in heard if line.startswith(("RCPT TO:<evil", "MAIL FROM:<evil"))]
            assert len([line for line in heard if line.startswith("MAIL")]) <= 1
            assert len([line for line in heard if line.startswith("RCPT")]) <= 1

    run(main())


@given(nasty, st.sampled_from(["sender_name", "sender_account", "recipient"]))
@hypothesis_settings(max_examples=60)
def test_no_field_becomes_a_header_or_a_command(text, place):
    """The same from above: either all of it is refused before anything is connected, or one message is sent."""

    async def main() -> None:
        async with relay() as there:
            made = profile(there.port)
            recipient = RECIPIENT
            if place == "sender_name":
                made = replace(made, sender_name=f"a{text}")
            elif place == "sender_account":
                made = replace(made, sender_account=f"a{text}@example.org")
            else:
                recipient = f"a{text}@example.org"
            diagnoses = Diagnoses(terms(), as_given(), ())
            try:
                report = await diagnoses.run(Order(made, "message", recipient))
            except BadInput:
                assert there.connections == 0
                return
            finally:
                await diagnoses.close()
            assert not set(text) & {"\r", "\n", "\0", "\x0b", "\x85", "\u2028"}
            assert report.failed is None
            (message,) = there.messages
            assert message.recipients == (recipient,)
            assert b"\r\nBcc:" not in message.content
            assert there.mistakes == []

    run(main())


@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": "a@b.test\r\nRCPT TO:<evil@evil.test>"},
        {"recipient": "a@b.test>\nDATA"},
        {"recipient": "a\0@b.test"},
        {"profile": {"sender_account": "a@b.test\r\nBcc: evil@evil.test"}},
        {"profile": {"sender_name": "PKI\r\nBcc: evil@evil.test"}},
        {"profile": {"sender_name": "PKI\u2028x"}},
        {"profile": {"host": "localhost\r\nX: y"}},
        {"profile": {"relay_username": {"secret_value": "a\r\nb"}, "relay_password": {"secret_value": "x"}}},
    ],
)
def test_a_request_with_control_characters_is_refused_before_anything_is_connected(changes, stage):
    stored_basic(stage)
    before = stage.relay.connections
    order = {"mode": "message", "recipient": RECIPIENT} | changes
    complaint(stage.server.post("/api/v1/diagnoses", json=order))
    assert stage.relay.connections == before


# --- aiosmtplib's login loop: AUTH tried with every mechanism --------------------------------------------------


@both_loops
@pytest.mark.parametrize("reply", ["535 5.7.8 no", "454 4.7.0 later", "504 5.5.4 not this one", "500 5.5.2 what?"])
def test_exactly_one_auth_per_connection_and_one_connection_per_test(reply, loop):
    async def main() -> None:
        every = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
        async with relay(starttls=True, auth=every, replies={"auth": reply}) as there:
            report = await diagnosed(profile(there.port, use_ssl=True, authentication=basic()))
            assert report.failed.stage.stage == "auth"
            assert len([line for _, line in there.commands if line.startswith("AUTH")]) == 1
            assert there.connections == 1

    run(main(), loop)


# --- A library drops it: the XOAUTH2 error challenge -----------------------------------------------------------


@both_loops
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_the_json_of_the_334_appears_decoded_in_the_report(mechanism, loop, tmp_path):
    async def main() -> None:
        with TokenServer(tmp_path) as provider:
            provider.answer = issues(TOKEN)
            bundle = tmp_path / "bundle.pem"
            bundle.write_bytes(certificates().authority.read_bytes() + provider.authority.read_bytes())
            trust = Trust(authorities=bundle)
            made = Terms(trust, Tokens(trust.for_http), "client.test", patience=Patience(reply=10))
            async with relay(starttls=True, auth=(mechanism,), users={"pki@example.org": "another"}) as there:
                report = await diagnosed(profile(there.port, use_ssl=True, authentication=oauth(provider.url)), made)
        document = report_document(report)
        assert document["failed_stage"] == "auth"
        said = str(document)
        assert "https://mail.test/.default" in said
        assert {"XOAUTH2": "401", "OAUTHBEARER": "invalid_token"}[mechanism] in said
        assert TOKEN[:6] not in said

    run(main(), loop)


# --- Grafana 12014, listmonk 1183: the page says sent, the log says failed -------------------------------------


@both_loops
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED, CHUNKED], ids=["plain", "pipelining", "chunking"])
@pytest.mark.parametrize(
    "rules",
    [
        {"replies": {"mail": "550 5.7.1 no"}},
        {"replies": {"rcpt": "550 5.1.1 nobody"}},
        {"replies": {"body": "554 5.7.1 spam", "bdat": "554 5.7.1 spam"}},
        {"replies": {"body": "451 4.3.0 later", "bdat": "451 4.3.0 later"}},
        {"close": "after-dot"},
        {"close": "rcpt"},
    ],
    ids=["sender", "recipient", "message", "message deferred", "lost after the dot", "lost"],
)
def test_state_comes_from_replies_alone(rules, extensions, loop):
    async def main() -> None:
        async with relay(extensions=extensions, **rules) as there:
            report = await diagnosed(profile(there.port))
            assert report.failed is not None
            assert report.delivery is None or report.delivery.accepted == ()
            assert report_document(report)["verdict"] == "failed"

    run(main(), loop)


@both_loops
def test_what_was_accepted_is_accepted_whatever_comes_after_it(loop):
    async def main() -> None:
        async with relay(close="quit") as there:
            report = await diagnosed(profile(there.port))
            assert report.failed is None
            assert report.delivery.accepted == (RECIPIENT,)
            assert len(there.messages) == 1

    run(main(), loop)


# --- keila 165: attempts burnt by outage or throttling ---------------------------------------------------------


@both_loops
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED, CHUNKED], ids=["plain", "pipelining", "chunking"])
@pytest.mark.parametrize("where", ["mail", "rcpt", "body"])
@pytest.mark.parametrize("reply", ["421 4.3.2 closing", "432 4.3.2 too many connections", "450 4.7.1 slow down"])
def test_a_storm_of_throttling_comes_back_as_facts_of_each_recipient(reply, where, extensions, loop):
    """A deferral is told by its code, never as a failure of ours; who counts attempts can tell them apart."""

    async def main() -> None:
        replies = {where: reply} | ({"bdat": reply} if where == "body" else {})
        async with relay(extensions=extensions, replies=replies) as there:
            opened = await open_session(profile(there.port), ANONYMOUS, terms())
            try:
                delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
            finally:
                opened.wire.abort()
            evidence = delivery.evidence()
            assert evidence.reply.transient
            assert str(evidence.reply) == reply
            assert delivery.accepted == ()
            if where == "rcpt":
                assert {address: str(said) for address, said in delivery.recipients} == {
                    "a@b.test": reply,
                    "c@d.test": reply,
                }
            await until(lambda: not there.open)

    run(main(), loop)


def test_a_throttled_recipient_does_not_defer_the_others():
    async def main() -> None:
        async with relay(rcpt_replies={"a@b.test": "452 4.5.3 too many"}) as there, session(there.port) as opened:
            delivery = await opened.send(envelope("a@b.test", "c@d.test"), CONTENT)
            assert delivery.accepted == ("c@d.test",)
            assert dict(delivery.recipients)["a@b.test"].transient

    run(main())


# --- authentik 18328: the custom CA is ignored by one of the paths ---------------------------------------------


@both_loops
@pytest.mark.parametrize(
    ("bundled", "fails_at"),
    [
        (("relay", "provider"), None),
        (("relay",), "token"),
        (("provider",), "tls"),
        ((), "tls"),
    ],
)
def test_one_bundle_is_trusted_by_relay_and_token_url_alike(bundled, fails_at, loop, tmp_path):
    async def main() -> None:
        with TokenServer(tmp_path) as provider:
            provider.answer = issues(TOKEN)
            authorities = {"relay": certificates().authority, "provider": provider.authority}
            bundle = tmp_path / "bundle.pem"
            bundle.write_bytes(b"".join(authorities[name].read_bytes() for name in bundled))
            trust = Trust(authorities=bundle if bundled else None)
            made = Terms(trust, Tokens(trust.for_http), "client.test", patience=Patience(reply=10))
            async with relay(starttls=True, auth=("XOAUTH2",), users={"pki@example.org": TOKEN}) as there:
                report = await diagnosed(profile(there.port, use_ssl=True, authentication=oauth(provider.url)), made)
        if fails_at is None:
            assert report.failed is None
        else:
            evidence = report.failed.stage.evidence
            assert (evidence.stage, evidence.kind) == (fails_at, "unknown_issuer")

    run(main(), loop)


# --- HA 174821: the host name checked against the wrong name, or no SNI ----------------------------------------


@both_loops
@pytest.mark.parametrize("use_ssl", [True, False])
def test_a_relay_with_two_certificates_is_asked_for_the_right_one(use_ssl, loop):
    async def main() -> None:
        async with relay(starttls=True, certificate="by_name") as there:
            for name in ("a.test", "b.test"):
                report = await diagnosed(profile(there.port, name, use_ssl=use_ssl), mode="connect")
                assert report.failed is None
                learned = next(one.stage.learned for one in report.findings if one.stage.stage == "tls")
                assert learned["verified"] is True
                assert learned["certificates"][0]["names"] == [name]
            assert there.sni == ["a.test", "b.test"]

    run(main(), loop)


@both_loops
def test_a_certificate_for_another_name_is_refused(loop):
    async def main() -> None:
        async with relay(starttls=True, certificate="good") as there:  # for localhost
            evidence = await evidence_of(open_session(profile(there.port, "a.test", use_ssl=True), ANONYMOUS, terms()))
            assert (evidence.stage, evidence.kind) == ("tls", "name_mismatch")

    run(main(), loop)


def test_no_context_of_ours_checks_less_than_both_name_and_issuer():
    trust = Trust(authorities=certificates().authority)
    for context in (trust.verified(), trust.for_http()):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


# --- listmonk 1811: settings half-applied to a running pool ----------------------------------------------------


@both_loops
def test_no_connection_mixes_old_and_new_settings(loop):
    """Eight senders, and the profile replaced in the middle: user, password and sender go together."""
    users = {"old-user": "password-of-old", "new-user": "password-of-new"}
    script = Script(starttls=True, auth=("PLAIN",), users=users, require_auth=True, delay=0.001)

    async def main() -> None:
        made = terms()
        async with relay(script) as there:
            pool = SessionPool(Limits(sessions=8))
            changed = asyncio.Event()

            def current() -> SmtpProfile:
                user = "new-user" if changed.is_set() else "old-user"
                return profile(
                    there.port, use_ssl=True, sender=f"{user}@example.org", authentication=basic(user, users[user])
                )

            async def sender() -> None:
                for _ in range(20):
                    now = current()
                    signing_in = password(
                        now.sender_account.partition("@")[0], users[now.sender_account.partition("@")[0]]
                    )
                    async with pool.session(
                        now.sender_account, lambda now=now, by=signing_in: open_session(now, by, made)
                    ) as opened:
                        await asyncio.sleep(0)
                        await opened.send(envelope(sender=now.sender_account), CONTENT)

            async def operator() -> None:
                await until(lambda: len(there.messages) >= 60)
                changed.set()

            await asyncio.gather(operator(), *(sender() for _ in range(8)))
            await pool.close()
            seen: dict[int, set[tuple[str | None, str]]] = defaultdict(set)
            for message in there.messages:
                seen[message.session].add((message.user, message.sender))
            assert len(there.messages) == 160
            assert all(len(pairs) == 1 for pairs in seen.values())
            assert {pair for pairs in seen.values() for pair in pairs} == {
                (user, f"{user}@example.org") for user in users
            }
            await until(lambda: not there.open)

    run(main(), loop)
