"""The explained test and the session against a real Postfix: in the clear, over TLS, signed in and refused."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
import uvloop

from keyrelay.network.trust import Trust
from keyrelay.profile import model as profile_model
from keyrelay.profile.model import Anonymous, Authentication, Basic, SmtpProfile
from keyrelay.relay.diagnosis import Diagnoses, Mode, Order, Report
from keyrelay.relay.model import Envelope, StageFailed
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.pool import SessionPool
from keyrelay.relay.sign_in import NoSignIn, PasswordSignIn
from keyrelay.relay.token import Tokens
from keyrelay.secrets.model import SecretText
from postfix import REFUSED, SIZE_LIMIT
from relaying import as_given

pytestmark = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])

CONTENT = b"Subject: hello\r\n\r\n.one dot\r\n..two\r\n.\r\nthe end\r\n"


def terms(postfix, *, trusted: bool = True) -> Terms:
    trust = Trust(authorities=postfix.authority if trusted else None)
    return Terms(trust, Tokens(trust.for_http), "client.example.org")


def profile(port: int, authentication: Authentication | None = None, *, use_ssl: bool = False) -> SmtpProfile:
    return SmtpProfile("localhost", port, use_ssl, "pki@example.org", "PKI Ä", authentication or Anonymous())


def basic(postfix, password: str | None = None) -> Basic:
    return Basic(SecretText(postfix.user), SecretText(password or postfix.password))


@pytest.fixture
def diagnose(postfix, loop: Callable[[], asyncio.AbstractEventLoop]):
    def run(given: SmtpProfile, recipient: str, mode: Mode = "message", *, trusted: bool = True) -> Report:
        async def work() -> Report:
            diagnoses = Diagnoses(terms(postfix, trusted=trusted), as_given(), ())
            report = await diagnoses.run(Order(given, mode, recipient))
            await diagnoses.close()
            return report

        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(work())

    return run


def learned(report: Report, stage: str) -> dict[str, Any]:
    return next(dict(finding.stage.learned) for finding in report.findings if finding.stage.stage == stage)


def cause(report: Report) -> str | None:
    return report.failed.explanation.cause.id if report.failed is not None else None


def arrived(postfix, recipient: str) -> list[EmailMessage]:
    return [email.message_from_bytes(raw, policy=email.policy.default) for raw in postfix.messages(recipient)]


def test_anonymous_mail_arrives_as_it_was_written(postfix, diagnose):
    report = diagnose(profile(postfix.plain_port), "anonymous@example.org")
    assert cause(report) is None
    (message,) = [each for each in arrived(postfix, "anonymous@example.org") if each["Message-ID"] == report.message_id]
    assert message["From"].addresses[0].display_name == "PKI Ä"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "queued as" in learned(report, "data")["answer"]
    assert report.delivery.round_trips == 1  # Postfix offers CHUNKING


def test_signed_in_by_starttls(postfix, diagnose):
    report = diagnose(profile(postfix.submission_port, basic(postfix), use_ssl=True), "by-starttls@example.org")
    assert cause(report) is None
    assert learned(report, "tls")["verified"] is True
    assert learned(report, "auth")["mechanism"] == "PLAIN"
    assert postfix.messages("by-starttls@example.org")


def test_signed_in_by_tls_from_the_first_byte(postfix, diagnose, monkeypatch):
    monkeypatch.setattr(profile_model, "SUBMISSIONS_PORT", postfix.submissions_port)
    report = diagnose(profile(postfix.submissions_port, basic(postfix), use_ssl=True), "from-first-byte@example.org")
    assert cause(report) is None
    assert learned(report, "tls")["protocol"].startswith("TLSv1.")
    assert postfix.messages("from-first-byte@example.org")


@pytest.mark.parametrize("trusted", [True, False])
def test_starttls_is_taken_when_offered_whatever_the_certificate_says(postfix, diagnose, trusted):
    report = diagnose(profile(postfix.submission_port), "offered@example.org", "connect", trusted=trusted)
    assert cause(report) is None
    assert learned(report, "tls")["encrypted"] is True
    assert learned(report, "tls")["verified"] is trusted


def test_a_wrong_password_is_named(postfix, diagnose):
    report = diagnose(
        profile(postfix.submission_port, basic(postfix, "not it at all"), use_ssl=True), "ops@example.org"
    )
    assert (report.failed.stage.stage, cause(report)) == ("auth", "credentials-wrong")


def test_an_authority_that_is_not_trusted_is_named_with_its_chain(postfix, diagnose):
    given = profile(postfix.submission_port, basic(postfix), use_ssl=True)
    report = diagnose(given, "ops@example.org", trusted=False)
    assert report.failed.stage.stage == "tls"
    assert cause(report) in {"certificate-issuer-unknown", "certificate-chain-incomplete"}
    (leaf, *_) = learned(report, "tls")["seen_without_verification"]["certificates"]
    assert "localhost" in leaf["names"]


def test_credentials_do_not_go_to_a_door_without_tls(postfix, diagnose):
    report = diagnose(profile(postfix.plain_port, basic(postfix)), "ops@example.org")
    assert (report.failed.stage.stage, cause(report)) == ("auth", "sign-in-unencrypted")


def test_tls_asked_of_a_door_without_it_fails(postfix, diagnose):
    report = diagnose(profile(postfix.plain_port, use_ssl=True), "ops@example.org")
    assert (report.failed.stage.stage, cause(report)) == ("tls", "starttls-not-offered")


@pytest.mark.long
def test_starttls_spoken_to_a_door_with_implicit_tls_names_what_it_speaks(postfix, diagnose):
    report = diagnose(profile(postfix.submissions_port, use_ssl=True), "ops@example.org")
    assert (report.failed.stage.stage, cause(report)) == ("greeting", "port-wants-implicit-tls")


@pytest.mark.parametrize(
    ("recipient", "expected"), [(REFUSED, "recipient-unknown"), ("somebody@elsewhere.example", "relay-denied")]
)
def test_a_refused_recipient_is_named_and_the_envelope_test_mails_nobody(postfix, diagnose, recipient, expected):
    for mode in ("envelope", "message"):
        report = diagnose(profile(postfix.plain_port), recipient, mode)
        assert (report.failed.stage.stage, cause(report)) == ("recipient", expected)


def test_the_envelope_test_mails_nobody(postfix, diagnose):
    report = diagnose(profile(postfix.plain_port), "envelope@example.org", "envelope")
    assert cause(report) is None
    assert postfix.messages("envelope@example.org") == []


def test_many_messages_on_one_session_one_of_them_refused(postfix, loop):
    given = profile(postfix.submission_port, use_ssl=True)
    signed_in = PasswordSignIn(SecretText(postfix.user), SecretText(postfix.password))

    async def work():
        session = await open_session(given, signed_in, terms(postfix))
        try:
            first = await session.send(Envelope("pki@example.org", (REFUSED,)), CONTENT)
            both = await session.send(Envelope("pki@example.org", (REFUSED, "pool@example.org")), CONTENT)
            text = b"Subject: long\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1500
            long = await session.send(Envelope("pki@example.org", ("pool@example.org",)), text)
        finally:
            await session.quit()
        return first, both, long

    with asyncio.Runner(loop_factory=loop) as runner:
        first, both, long = runner.run(work())
    assert first.accepted == ()
    assert both.accepted == ("pool@example.org",)
    assert long.accepted == ("pool@example.org",)
    assert any(raw.endswith(b"\n.one dot\n..two\n.\nthe end\n") for raw in postfix.messages("pool@example.org"))


def test_a_message_beyond_the_relays_size_is_not_even_sent(postfix, loop):
    async def work():
        session = await open_session(profile(postfix.plain_port), NoSignIn(), terms(postfix))
        line = b"x" * 70 + b"\r\n"
        try:
            with pytest.raises(StageFailed) as refused:
                await session.send(Envelope("a@example.org", ("b@example.org",)), line * (SIZE_LIMIT // len(line) + 2))
            again = await session.send(Envelope("a@example.org", ("small@example.org",)), CONTENT)
        finally:
            await session.quit()
        return refused.value.evidence.kind, again.accepted

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(work()) == ("too_large", ("small@example.org",))


def test_a_pool_of_sessions_sends_for_many_at_once(postfix, loop):
    async def work() -> int:
        pool = SessionPool()
        on = terms(postfix)

        async def one(number: int) -> int:
            opening = lambda: open_session(profile(postfix.plain_port), NoSignIn(), on)  # noqa: E731
            async with pool.session(1, opening) as session:
                delivery = await session.send(Envelope("pki@example.org", (f"many{number % 3}@example.org",)), CONTENT)
                return len(delivery.accepted)

        accepted = await asyncio.gather(*map(one, range(60)))
        await pool.close()
        return sum(accepted)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(work()) == 60
