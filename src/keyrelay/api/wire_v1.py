"""Version 1 of the SMTP component: one struct for each published answer, one function for each request.

Contract 2.2 to 2.4. Version 1 knows neither PAM nor OAuth; secrets are plain texts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from keyrelay.api.conventions import Fields, Pairs
from keyrelay.api.wire_v2 import SECRET_NAMES, TestRequest, authentication_number, check_id, relay_user, sign_in_of
from keyrelay.errors import Violation
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import DEFAULT_PORT, SmtpProfile
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText

# What version 1 shows for a user name that lives in a PAM, and never takes for one (D3, P2).
UNSUPPORTED_PAM_SECRET = "UnsupportedPAMSecret"  # noqa: S105 - a literal of the contract

NAMES = {
    "host": "Host",
    "id": "Id",
    "port": "Port",
    "authentication": "RelayAuthenticationType",
    "relay_password": "RelayPassword",
    "relay_username": "RelayUsername",
    "sender_account": "SenderAccount",
    "sender_address": "SenderAddress",
    "sender_name": "SenderName",
    "use_ssl": "UseSSL",
    "test_recipient": "TestRecipient",
}


class SMTPV1Response(msgspec.Struct, rename="pascal", frozen=True):
    """GET and PUT (contract 2.2)."""

    host: str | None
    id: int
    port: int
    relay_authentication_type: int
    relay_username: str | None
    sender_account: str | None
    sender_address: str | None
    sender_name: str | None
    use_ssl: bool = msgspec.field(name="UseSSL")


class SMTPV1TestResponse(msgspec.Struct, rename="pascal", frozen=True):
    """Test (contract 2.4)."""

    host: str | None
    id: int
    port: int
    relay_authentication_type: int
    relay_username: str | None
    sender_account: str | None
    sender_name: str | None
    test_recipient: str | None
    use_ssl: bool = msgspec.field(name="UseSSL")


def response(snapshot: Snapshot) -> SMTPV1Response:
    profile = snapshot.profile
    if profile is None:
        return SMTPV1Response(None, 1, DEFAULT_PORT, 0, None, None, None, None, use_ssl=False)  # D17
    user = relay_user(profile)
    return SMTPV1Response(
        host=profile.host,
        id=1,
        port=profile.port,
        relay_authentication_type=authentication_number(profile),
        relay_username=UNSUPPORTED_PAM_SECRET if isinstance(user, FromPam) else snapshot.visible.get("relay_username"),
        sender_account=profile.sender_account,
        sender_address=profile.sender_account,
        sender_name=profile.sender_name,
        use_ssl=profile.use_ssl,
    )


def test_response(profile: SmtpProfile, asked: TestRequest) -> SMTPV1TestResponse:
    """The echo of a Test that went well (contract 2.4)."""
    user = relay_user(profile)
    return SMTPV1TestResponse(
        host=profile.host,
        id=1,
        port=profile.port,
        relay_authentication_type=authentication_number(profile),
        relay_username=UNSUPPORTED_PAM_SECRET if isinstance(user, FromPam) else _text_of(user),
        sender_account=profile.sender_account,
        sender_name=profile.sender_name,
        test_recipient=asked.recipient,
        use_ssl=profile.use_ssl,
    )


def _text_of(user: GivenSecret | None) -> str | None:
    return user.reveal() if isinstance(user, SecretText) else None


def put_request(pairs: Pairs) -> tuple[ProfileDraft, tuple[Violation, ...]]:
    """The draft a PUT asks for, and what reading it found wrong."""
    fields = Fields(pairs, NAMES)
    check_id(fields)
    user = fields.secret_text("relay_username")
    draft = ProfileDraft(
        host=fields.text("host"),
        port=fields.integer("port") or DEFAULT_PORT,
        use_ssl=fields.flag("use_ssl"),
        sender_account=_sender(fields),
        sender_name=fields.text("sender_name"),
        authentication=_sign_in(fields, fields.integer("authentication") or 0),
        relay_username=user,
        relay_password=fields.secret_text("relay_password"),
    )
    _refuse_literal(fields, user)
    return draft, tuple(fields.violations)


def test_request(pairs: Pairs) -> TestRequest:
    """What a Test asks for; each secret may be a text or a secret object (D7)."""
    fields = Fields(pairs, NAMES)
    user = fields.secret("relay_username", SECRET_NAMES, or_text=True)
    number = fields.integer("authentication")
    draft = ProfileDraft(
        host=fields.text("host"),
        port=fields.integer("port"),
        use_ssl=fields.flag("use_ssl"),
        sender_account=_sender(fields),
        sender_name=fields.text("sender_name"),
        authentication="anonymous" if number is None else _sign_in(fields, number),
        relay_username=user,
        relay_password=fields.secret("relay_password", SECRET_NAMES, or_text=True),
    )
    _refuse_literal(fields, user)
    return TestRequest(draft, fields.text("test_recipient"), number, tuple(fields.violations))


def _sender(fields: Fields) -> str | None:
    return fields.text("sender_account") or fields.text("sender_address")  # D4


def _sign_in(fields: Fields, number: int) -> Literal["anonymous", "basic", "oauth_client_credentials"]:
    sign_in = sign_in_of(fields, number)
    if sign_in == "oauth_client_credentials":
        fields.violations.append(
            Violation(
                "authentication",
                "needs_version_2",
                f"{{field}} {number} (OAuth) needs version 2 of this operation: send x-keyfactor-api-version: 2.",
            )
        )
        return "anonymous"  # P1; the violation above is the answer
    return sign_in


def _refuse_literal(fields: Fields, user: object) -> None:
    if isinstance(user, SecretText) and user.reveal() == UNSUPPORTED_PAM_SECRET:
        fields.violations.append(
            Violation(
                "relay_username",
                "pam_literal",
                f"{{field}} is the literal {UNSUPPORTED_PAM_SECRET}, which stands for a user name kept in a PAM; "
                "use version 2 to change this profile.",
            )
        )
