"""Whatever the relay or the token endpoint does, no piece of a credential is in report, dialogue, log or exception."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keyrelay import log
from keyrelay.api.diagnoses import finding_document, report_document
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import STAGES, Script
from keyrelay.network.trust import Trust
from keyrelay.profile.model import Basic, OAuthClientCredentials, SmtpProfile
from keyrelay.relay import detective
from keyrelay.relay.causes import CAUSES
from keyrelay.relay.credentials import Opener
from keyrelay.relay.diagnosis import Diagnoses, Order
from keyrelay.relay.model import Envelope, StageFailed
from keyrelay.relay.opening import Patience, Terms, open_session
from keyrelay.relay.token import Tokens
from keyrelay.relay.transcript import Redactor
from keyrelay.secrets.model import SecretText
from live_causes import saying
from logs import log_as_it_was
from relaying import as_given, certificates
from token_server import Answer, TokenServer, issues, page, redirect, refused, says, signed

WINDOW = 6
SENDER, RECIPIENT, USER = "pki@example.org", "ops@example.org", "mailer"
PIPELINED, CHUNKED = ("PIPELINING", "SIZE 1000000", "SMTPUTF8"), ("PIPELINING", "CHUNKING", "8BITMIME")
LIBRARIES = ("asyncio", "httpx2", "httpcore2")


# --- Credentials, and their pieces ---------------------------------------------------------------------------

# No six of these in a row are a word; many mean something to a URL, to JSON, to base64, to a terminal, or to SMTP.
LETTERS = "QXZJVKWqxzjvkwbfp7318"
VISIBLE = LETTERS + "%+/=\\\"'<>&;,.:{}[]$#!~^|`@-_"
TYPED = VISIBLE + " äÖßñİıﬁΣς中文かな🔑é"


@dataclass(frozen=True)
class Credentials:
    password: str
    client_secret: str
    token: str

    def all(self) -> tuple[str, ...]:
        return self.password, self.client_secret, self.token


def made(seed: int) -> Credentials:
    """Credentials that hold nothing that also stands somewhere else: drawn evenly, unlike what hypothesis draws."""
    source = random.Random(seed)

    def text(letters: str) -> str:
        return "".join(source.choice(letters) for _ in range(source.randint(8, 60)))

    token = text(VISIBLE)
    if source.random() < 0.4:
        token = signed(aud=text(LETTERS), roles=["SMTP.SendAsApp"], jti=text(LETTERS))
    return Credentials(text(TYPED), text(TYPED), token)


def pieces(secret: str) -> set[str]:
    """Every six characters in a row, as they are and as URLs and JSON write them."""
    windows = {secret[start : start + WINDOW] for start in range(len(secret) - WINDOW + 1)}
    written = {form(window) for window in windows for form in (_in_path, quote_plus, _in_json)}
    return {piece.casefold() for piece in windows | written}


def base64_pieces(secret: str) -> set[str]:
    """Every six characters in a row of its base64, whatever stands beside it there."""
    found: set[str] = set()
    for text in {secret, quote_plus(secret)}:
        octets = text.encode()
        for lead in range(3):
            coded = base64.b64encode(b"\0" * lead + octets).decode().rstrip("=")
            # The outermost characters hold bits of something else as well.
            own = coded[-(-8 * lead // 6) : (8 * (lead + len(octets))) // 6]
            found |= {own[start : start + WINDOW] for start in range(len(own) - WINDOW + 1)}
    return found | {piece.translate({43: "-", 47: "_"}) for piece in found}


def _in_path(text: str) -> str:
    return quote(text, safe="")


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def windows_of(text: str) -> set[str]:
    return {text[start : start + WINDOW] for start in range(len(text) - WINDOW + 1)}


def seen_in(text: str, credentials: Credentials, usual: str) -> set[str]:
    """The pieces of the credentials that can be seen in the text, and not in the usual one."""
    folded, usually = text.casefold(), _folded(usual)
    found: set[str] = set()
    for secret in credentials.all():
        found |= {piece for piece in pieces(secret) if piece in folded and piece not in usually}
        found |= {piece for piece in base64_pieces(secret) & windows_of(text) if piece not in usual}
    return found


@cache
def _folded(text: str) -> str:
    return text.casefold()


# --- What relay and token endpoint do ------------------------------------------------------------------------

Trouble = Literal["none", "refuses", "repeats", "repeats and agrees", "stalls", "closes", "closes midway"]
TROUBLES: tuple[Trouble, ...] = (
    "none",
    "refuses",
    "repeats",
    "repeats and agrees",
    "stalls",
    "closes",
    "closes midway",
)
RELAY_STAGES = tuple(stage for stage in STAGES if stage not in {"helo", "rset", "quit", "bdat"})
MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")
AGREEING = {"greeting": 220, "starttls": 220, "auth": 235, "data": 354}


@dataclass(frozen=True)
class Plan:
    """``stage`` is where the relay makes the trouble; ``endpoint`` names an answer of ENDPOINTS."""

    mechanism: str = "PLAIN"
    stage: str = "auth"
    trouble: Trouble = "none"
    endpoint: str = "issues"
    client_authentication: Literal["client_secret_post", "client_secret_basic"] = "client_secret_post"
    known: bool = True
    repeats_sign_in: bool = False
    explains: bool = False
    asks_on: bool = False
    certificate: Literal["good", "expired"] = "good"
    extensions: tuple[str, ...] = PIPELINED
    mode: Literal["connect", "envelope", "message"] = "message"

    def __str__(self) -> str:
        said = [self.mechanism]
        said += [f"{self.stage} {self.trouble}"] if self.trouble != "none" else []
        said += [self.endpoint, self.client_authentication.removeprefix("client_secret_")] if self.oauth else []
        said += ["repeats the sign-in"] if self.repeats_sign_in else []
        said += ["explains"] if self.explains else []
        return ", ".join([*said, "asks on and repeats"] if self.asks_on else said)

    @property
    def oauth(self) -> bool:
        return self.mechanism in {"XOAUTH2", "OAUTHBEARER"}

    @property
    def in_the_clear(self) -> bool:
        return self.explains or self.asks_on

    @property
    def waits(self) -> bool:
        return self.trouble == "stalls" or (self.oauth and self.endpoint == "stalls")


# What a token endpoint answers that knows the secret, and the token.
ENDPOINTS: dict[str, Callable[[Credentials], Answer]] = {
    "issues": lambda known: issues(known.token),
    "names both": lambda known: issues(known.token, scope=known.client_secret, issued_token_type=known.token),
    "another type": lambda known: issues(known.token, token_type=f"{known.client_secret} {known.token}"),
    "expired": lambda known: issues(known.token, expires_in=0),
    "refuses": lambda _: refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided."),
    "describes": lambda known: refused(400, "invalid_client", f"No: {repeated(known.client_secret)}"),
    "codes": lambda known: refused(400, known.client_secret, known.client_secret),
    "without a token": lambda known: says({"error": known.client_secret, "client_secret": known.client_secret}),
    "page": lambda known: replace(page(500), body=f"<html>{known.client_secret}</html>".encode()),
    "text": lambda known: Answer(200, repeated(known.client_secret).encode()),
    "redirects": lambda known: redirect(f"https://127.0.0.1/{_in_path(known.client_secret)}?{known.token}"),
    "waits": lambda known: refused(429, "slow_down", None, retry_after=_in_path(known.client_secret)),
    "stalls": lambda _: Answer(wait=60),
    "closes": lambda _: Answer(raw=b""),
    "cut": lambda known: replace(issues(known.token), cut=200),
    "garbage": lambda known: Answer(raw=known.client_secret.encode() + b"\r\n\r\n"),
}
# Their heads hold the secret, and the HTTP library logs heads, where it is let; keyrelay never lets it.
IN_THE_HEAD = {"redirects", "waits", "garbage"}


def repeated(secret: str) -> str:
    """A secret in all the forms in which somebody may repeat it."""
    octets = secret.encode()
    coded = [base64.b64encode(b"\0" * lead + octets).decode() for lead in range(3)]
    return " ".join([secret, *coded, _in_path(secret), quote_plus(secret), secret.upper(), f"<{secret}>"])


def script_of(plan: Plan, known: Credentials) -> Script:
    secret = known.token if plan.oauth else known.password
    rules: dict[str, Any] = {}
    match plan.trouble:
        case "refuses":
            rules["replies"] = {plan.stage: "550 5.7.1 no"}
        case "repeats":
            rules["replies"] = {plan.stage: tuple(f"550 5.7.1 {text}" for text in _repeated_at(plan, known))}
        case "repeats and agrees":
            code = AGREEING.get(plan.stage, 250)
            lines = [f"{code} {text}" for text in _repeated_at(plan, known)]
            offered = [f"250 {name}" for name in ("relay.test", "STARTTLS", f"AUTH {plan.mechanism}")]
            rules["replies"] = {plan.stage: tuple(offered + lines if plan.stage == "ehlo" else lines)}
        case "stalls":
            rules["stall"] = plan.stage
        case "closes":
            rules["close"] = plan.stage
        case "closes midway":
            rules["close"] = f"mid:{plan.stage}"
    return Script(
        starttls=True,
        auth=(plan.mechanism,),
        users={USER: secret, SENDER: secret} if plan.known else {},
        echo_credentials=plan.repeats_sign_in,
        certificate=plan.certificate,
        extensions=plan.extensions,
        **rules,
    )


def _repeated_at(plan: Plan, known: Credentials) -> list[str]:
    """What a relay can repeat: the token only when it has been shown it."""
    shown = plan.stage in {"auth", "mail", "rcpt", "data", "body"}
    secrets = [known.client_secret, known.token] if plan.oauth and shown else [known.client_secret]
    return [repeated(secret) for secret in (secrets if plan.oauth else [known.password])]


# --- One test of each kind, and everything that can be seen of it --------------------------------------------


class Watch(logging.Handler):
    """Keeps whatever is logged, as text, with all that a formatter could print."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.__dict__!r}")
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.lines.append(told(record.exc_info[1]))


def told(error: BaseException | None) -> str:
    """All that an error and those behind it can say."""
    said: list[str] = []
    while error is not None:
        said += [str(error), repr(error), repr(error.args), *traceback.format_exception(error, chain=False)]
        if isinstance(error, StageFailed):
            said.append(repr(error.evidence))
        error = error.__cause__ or error.__context__
    return "\n".join(said)


@dataclass(repr=False)
class Stand:
    """A loop, a token endpoint and a log that is watched, for many examples."""

    runner: asyncio.Runner
    provider: TokenServer
    bundle: Path
    usual: str = ""

    def everything_of(self, plan: Plan, credentials: Credentials) -> str:
        """Whatever can be seen of a diagnosis and of a session by this plan."""
        self.provider.answer = ENDPOINTS[plan.endpoint](credentials)
        watch, root = Watch(), logging.getLogger()
        log.start("debug", "json")
        root.handlers[:] = [watch]
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING if plan.endpoint in IN_THE_HEAD else logging.DEBUG)
        seen = self.runner.run(self._seen(plan, credentials))
        return "\n".join([*seen, *watch.lines])

    def assert_nothing_seen(self, plan: Plan, credentials: Credentials) -> None:
        text = self.everything_of(plan, credentials)
        if found := seen_in(text, credentials, self.usual):
            lines = [line[:2000] for line in text.splitlines() if seen_in(line, credentials, self.usual)]
            pytest.fail("\n".join([f"{plan}: {found} of {credentials}", *lines]))

    async def _seen(self, plan: Plan, credentials: Credentials) -> list[str]:
        async with AsyncExitStack() as stack:
            port = await self._relay(plan, credentials, stack)
            terms = self._terms(plan)
            stack.push_async_callback(terms.tokens.close)
            profile = SmtpProfile(
                "localhost", port, not plan.in_the_clear, SENDER, "PKI", self._sign_in(plan, credentials)
            )
            finished: list[str] = []
            opener = as_given(plan.client_authentication)
            report = await Diagnoses(terms, opener, ()).run(
                Order(profile, plan.mode, RECIPIENT),
                finished=lambda finding: finished.append(json.dumps(finding_document(finding), ensure_ascii=False)),
            )
            document = json.dumps(report_document(report), ensure_ascii=False)
            raised = await self._session(profile, terms, opener)
            return [document, *finished, repr(report.findings), repr(report.order), raised]

    async def _relay(self, plan: Plan, known: Credentials, stack: AsyncExitStack) -> int:
        if not plan.in_the_clear:
            relay = ChaosRelay(script_of(plan, known), certificates=certificates())
            return (await stack.enter_async_context(relay)).port
        hello = b"250-relay.test\r\n250 AUTH %s\r\n" % plan.mechanism.encode()
        if plan.asks_on:
            asked = [f"334 {text}\r\n".encode() for text in _repeated_at(plan, known)][-1:] * 3
            return stack.enter_context(saying(b"220 relay.test\r\n", hello, *asked)())[1]
        explained = {"status": known.token, "schemes": known.client_secret, "scope": repeated(known.token)}
        challenge = base64.b64encode(json.dumps(explained).encode())
        end = f"535 5.7.8 {repeated(known.token)}\r\n".encode()
        return stack.enter_context(saying(b"220 relay.test\r\n", hello, b"334 %s\r\n" % challenge, end)())[1]

    def _terms(self, plan: Plan) -> Terms:
        trust = Trust(authorities=self.bundle)
        seconds = 0.15 if plan.waits else 10.0
        return Terms(
            trust,
            Tokens(trust.for_http, seconds=seconds),
            "client.test",
            allow_insecure_sign_in=plan.in_the_clear,
            patience=Patience(10.0, 10.0, seconds),
        )

    def _sign_in(self, plan: Plan, credentials: Credentials) -> Basic | OAuthClientCredentials:
        if not plan.oauth:
            return Basic(SecretText(USER), SecretText(credentials.password))
        return OAuthClientCredentials(SecretText("a-client"), SecretText(credentials.client_secret), self.provider.url)

    async def _session(self, profile: SmtpProfile, terms: Terms, opener: Opener) -> str:
        """What the way that real mail takes says of a failure."""
        try:
            opened = await opener.open(profile)
            session = await open_session(profile, opened.credentials, terms)
            try:
                delivery = await session.send(Envelope(SENDER, (RECIPIENT,)), b"Subject: x\r\n\r\nx\r\n")
            finally:
                session.wire.abort()
        except StageFailed as failure:
            return told(failure)
        evidence = delivery.evidence()
        return f"{evidence!r} {evidence.reply if evidence else ''} {delivery.data}"


@pytest.fixture(scope="module")
def stand(tmp_path_factory) -> Iterator[Stand]:
    directory = tmp_path_factory.mktemp("credentials")
    with (
        log_as_it_was(),
        pytest.MonkeyPatch.context() as patch,
        TokenServer(directory) as provider,
        asyncio.Runner(debug=True) as runner,
    ):
        patch.setattr(detective, "_SECONDS", 0.2)
        bundle = directory / "trusted.pem"
        bundle.write_bytes(certificates().authority.read_bytes() + provider.authority.read_bytes())
        made_ready = Stand(runner, provider, bundle)
        made_ready.usual = usual_text(made_ready)
        yield made_ready


def usual_text(stand: Stand) -> str:
    """What is seen whatever the credentials are, so that nobody takes it for a piece of them."""
    others = Credentials("-" * 8, "-" * 8, "-" * 8)
    plans = [Plan(stage=stage, trouble="refuses") for stage in RELAY_STAGES]
    plans += [Plan(mechanism, known=known) for mechanism in MECHANISMS for known in (True, False)]
    plans += [Plan("XOAUTH2", endpoint=name) for name in ENDPOINTS if name != "stalls"]
    catalogue = [cause.sentence + cause.remedy for cause in CAUSES]
    return "\n".join([*catalogue, *(stand.everything_of(plan, others) for plan in plans)])


# --- The property --------------------------------------------------------------------------------------------

EVERY_STAGE = [
    Plan(mechanism, stage, trouble) for mechanism in MECHANISMS[::2] for stage in RELAY_STAGES for trouble in TROUBLES
]
EVERY_ENDPOINT = [
    Plan("XOAUTH2", endpoint=name, client_authentication=way)
    for name in ENDPOINTS
    for way in ("client_secret_post", "client_secret_basic")
]
EVERY_MECHANISM = [Plan(mechanism, repeats_sign_in=True) for mechanism in MECHANISMS]
EVERY_EXPLANATION = [Plan(mechanism, explains=True) for mechanism in MECHANISMS[2:]]
EVERY_QUESTION = [Plan(mechanism, asks_on=True) for mechanism in MECHANISMS]


@pytest.mark.parametrize(
    "plan", [*EVERY_STAGE, *EVERY_ENDPOINT, *EVERY_MECHANISM, *EVERY_EXPLANATION, *EVERY_QUESTION], ids=str
)
def test_no_piece_is_seen_of_what_succeeds_or_fails_at_a_stage(stand, plan, request):
    stand.assert_nothing_seen(plan, made(zlib.crc32(request.node.name.encode())))


PLANS = st.builds(
    Plan,
    mechanism=st.sampled_from(MECHANISMS),
    stage=st.sampled_from(RELAY_STAGES),
    trouble=st.sampled_from(TROUBLES),
    endpoint=st.sampled_from(["issues"] * 5 + list(ENDPOINTS)),
    client_authentication=st.sampled_from(["client_secret_post", "client_secret_basic"]),
    known=st.booleans(),
    repeats_sign_in=st.booleans(),
    certificate=st.sampled_from(["good"] * 6 + ["expired"]),
    extensions=st.sampled_from([(), PIPELINED, CHUNKED]),
    mode=st.sampled_from(["connect", "envelope", "message", "message"]),
)


# Without shrinking: a smaller number makes no simpler credentials.
@settings(max_examples=100, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(plan=PLANS, seed=st.integers(0, 2**32))
def test_no_piece_of_a_credential_is_ever_seen(stand, plan, seed):
    stand.assert_nothing_seen(plan, made(seed))


# --- That the search finds, and the others really repeat -----------------------------------------------------


REPEATING = [
    *(Plan(stage=stage, trouble="repeats") for stage in RELAY_STAGES),
    *(Plan(stage=stage, trouble="repeats and agrees") for stage in RELAY_STAGES if stage != "ehlo"),
    *EVERY_MECHANISM,
    *EVERY_EXPLANATION,
    *(Plan("XOAUTH2", endpoint=name) for name in ("names both", "describes", "codes", "without a token", "redirects")),
]


@pytest.mark.parametrize("plan", REPEATING, ids=str)
def test_without_blackening_the_credentials_would_be_seen(stand, plan, monkeypatch):
    monkeypatch.setattr(Redactor, "clean", lambda _, text: text)
    credentials = made(20)
    assert seen_in(stand.everything_of(plan, credentials), credentials, stand.usual)


@pytest.mark.parametrize("seed", range(20))
def test_a_piece_is_found_in_whatever_form_it_is(seed):
    credentials = made(seed)
    for secret in credentials.all():
        start = random.Random(seed).randrange(len(secret) - WINDOW + 1)
        piece = secret[start : start + WINDOW]
        whole = [base64.b64encode(b"\0" * lead + secret.encode() + b"\0.").decode() for lead in range(3)]
        forms = (piece, piece.casefold(), _in_path(piece), quote_plus(piece), json.dumps(piece), *whole)
        for text in forms:
            assert seen_in(f"¦{text}¦", credentials, ""), text
        assert not seen_in(f"¦{piece[:-1]}¦", Credentials(secret, secret, secret), "")
        assert not seen_in(f"¦{piece}¦", credentials, f"¦what is {piece} always there¦")
