"""The Postfix of the tests does what tests of ours rely on; the standard library's client asks it."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage

import pytest

from postfix import REFUSED, SIZE_LIMIT

SENDER = "pki@example.org"


@pytest.fixture
def trust(postfix) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=postfix.authority)


@pytest.fixture
def plain(postfix):
    with smtplib.SMTP(postfix.host, postfix.plain_port, "client.example.org", timeout=20) as client:
        yield client


@pytest.fixture
def submission(postfix, trust):
    """Past STARTTLS, and not signed in."""
    with smtplib.SMTP("localhost", postfix.submission_port, "client.example.org", timeout=20) as client:
        client.starttls(context=trust)
        client.ehlo()
        yield client


def message(recipient: str, text: str = "Hello.\n") -> EmailMessage:
    found = EmailMessage()
    found["From"], found["To"], found["Subject"] = SENDER, recipient, "A message"
    found.set_content(text)
    return found


def test_what_the_plain_door_accepts_is_delivered_to_its_recipient_alone(postfix, plain):
    plain.send_message(message("plain@example.org"))
    plain.send_message(message("beside@example.org"))
    (delivered,) = postfix.messages("plain@example.org")
    assert delivered.endswith(b"\n\nHello.\n")
    assert {delivered, *postfix.messages("beside@example.org")} <= set(postfix.messages())


def test_the_plain_door_offers_neither_tls_nor_a_sign_in(plain):
    plain.ehlo()
    assert not plain.has_extn("starttls")
    assert not plain.has_extn("auth")
    assert all(plain.has_extn(name) for name in ("pipelining", "chunking", "8bitmime", "smtputf8", "size"))


@pytest.mark.parametrize(
    ("recipient", "code", "says"),
    [
        pytest.param(REFUSED, 550, b"5.1.1 ", id="unknown address"),
        pytest.param("someone@example.com", 554, b"5.7.1 <someone@example.com>: Relay access denied", id="elsewhere"),
    ],
)
def test_a_recipient_that_is_not_ours_is_refused(plain, recipient, code, says):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        plain.sendmail(SENDER, recipient, b"Subject: no\r\n\r\nno\r\n")
    assert refusal.value.recipients[recipient][0] == code
    assert refusal.value.recipients[recipient][1].startswith(says)


def test_a_message_that_is_too_large_is_refused_by_its_size_and_by_its_end(plain):
    content = b"x" * 70 + b"\r\n"
    content *= SIZE_LIMIT // len(content) + 1
    plain.ehlo()
    assert plain.mail(SENDER, [f"SIZE={len(content)}"])[0] == 552
    plain.rset()  # Postfix does not forget the size otherwise
    plain.mail(SENDER)
    plain.rcpt("large@example.org")
    code, text = plain.data(content)
    assert (code, text[:6]) == (552, b"5.3.4 ")


def test_submission_takes_nothing_before_starttls(postfix):
    with smtplib.SMTP(postfix.host, postfix.submission_port, "client.example.org", timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.mail(SENDER) == (530, b"5.7.0 Must issue a STARTTLS command first")


def test_submission_takes_nothing_before_a_sign_in(submission):
    submission.mail(SENDER)
    assert submission.rcpt("someone@example.org")[0] == 554


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_either_mechanism_signs_in_after_starttls(postfix, submission, mechanism):
    assert submission.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    submission.esmtp_features["auth"] = mechanism
    assert submission.login(postfix.user, postfix.password)[0] == 235
    recipient = f"signed-in-with-{mechanism.lower()}@example.org"
    submission.send_message(message(recipient))
    (delivered,) = postfix.messages(recipient)
    assert b"with ESMTPSA" in delivered  # over TLS, and signed in (RFC 3848)


def test_a_wrong_password_is_refused_and_stands_in_the_log(postfix, submission):
    with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
        submission.login(postfix.user, postfix.password + "?")
    assert refusal.value.smtp_code == 535
    assert "SASL LOGIN authentication failed" in postfix.log()


def test_implicit_tls_is_spoken_from_the_first_byte(postfix, trust):
    port = postfix.submissions_port
    with smtplib.SMTP_SSL(postfix.host, port, "client.example.org", timeout=20, context=trust) as client:
        client.login(postfix.user, postfix.password)
        client.send_message(message("implicit@example.org"))
    assert len(postfix.messages("implicit@example.org")) == 1


def test_nobody_trusts_the_relay_without_its_authority(postfix):
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL(postfix.host, postfix.submissions_port, timeout=20, context=ssl.create_default_context())
