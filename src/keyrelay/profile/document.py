"""A kept profile as the JSON document of its database row, and back; and what differs between two."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from keyrelay.profile.draft import ProfileDraft, draft_of
from keyrelay.profile.model import (
    SECRET_FIELDS,
    Anonymous,
    Authentication,
    Basic,
    OAuthClientCredentials,
    RequestHeader,
    SmtpProfile,
)
from keyrelay.secrets.model import FromPam, GivenSecret, SecretSource, Stored

_FIELDS = (
    "host",
    "port",
    "use_ssl",
    "sender_account",
    "sender_name",
    "authentication",
    *SECRET_FIELDS,
    "token_endpoint",
    "scope",
    "audience",
    "request_headers",
)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that a revision changed. A secret says only that it changed: both values are None."""

    field: str
    before: Any
    after: Any
    secret: bool = False


def write(profile: SmtpProfile) -> str:
    """The document of a profile whose secrets are all kept; it holds where they are, never what they are."""
    document = {
        "host": profile.host,
        "port": profile.port,
        "use_ssl": profile.use_ssl,
        "sender_account": profile.sender_account,
        "sender_name": profile.sender_name,
        "authentication": _authentication_document(profile.authentication),
    }
    return json.dumps(document, ensure_ascii=False)


def read(text: str) -> SmtpProfile:
    document = json.loads(text)
    authentication = _authentication(document.pop("authentication"))
    return SmtpProfile(authentication=authentication, **document)


def stored_ids(profile: SmtpProfile) -> set[str]:
    """The rows of the secrets this profile has stored."""
    return {source.id for _, source in profile.secrets() if isinstance(source, Stored)}


def differences(before: SmtpProfile | None, after: SmtpProfile) -> list[FieldChange]:
    """What changed from one revision to the next, in the order of the profile's fields."""
    return draft_differences(None if before is None else draft_of(before), draft_of(after))


def draft_differences(before: ProfileDraft | None, after: ProfileDraft) -> list[FieldChange]:
    """The same of drafts, such as of what somebody would like the profile to be."""
    old = before or ProfileDraft()
    changes = []
    for field in _FIELDS:
        was, is_now = getattr(old, field), getattr(after, field)
        if was == is_now and (before is not None or is_now in (None, ())):
            continue
        if field in SECRET_FIELDS:
            changes.append(FieldChange(field, None, None, secret=True))
        else:
            changes.append(FieldChange(field, None if before is None else _plain(was), _plain(is_now)))
    return changes


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [{"name": header.name, "value": header.value} for header in value]
    return value


def _authentication_document(authentication: Authentication) -> dict[str, Any]:
    match authentication:
        case Anonymous():
            return {"kind": "anonymous"}
        case Basic():
            return {
                "kind": "basic",
                "relay_username": _source_document(authentication.relay_username),
                "relay_password": _source_document(authentication.relay_password),
            }
        case OAuthClientCredentials():
            return {
                "kind": "oauth_client_credentials",
                "client_id": _source_document(authentication.client_id),
                "client_secret": _source_document(authentication.client_secret),
                "token_endpoint": authentication.token_endpoint,
                "scope": authentication.scope,
                "audience": authentication.audience,
                "request_headers": [[header.name, header.value] for header in authentication.request_headers],
                "type_number": authentication.type_number,
            }


def _authentication(document: dict[str, Any]) -> Authentication:
    kind = document.pop("kind")
    for field in SECRET_FIELDS:
        if field in document:
            document[field] = _source(document[field])
    if kind == "basic":
        return Basic(**document)
    if kind == "oauth_client_credentials":
        headers = tuple(RequestHeader(*pair) for pair in document.pop("request_headers"))
        return OAuthClientCredentials(request_headers=headers, **document)
    return Anonymous()


def _source_document(source: GivenSecret) -> dict[str, Any]:
    match cast("SecretSource", source):
        case Stored() as stored:
            return {"stored": stored.id, "given_at": stored.given_at.isoformat()}
        case FromPam() as reference:
            return {"provider": reference.provider, "parameters": dict(reference.parameters)}


def _source(document: dict[str, Any]) -> SecretSource:
    if "stored" in document:
        return Stored(document["stored"], datetime.fromisoformat(document["given_at"]))
    return FromPam(document["provider"], document["parameters"])
