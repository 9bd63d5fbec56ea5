"""The form of the profile: what somebody has filled in as values for the profile, and the other way round.

A credential has a ``source``: ``keep`` (what is stored already stays), ``here`` (a value to be stored here) or ``pam``
(a reference: ``provider``, and ``parameter.PROVIDER.NAME`` for each of its parameters).
"""

from __future__ import annotations

import re
from typing import Any, get_args

from keyrelay.errors import Violation
from keyrelay.portal.forms import Form
from keyrelay.profile.draft import ProfileDraft, SignIn, draft_of
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import (
    DEFAULT_PORT,
    HIDDEN_FIELDS,
    SECRET_FIELDS,
    RequestHeader,
    SecretField,
)
from keyrelay.profile.patch import SIGN_IN_FIELDS, USES
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText, Stored

KEEP, HERE, PAM = "keep", "here", "pam"
NAMES = {
    "host": "Host",
    "port": "Port",
    "use_ssl": "Use TLS",
    "sender_account": "Sender account",
    "sender_name": "Sender name",
    "authentication": "Sign-in",
    "relay_username": "User name",
    "relay_password": "Password",
    "client_id": "Client id",
    "client_secret": "Client secret",
    "token_endpoint": "Token endpoint",
    "scope": "Scope",
    "audience": "Audience",
    "request_headers": "Request headers",
}
"""The fields of the profile as people read them."""

_TEXTS = ("host", "sender_account", "sender_name")
_SIGN_IN_TEXTS = ("token_endpoint", "scope", "audience")
_YES = "yes"
_PORT = re.compile(r"\d{1,9}", re.ASCII)


def given(form: Form) -> tuple[dict[str, Any], tuple[Violation, ...]]:
    """The fields of the profile that a form gives, as ``api.profile.read_given`` does it; and what is wrong with it.

    A kept secret is not among them, and what the chosen sign-in does not use is None.
    """
    violations: list[Violation] = []
    values: dict[str, Any] = {field: form.text(field) for field in _TEXTS}
    values["port"] = _port(form, violations)
    values["use_ssl"] = form.has("use_ssl")
    values["authentication"] = _sign_in(form, violations)
    used = USES.get(values["authentication"], frozenset())
    values |= dict.fromkeys(sorted(SIGN_IN_FIELDS - used))
    values |= {field: form.text(field) or None for field in _SIGN_IN_TEXTS if field in used}
    if "request_headers" in used:
        values["request_headers"] = _request_headers(form, violations)
    for field in SECRET_FIELDS:
        if field in used and (source := _chosen(form, field)) != KEEP:
            values[field] = _secret(form, field, violations) if source == HERE else _reference(form, field, violations)
    return values, tuple(violations)


def filled(current: Snapshot) -> Form:
    """The form of a profile as it is, or of one that nobody has configured yet."""
    draft = draft_of(current.profile)
    pairs = [(field, getattr(draft, field) or "") for field in (*_TEXTS, *_SIGN_IN_TEXTS)]
    pairs.append(("port", str(draft.port or DEFAULT_PORT)))
    pairs.append(("authentication", draft.authentication))
    # A new profile begins with TLS: whoever's relay has none switches it off.
    if draft.use_ssl or current.profile is None:
        pairs.append(("use_ssl", _YES))
    pairs.append(("request_headers", "\n".join(f"{one.name}: {one.value}" for one in draft.request_headers)))
    for field in SECRET_FIELDS:
        pairs.extend(_source(field, getattr(draft, field), current.visible.get(field, "")))
    return Form(tuple(pairs))


def shown_again(form: Form) -> Form:
    """The form without the secrets that were typed: no page ever shows those."""
    typed = {f"{field}.{part}" for field in HIDDEN_FIELDS for part in ("secret_value", "key")}
    return Form(tuple(pair for pair in form.pairs if pair[0] not in typed))


def with_fields(form: Form, values: dict[str, str | None]) -> Form:
    """The form with other values for some of its fields; None takes a field away, such as a box that is not ticked."""
    kept = tuple(pair for pair in form.pairs if pair[0] not in values)
    return Form((*kept, *((name, value) for name, value in values.items() if value is not None)))


def _port(form: Form, violations: list[Violation]) -> int | None:
    text = form.text("port")
    if not text:
        return None
    if not _PORT.fullmatch(text):
        violations.append(Violation("port", "wrong_type", "{field} must be a whole number, such as 587."))
        return None
    return int(text)


def _sign_in(form: Form, violations: list[Violation]) -> str:
    text = form.text("authentication")
    if text not in get_args(SignIn):
        violations.append(Violation("authentication", "unknown_type", "{field} has to be chosen."))
        return ProfileDraft().authentication
    return text


def _request_headers(form: Form, violations: list[Violation]) -> tuple[RequestHeader, ...]:
    headers = []
    for line in form.raw("request_headers").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers.append(RequestHeader(name.strip(), value.strip()))
        elif line.strip():
            told = "{field} needs one header in each line, as Name: value."
            violations.append(Violation("request_headers", "bad_header", told))
            return ()
    return tuple(headers)


def _chosen(form: Form, field: SecretField) -> str:
    """Where a credential comes from. Nothing typed and nothing chosen keeps what there is."""
    chosen = form.text(f"{field}.source")
    if chosen in {KEEP, HERE, PAM}:
        return chosen
    return HERE if form.raw(f"{field}.secret_value") else KEEP


def _secret(form: Form, field: SecretField, violations: list[Violation]) -> SecretText | None:
    if field not in HIDDEN_FIELDS:
        text = form.text(f"{field}.secret_value")
        return SecretText(text) if text else None
    value, key = form.raw(f"{field}.secret_value"), form.raw(f"{field}.key").strip()
    if value and key:
        violations.append(Violation(field, "ambiguous", "{field} is given twice: as a text and as a private key."))
    text = value or key
    return SecretText(text) if text else None


def _reference(form: Form, field: SecretField, violations: list[Violation]) -> FromPam | None:
    number = form.text(f"{field}.provider")
    if not _PORT.fullmatch(number):
        violations.append(Violation(f"{field}.provider", "missing", "{field}: choose the PAM provider it comes from."))
        return None
    begins = f"{field}.parameter.{int(number)}."
    parameters: dict[str, str | None] = {
        name.removeprefix(begins): value.strip()
        for name, value in form.pairs
        if name.startswith(begins) and value.strip()
    }
    return FromPam(int(number), parameters)


def _source(field: SecretField, source: GivenSecret | None, visible: str) -> list[tuple[str, str]]:
    match source:
        case FromPam():
            begins = f"{field}.parameter.{source.provider}."
            return [
                (f"{field}.source", PAM),
                (f"{field}.provider", str(source.provider)),
                *((begins + name, value or "") for name, value in source.parameters.items()),
            ]
        case Stored() if field in HIDDEN_FIELDS:
            return [(f"{field}.source", KEEP)]
    return [(f"{field}.source", HERE), (f"{field}.secret_value", visible)]
