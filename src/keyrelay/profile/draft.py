"""What a caller would like the profile to be: anything may be missing or wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from keyrelay.profile.model import Basic, OAuthClientCredentials, RequestHeader, SmtpProfile
from keyrelay.secrets.model import GivenSecret

SignIn = Literal["anonymous", "basic", "oauth_client_credentials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDraft:
    """A profile before ``rules.check`` has looked at it. None and empty texts count as missing (contract P3)."""

    host: str | None = None
    port: int | None = None
    use_ssl: bool = False
    sender_account: str | None = None
    sender_name: str | None = None
    authentication: SignIn = "anonymous"
    type_number: Literal[3, 4] = 3
    relay_username: GivenSecret | None = None
    relay_password: GivenSecret | None = None
    client_id: GivenSecret | None = None
    client_secret: GivenSecret | None = None
    token_endpoint: str | None = None
    scope: str | None = None
    audience: str | None = None
    request_headers: tuple[RequestHeader, ...] = ()


def draft_of(profile: SmtpProfile | None) -> ProfileDraft:
    """The draft that stands for a profile as it is; an unconfigured one gives the empty draft."""
    if profile is None:
        return ProfileDraft()
    sign_in: SignIn = "anonymous"
    details: dict[str, object] = {}
    if isinstance(profile.authentication, Basic | OAuthClientCredentials):
        sign_in = "basic" if isinstance(profile.authentication, Basic) else "oauth_client_credentials"
        details = {field.name: getattr(profile.authentication, field.name) for field in fields(profile.authentication)}
    return ProfileDraft(
        host=profile.host,
        port=profile.port,
        use_ssl=profile.use_ssl,
        sender_account=profile.sender_account,
        sender_name=profile.sender_name,
        authentication=sign_in,
        **details,  # type: ignore[arg-type]  # the names of both sign-ins' fields are the draft's own
    )
