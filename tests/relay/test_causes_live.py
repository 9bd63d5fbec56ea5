"""Every cause of the catalogue that can be provoked on a real socket is, and the others say why they are not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import re
import socket
import ssl
import threading
from datetime import UTC, datetime

import pytest
from cause_examples import EXAMPLES, Example

from keyrelay.api.diagnoses import report_document
from keyrelay.chaos.script import Script
from keyrelay.profile.model import Anonymous
from keyrelay.relay.causes import CAUSES
from keyrelay.relay.causes.vault import VAULT
from keyrelay.relay.diagnosis import Finding
from keyrelay.relay.model import STAGES
from live_causes import (
    BASIC,
    NO_WAY,
    RECIPIENT,
    SENDER,
    USERS,
    Endpoint,
    Scene,
    deaf,
    hanging_up,
    nobody,
    play,
    saying,
    serving,
    speaking_tls,
    without_a_way,
)
from odd_tls import for_clients_only, showing_its_authority, with_alert, with_old_ciphers, without_the_root
from relaying import certificates
from token_server import Answer, issues, page, redirect, refused, says, signed

# What no test provokes, and why not.
NOT_PROVOKED = {
    "name-waits-for-others": "needs names by the hundred that no name server answers",
    "token-name-waits-for-others": "the same",
    "connection-forbidden": "needs a rule of this machine's firewall, which a test must not touch",
    "connection-reset": "the kernel tells a connection that is cut while it is made as one refused",
    "sign-in-unverified": "with credentials, a session ends at the certificate already",
    "certificate-revoked": "needs a list of revoked certificates, and keyrelay fetches none",
    "unexplained": "is for what nobody has thought of",
}

EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES")
STARTTLS = Script(starttls=True)
IN_CLEAR_TEXT = Script()
FROM_THE_FIRST_BYTE = Script(implicit_tls=True)
OFFICE = "smtp.office365.com"


def unknown(number: int) -> socket.gaierror:
    return socket.gaierror(number, "as a resolver says it")


def leaving_in_tls() -> contextlib.AbstractContextManager[tuple[str, int]]:
    """STARTTLS, and nothing more inside it."""
    context = certificates().server_context("good")

    def handle(connection: socket.socket) -> None:
        for said in (b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n"):
            connection.sendall(said)
            if said != b"220 go\r\n":
                connection.recv(65536)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(65536)

    return serving(handle)


def tls(cause: str, **more: object) -> Scene:
    """A failure of TLS after STARTTLS."""
    script = Script(starttls=True, **more)  # type: ignore[arg-type]
    return Scene(cause=cause, stage="tls", place=script, use_ssl=True)


REACHING = [
    Scene(cause="host-name-short", stage="resolve", place=unknown(socket.EAI_NONAME), host="mailhub"),
    Scene(cause="host-name-unknown", stage="resolve", place=unknown(socket.EAI_NONAME), host="mail.test"),
    Scene(cause="host-without-address", stage="resolve", place=unknown(socket.EAI_NODATA)),
    Scene(cause="dns-unavailable", stage="resolve", place=unknown(socket.EAI_AGAIN)),
    Scene(cause="microsoft-port-465", stage="connect", place=nobody, host=OFFICE, port=465, use_ssl=True),
    Scene(cause="microsoft-port-465", stage="connect", place=deaf, host=OFFICE, port=465, use_ssl=True, waits=True),
    Scene(cause="port-25-blocked", stage="connect", place=deaf, port=25, waits=True),
    Scene(cause="connect-timed-out", stage="connect", place=deaf, waits=True),
    Scene(cause="connection-refused-loopback", stage="connect", place=nobody),
    Scene(cause="connection-refused", stage="connect", place=nobody, host="mail.test"),
    Scene(cause="host-unreachable", stage="connect", place=without_a_way),
    Scene(cause="port-speaks-tls-at-once", stage="greeting", place=FROM_THE_FIRST_BYTE, port=465, waits=True),
    Scene(cause="port-wants-implicit-tls", stage="greeting", place=FROM_THE_FIRST_BYTE, port=2465, waits=True),
    Scene(cause="greeting-in-tls", stage="greeting", place=saying(b"\x15\x03\x01\x00\x02\x02\x28")),
    Scene(cause="port-465-silent", stage="greeting", place=hanging_up, port=465),
    Scene(cause="port-465-silent", stage="greeting", place=Script(silent=True), port=465, waits=True),
    Scene(cause="web-server", stage="greeting", place=Script(raw_greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    Scene(cause="ssh-server", stage="greeting", place=Script(raw_greeting=b"SSH-2.0-OpenSSH_9.2\r\n")),
    Scene(cause="mailbox-server", stage="greeting", place=Script(raw_greeting=b"* OK IMAP4rev1 ready\r\n")),
    Scene(cause="mailbox-server", stage="greeting", place=Script(raw_greeting=b"+OK POP3 ready\r\n")),
    Scene(cause="not-a-mail-server", stage="greeting", place=Script(raw_greeting=b"Hello, who is there?\r\n")),
    Scene(cause="greeting-late", stage="greeting", place=Script(stall="greeting"), waits=True),
    Scene(cause="greeting-closed", stage="greeting", place=Script(close="greeting")),
    # What the relay said counts, also when it says nothing more.
    Scene(
        cause="relay-shutting-down",
        stage="hello",
        place=Script(replies={"ehlo": "421 4.3.2 going down"}),
    ),
    Scene(
        cause="hello-refused", stage="hello", place=Script(replies={"ehlo": "550 5.7.1 Access denied"}, close="helo")
    ),
]

IN_TLS = [
    Scene(cause="port-speaks-starttls", stage="tls", place=STARTTLS, port=465, use_ssl=True),
    Scene(cause="port-speaks-clear-text", stage="tls", place=IN_CLEAR_TEXT, port=465, use_ssl=True),
    Scene(
        cause="tls-to-clear-port",
        stage="tls",
        place=saying(b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        port=465,
        use_ssl=True,
        waits=True,
    ),
    Scene(
        cause="tls-after-starttls-garbled",
        stage="tls",
        place=saying(b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n", b"500 5.5.1 what was that?\r\n"),
        use_ssl=True,
    ),
    Scene(cause="port-465-closed-on-tls", stage="tls", place=hanging_up, port=465, use_ssl=True),
    Scene(cause="starttls-masked", stage="tls", place=Script(extensions=("8BITMIME", "XXXXXXXA")), use_ssl=True),
    Scene(cause="starttls-not-offered", stage="tls", place=IN_CLEAR_TEXT, use_ssl=True),
    tls("starttls-injected", inject=b"250 come in\r\n"),
    tls("certificate-expired", certificate="expired"),
    tls("certificate-not-yet-valid", certificate="not_yet_valid"),
    Scene(
        cause="certificate-for-address",
        stage="tls",
        place=Script(starttls=True, certificate="wrong_name"),
        host="127.0.0.1",
        use_ssl=True,
    ),
    Scene(cause="certificate-for-longer-name", stage="tls", place=STARTTLS, host="mailhub", use_ssl=True),
    Scene(cause="certificate-for-other-name", stage="tls", place=STARTTLS, host="mail.test", use_ssl=True),
    tls("certificate-self-signed", certificate="self_signed"),
    Scene(
        cause="certificate-authority-private",
        stage="tls",
        place=speaking_tls(showing_its_authority),
        port=465,
        use_ssl=True,
    ),
    tls("certificate-chain-incomplete", certificate="unknown_ca"),
    Scene(
        cause="certificate-issuer-unknown",
        stage="tls",
        place=speaking_tls(without_the_root),
        port=465,
        use_ssl=True,
    ),
    tls("tls-too-old", tls_version="1.0"),
    tls("tls-too-weak", certificate="weak"),
    # Under TLS 1.3 the relay says so only afterwards.
    Scene(cause="client-certificate-wanted", stage="tls", place=Script(starttls=True, client_ca=True), use_ssl=True),
    Scene(
        cause="client-certificate-wanted",
        stage="tls",
        place=Script(implicit_tls=True, client_ca=True),
        port=465,
        use_ssl=True,
    ),
    Scene(cause="connection-lost", stage="hello", place=leaving_in_tls, use_ssl=True),
    Scene(
        cause="client-certificate-refused",
        stage="tls",
        place=Script(starttls=True, client_ca=True),
        use_ssl=True,
        foreign_client=True,
    ),
    Scene(cause="certificate-refused", stage="tls", place=speaking_tls(for_clients_only), port=465, use_ssl=True),
    Scene(cause="tls-no-common-cipher", stage="tls", place=speaking_tls(with_old_ciphers), port=465, use_ssl=True),
    Scene(
        cause="tls-name-unknown",
        stage="tls",
        place=speaking_tls(with_alert(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)),
        port=465,
        use_ssl=True,
    ),
    Scene(
        cause="tls-failed",
        stage="tls",
        place=speaking_tls(with_alert(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)),
        port=465,
        use_ssl=True,
    ),
    Scene(cause="tls-timed-out", stage="tls", place=Script(starttls=True, stall="tls"), use_ssl=True, waits=True),
    tls("tls-closed", close="tls"),
]


def token(cause: str, endpoint: Endpoint, **more: object) -> Scene:
    return Scene(cause=cause, stage="token", place=IN_CLEAR_TEXT, endpoint=endpoint, insecure=True, **more)  # type: ignore[arg-type]


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TOKENS = [
    token("token-host-unknown", Endpoint(url="https://login.test/token", look_up=socket.EAI_NONAME)),
    token("token-dns-unavailable", Endpoint(url="https://login.test/token", look_up=socket.EAI_AGAIN)),
    token("token-connection-refused", Endpoint(url="https://127.0.0.1:{port}/token")),
    token("token-unreachable", Endpoint(url=f"https://{NO_WAY}/token")),
    token("token-timed-out", Endpoint(Answer(wait=60)), waits=True),
    token("token-connection-closed", Endpoint(Answer(raw=b""))),
    token("token-endpoint-without-tls", Endpoint(tls=False)),
    token("token-certificate-dates", Endpoint(ends=LONG_AGO)),
    token("token-certificate-name", Endpoint(names=("login.test",))),
    token("token-certificate-issuer", Endpoint(trusted=False)),
    token("token-tls-failed", Endpoint(place=speaking_tls(with_old_ciphers))),
    token("token-answer-is-a-page", Endpoint(page())),
    token("token-answer-unreadable", Endpoint(Answer(200, b"access_token=abc"))),
    token("token-missing", Endpoint(says({"token_type": "Bearer", "expires_in": 3600}))),
    token("token-already-expired", Endpoint(issues(expires_in=0))),
    token("token-redirected", Endpoint(redirect("https://127.0.0.1/elsewhere"))),
    token(
        "client-key-unreadable",
        Endpoint(),
        client_secret="-----BEGIN PRIVATE KEY-----\nrubbish\n-----END PRIVATE KEY-----\n",
    ),
]


def signing_in(cause: str, place: Script, stage: str = "auth", **more: object) -> Scene:
    return Scene(**{"cause": cause, "stage": stage, "place": place, "authentication": BASIC} | more)  # type: ignore[arg-type]


def offering(*mechanisms: str, **more: object) -> Script:
    return Script(extensions=(*EXTENSIONS, "AUTH " + " ".join(mechanisms)), **more)  # type: ignore[arg-type]


def refusing(cause: str, explanation: dict[str, str]) -> Scene:
    """A relay that explains why it does not like the token."""
    explained = base64.b64encode(json.dumps(explanation).encode())
    said = (b"220 x\r\n", b"250-x\r\n250 AUTH XOAUTH2\r\n", b"334 %s\r\n" % explained, b"535 5.7.8 no\r\n")
    return Scene(cause=cause, stage="auth", place=saying(*said), endpoint=Endpoint(), insecure=True)


SIGNING_IN = [
    signing_in("sign-in-unencrypted", Script(auth=("PLAIN",))),
    Scene(cause="sign-in-unencrypted", stage="auth", place=Script(auth=("XOAUTH2",)), endpoint=Endpoint()),
    signing_in(
        "microsoft-mx-has-no-sign-in",
        IN_CLEAR_TEXT,
        host="example-org.mail.protection.outlook.com",
        port=25,
        insecure=True,
    ),
    signing_in("no-sign-in-on-port-25", STARTTLS, port=25, use_ssl=True),
    signing_in("no-sign-in-offered", STARTTLS, use_ssl=True),
    signing_in("only-oauth-offered", Script(starttls=True, auth=("XOAUTH2", "OAUTHBEARER")), use_ssl=True),
    signing_in("no-oauth-offered", Script(starttls=True, auth=("PLAIN", "LOGIN")), use_ssl=True, endpoint=Endpoint()),
    signing_in("no-usable-mechanism", offering("GSSAPI", "NTLM", starttls=True), use_ssl=True),
    signing_in("credentials-wrong", Script(starttls=True, auth=("PLAIN",)), use_ssl=True),
    signing_in("credentials-wrong", Script(starttls=True, auth=("LOGIN",)), use_ssl=True),
    signing_in("microsoft-token-refused", Script(starttls=True, auth=("XOAUTH2",)), use_ssl=True, endpoint=Endpoint()),
    signing_in(
        "microsoft-token-refused", Script(starttls=True, auth=("OAUTHBEARER",)), use_ssl=True, endpoint=Endpoint()
    ),
    signing_in(
        "microsoft-permission-missing",
        Script(starttls=True, auth=("XOAUTH2",)),
        use_ssl=True,
        endpoint=Endpoint(issues(signed(aud="https://outlook.office365.com", roles=["Mail.Send"]))),
    ),
    signing_in(
        "microsoft-token-refused",
        Script(starttls=True, auth=("XOAUTH2",)),
        use_ssl=True,
        endpoint=Endpoint(issues(signed(roles=["SMTP.SendAsApp"]))),
    ),
    refusing("token-refused-by-relay", {"status": "401", "schemes": "bearer"}),
    refusing("token-refused-by-relay", {"status": "invalid_token"}),
    refusing("token-scope-too-small", {"status": "insufficient_scope", "scope": "mail.send"}),
]

HANDING_OVER = [
    Scene(
        cause="smtputf8-not-offered", stage="sender", place=Script(extensions=EXTENSIONS), recipient="用户@example.net"
    ),
    Scene(cause="message-larger-than-size", stage="sender", place=Script(extensions=("SIZE 100",))),
    Scene(cause="outcome-unknown", stage="data", place=Script(close="after-dot")),
    Scene(cause="outcome-unknown", stage="data", place=Script(stall="body"), waits=True),
    Scene(cause="message-stalled", stage="data", place=Script(stall="data"), waits=True),
    Scene(cause="message-cut-off", stage="data", place=Script(close="data")),
    Scene(cause="not-smtp-any-more", stage="data", place=Script(replies={"data": "250 2.0.0 ok"})),
    Scene(cause="not-smtp-any-more", stage="recipient", place=Script(replies={"rcpt": "what?"})),
    Scene(cause="timed-out", stage="recipient", place=Script(stall="rcpt"), waits=True),
    Scene(cause="connection-lost", stage="sender", place=Script(close="mail")),
    signing_in("connection-lost", Script(starttls=True, auth=("PLAIN",), close="auth"), use_ssl=True),
    signing_in("timed-out", Script(starttls=True, auth=("PLAIN",), stall="auth"), use_ssl=True, waits=True),
]

# Where the examples of the catalogue are said.
SAID_AT = {
    "greeting": ("greeting",),
    "hello": ("ehlo", "helo"),
    "tls": ("starttls",),
    "auth": ("auth",),
    "sender": ("mail",),
    "recipient": ("rcpt",),
    "data": ("body",),
}


def said_again(example: Example) -> Scene:
    """A reply of the catalogue's examples, said by a relay of the same name and on the same port."""
    evidence, around = example.evidence, example.around
    assert evidence.reply is not None
    lines = tuple(f"{evidence.reply.code} {line}".rstrip() for line in evidence.reply.lines)
    script = Script(
        starttls=evidence.stage == "tls",
        auth=("PLAIN", "XOAUTH2"),
        users=USERS,
        replies=dict.fromkeys(SAID_AT[evidence.stage], lines),
    )
    endpoint = None
    if around.sign_in == "oauth_client_credentials":
        claims = {"aud": evidence.facts.get("audience"), "roles": evidence.facts.get("roles")}
        endpoint = Endpoint(issues(signed(**claims))) if evidence.facts.get("format") == "jwt" else Endpoint()
    return Scene(
        cause=example.cause,
        stage=evidence.stage,
        place=script,
        host=around.host,
        port=around.port,
        use_ssl=evidence.stage == "tls",
        authentication=BASIC if around.sign_in == "basic" else Anonymous(),
        endpoint=endpoint,
        sender=around.sender if "@" in around.sender else SENDER,
        recipient=around.recipient or RECIPIENT,
        insecure=True,
    )


def answered_again(example: Example) -> Scene:
    """An answer of a token endpoint among the catalogue's examples."""
    facts, detail = example.evidence.facts, example.evidence.detail
    error = facts.get("error", detail)
    if error and " " not in error:
        answer = refused(facts["status"], error, facts.get("error_description"))
    else:
        answer = page(facts["status"]) if "HTML" in detail else Answer(facts["status"])
    return token(example.cause, Endpoint(answer))


REPLIES = [said_again(one) for one in EXAMPLES if one.evidence.kind == "reply" and not one.evidence.detail]
ANSWERS = [answered_again(one) for one in EXAMPLES if one.evidence.kind == "status"]
SCENES = [*REACHING, *IN_TLS, *TOKENS, *SIGNING_IN, *HANDING_OVER, *REPLIES, *ANSWERS]


def test_a_cause_that_nothing_provokes_is_listed_with_the_reason():
    provoked = {scene.cause for scene in SCENES}
    in_vaults = {cause.id for cause in VAULT}  # tests/pam/test_vault_causes_live.py
    assert {cause.id for cause in CAUSES} - provoked - in_vaults == set(NOT_PROVOKED)
    assert provoked & set(NOT_PROVOKED) == set()


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_what_fails_on_a_real_socket_is_explained(scene, tmp_path):
    told: list[Finding] = []
    report = asyncio.run(play(scene, tmp_path, told.append))
    assert report.failed is not None
    assert told == list(report.findings)
    document = report_document(report)
    shown = json.dumps(document, indent=1)
    assert (document["failed_stage"], document["cause"]["id"]) == (scene.stage, scene.cause), shown
    for text in (document["cause"]["sentence"], document["cause"]["remedy"]):
        assert not re.search(r"[{}\[\]]|\s\s|\bNone\b", text), text
    in_turn = [stage["verdict"] for stage in document["stages"]]
    assert in_turn.count("failed") == 1
    assert "ok" not in in_turn[in_turn.index("failed") :], shown
    assert sorted(stage["stage"] for stage in document["stages"]) == sorted(STAGES), shown


def test_a_token_request_that_is_given_up_leaves_no_connection_open(tmp_path):
    ended = threading.Event()

    def handle(connection: socket.socket) -> None:
        while connection.recv(65536):  # a handshake that is never answered
            pass
        ended.set()

    async def give_up() -> None:
        await play(token("token-timed-out", Endpoint(place=lambda: listening), waits=True), tmp_path)
        assert await asyncio.to_thread(ended.wait, 5)

    gc.disable()  # it would end the connection too, at a time of its own
    try:
        with serving(handle) as address:
            listening = contextlib.nullcontext(address)
            asyncio.run(give_up())
    finally:
        gc.enable()
