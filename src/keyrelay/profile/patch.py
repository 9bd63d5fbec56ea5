"""Changing parts of the profile: what is absent stays, what is given replaces, null clears (RFC 7396).

A secret that stays is only ever sent where it was given for. So when the destination changes, or who signs in there
or what for, every secret that is hidden has to be given again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keyrelay.errors import SecretRequired, Violation
from keyrelay.profile.draft import ProfileDraft, draft_of
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SecretField, TransportSecurity
from keyrelay.secrets.model import GivenSecret, SecretText

# The hidden secret of each sign-in, and the name it belongs to.
_HIDDEN: dict[str, tuple[SecretField, SecretField]] = {
    "basic": ("relay_password", "relay_username"),
    "oauth_client_credentials": ("client_secret", "client_id"),
}
USES = {
    "anonymous": frozenset[str](),
    "basic": frozenset({"relay_username", "relay_password"}),
    "oauth_client_credentials": frozenset(
        {"client_id", "client_secret", "token_endpoint", "scope", "audience", "request_headers"}
    ),
}
"""The fields that each sign-in uses."""
SIGN_IN_FIELDS = frozenset[str]().union(*USES.values())


def merge(current: Snapshot, given: Mapping[str, Any]) -> tuple[ProfileDraft, tuple[Violation, ...]]:
    """The draft after a change, and what is wrong with the change itself.

    ``given`` holds the draft's fields that the caller sent, None where it sent null.
    """
    before = draft_of(current.profile)
    given = {field: value for field, value in given.items() if not is_shown(current, field, value)}
    empty = ProfileDraft()
    values = {field: getattr(empty, field) if value is None else value for field, value in given.items()}
    after = replace(before, **values)
    return _keep_names(current, before, after, given), (
        *unused(after, given),
        *_to_give_again(current, before, after, given),
    )


def unused(draft: ProfileDraft, given: Mapping[str, Any]) -> list[Violation]:
    """A violation for each field given that the sign-in does not use: it would be lost without a word."""
    return [
        Violation(field, "unused", f"{{field}} is not used when authentication is {draft.authentication}.")
        for field, value in given.items()
        if field in SIGN_IN_FIELDS - USES[draft.authentication] and value not in (None, (), "")
    ]


def is_shown(current: Snapshot, field: str, value: Any) -> bool:
    """Whether that is the name which is stored already: storing it again would look like a change."""
    visible = current.visible.get(field)
    return visible is not None and isinstance(value, SecretText) and value == SecretText(visible)


def _to_give_again(
    current: Snapshot, before: ProfileDraft, after: ProfileDraft, given: Mapping[str, Any]
) -> list[Violation]:
    if after.authentication != before.authentication or after.authentication not in _HIDDEN:
        return []
    hidden, name = _HIDDEN[after.authentication]
    kept: GivenSecret | None = getattr(after, hidden)
    same_name = name not in given or _same(getattr(before, name), getattr(after, name), current.visible.get(name))
    if hidden in given or kept is None or (_destination(before) == _destination(after) and same_name):
        return []
    return [
        Violation(
            hidden, SecretRequired.code, "{field} has to be given again, because it was given for another destination."
        )
    ]


def _keep_names(current: Snapshot, before: ProfileDraft, after: ProfileDraft, given: Mapping[str, Any]) -> ProfileDraft:
    """Take along a user name or client id to another destination: they are no secret to those who read the profile."""
    if _destination(before) == _destination(after):
        return after
    names = {field: SecretText(text) for field, text in current.visible.items() if field not in given}
    return replace(after, **names)  # type: ignore[arg-type]  # visible holds fields of the draft


def _destination(draft: ProfileDraft) -> tuple[object, ...]:
    security = TransportSecurity.of(draft.port or 0, use_ssl=draft.use_ssl)
    return (draft.host or "").lower(), draft.port, security, draft.token_endpoint, draft.scope, draft.audience


def _same(before: GivenSecret | None, after: GivenSecret | None, visible: str | None) -> bool:
    if isinstance(after, SecretText):
        return visible is not None and after == SecretText(visible)
    return before == after
