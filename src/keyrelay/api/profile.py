"""``/api/v1/profile``: the profile in our own words, with partial changes and dry runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any, get_args

from keyrelay.access.permissions import MODIFY_SETTINGS, READ_SETTINGS
from keyrelay.api.answers import JSON, Answer
from keyrelay.api.conventions import Fields, Pairs, read_fields
from keyrelay.api.drafts import DraftFor, maker, rework
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.api.preconditions import entity_tag, match, none_match
from keyrelay.errors import BadInput, Violation
from keyrelay.profile import patch as profile_patch
from keyrelay.profile.document import differences
from keyrelay.profile.draft import ProfileDraft, SignIn, draft_of
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import DEFAULT_PORT, HIDDEN_FIELDS, SECRET_FIELDS, SmtpProfile
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText, Stored

_NAMES = {field.name: field.name for field in dataclass_fields(ProfileDraft) if field.name != "type_number"}
_SECRET_NAMES = {"secret_value": "secret_value", "parameters": "parameters", "provider": "provider"}
_HEADER_NAMES = {"name": "name", "value": "value"}


def resources(style: Style, services: Services) -> list[Resource]:
    operations = {
        "GET": Operation({1: _get}, READ_SETTINGS),
        "PUT": Operation({1: _put}, MODIFY_SETTINGS),
        "PATCH": Operation({1: _patch}, MODIFY_SETTINGS),
    }
    return [Resource("/api/v1/profile", operations, style, services)]


def read_given(pairs: Pairs) -> tuple[dict[str, Any], tuple[Violation, ...]]:
    """The draft's fields that a body gives, None where it gives null; and what reading it found wrong."""
    fields = Fields(pairs, _NAMES, exact=True)
    given: dict[str, Any] = {}
    for field in _NAMES:
        if fields.has(field):
            given[field] = _value(fields, field)
    return given, tuple(fields.violations)


def shown(profile: SmtpProfile | None, visible: Mapping[str, str]) -> dict[str, Any]:
    """The profile as our API shows it. Of a hidden secret it says that there is one, and since when."""
    draft = draft_of(profile)
    document: dict[str, Any] = {field: getattr(draft, field) for field in _NAMES}
    document["port"] = document["port"] or DEFAULT_PORT
    document["request_headers"] = [{"name": header.name, "value": header.value} for header in draft.request_headers]
    for field in SECRET_FIELDS:
        document[field] = _shown_secret(document[field], visible.get(field), hidden=field in HIDDEN_FIELDS)
    return document


def _shown_secret(source: GivenSecret | None, visible: str | None, *, hidden: bool) -> dict[str, Any] | None:
    match source:
        case None:
            return None
        case FromPam():
            return {"provider": source.provider, "parameters": dict(source.parameters)}
        case SecretText() if not hidden:
            return {"secret_value": source.reveal()}
        case SecretText():
            return {"stored": True, "given_at": None}
        case Stored():
            given_at = _instant(source.given_at)
            return {"stored": True, "given_at": given_at} if hidden else {"secret_value": visible}


def readable(value: Any) -> str:  # noqa: PLR0911 - one line for each kind
    """A value of that document, or of a change of the profile, for people."""
    match value:
        case None | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case {"secret_value": text}:
            return str(text)
        case {"stored": True, "given_at": given_at}:
            return f"stored since {given_at}"
        case {"provider": provider}:
            return f"from PAM provider {provider}"
        case list():
            return ", ".join(f"{header['name']}: {header['value']}" for header in value)
    return str(value)


def _instant(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _value(fields: Fields, field: str) -> Any:
    match field:
        case "port":
            return fields.integer(field)
        case "use_ssl":
            return fields.flag(field)
        case "authentication":
            return _sign_in(fields)
        case "request_headers":
            return fields.request_headers(field, _HEADER_NAMES)
        case _ if field in SECRET_FIELDS:
            return fields.given_secret(field, _SECRET_NAMES)
        case _:
            return fields.text(field)


def _sign_in(fields: Fields) -> str | None:
    text, known = fields.text("authentication"), get_args(SignIn)
    if text is None or text in known:
        return text
    fields.violations.append(
        Violation("authentication", "unknown_type", "{field} must be one of " + ", ".join(known) + ".")
    )
    return None


async def _get(call: Call) -> Answer:
    snapshot = await call.services.keeper.snapshot()
    tag = entity_tag(snapshot.tag, "")
    if none_match(call.request.headers.get("if-none-match"), tag):
        return Answer(304, headers=((b"etag", tag.encode()),))
    return _answer(snapshot)


async def _put(call: Call) -> Answer:
    given, violations = read_given(await read_fields(call.request))
    draft = ProfileDraft(**{field: value for field, value in given.items() if value is not None})
    violations = (*violations, *profile_patch.unused(draft, given))

    def draft_for(_: Snapshot) -> tuple[ProfileDraft, tuple[Violation, ...]]:
        return draft, violations

    return await _change(call, draft_for)


async def _patch(call: Call) -> Answer:
    given, violations = read_given(await read_fields(call.request))

    def draft_for(current: Snapshot) -> tuple[ProfileDraft, tuple[Violation, ...]]:
        merged, found = profile_patch.merge(current, given)
        return merged, (*violations, *found)

    return await _change(call, draft_for)


async def _change(call: Call, draft_for: DraftFor) -> Answer:
    """Check the draft against the profile as it is, and make it the profile unless that has changed meanwhile."""
    dry_run = _dry_run(call)
    wanted, unwanted = call.request.headers.get("if-match"), call.request.headers.get("if-none-match")

    def expected(current: Snapshot) -> bool:
        return match(wanted, current.tag) and not none_match(unwanted, entity_tag(current.tag, ""))

    make = await maker(call, draft_for, expected)
    if dry_run:
        current = await call.services.keeper.snapshot()
        return _rehearsed(current, make(current))
    return _answer(await rework(call, make))


def _dry_run(call: Call) -> bool:
    given = call.request.query_params.getlist("dry_run")
    if given in ([], ["false"]):
        return False
    if given == ["true"]:
        return True
    raise BadInput((Violation("dry_run", "wrong_type", "{field} must be true or false."),))


def _rehearsed(current: Snapshot, profile: SmtpProfile) -> Answer:
    changes = [change.field for change in differences(current.profile, profile)]
    document = {"dry_run": True, "changes": changes, "profile": shown(profile, current.visible)}
    return Answer(200, _encode(document), (JSON,))


def _answer(snapshot: Snapshot) -> Answer:
    tag = entity_tag(snapshot.tag, "")
    return Answer(200, _encode(shown(snapshot.profile, snapshot.visible)), (JSON, (b"etag", tag.encode())))


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
