"""What makes a role or a claim valid, and what nobody may give. Every violation is reported at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.permissions import beyond, permission
from keyrelay.access.role_claims import TYPE_NAMES, RoleClaim
from keyrelay.access.roles import Role, is_name
from keyrelay.errors import BadInput, PermissionMissing, UnknownReference, Unsuitable, Violation
from keyrelay.secrets.model import has_control

NAME_CHARACTERS = 128
TEXT_CHARACTERS = 512
EMAIL_CHARACTERS = 256
MOST_STRINGS = 1000
MOST_ROLE_CLAIMS = 1000
_GUID = re.compile(r"\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?", re.ASCII | re.IGNORECASE)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class ClaimDraft:
    """A claim as a caller gives it."""

    claim_type: int | None
    claim_value: str | None
    scheme: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class RoleDraft:
    """A role as a caller gives it."""

    name: str | None
    description: str | None
    email: str | None
    permission_set: str | None
    permissions: tuple[str, ...]
    claims: tuple[ClaimDraft, ...]


def checked_role(draft: RoleDraft, found: Collection[Violation] = ()) -> Role:
    """The role that a draft describes, without numbers. Raises BadInput with these violations and all its own."""
    name, description = draft.name or "", draft.description or ""
    own = [*_text("name", name, NAME_CHARACTERS)]
    if name and not own and not is_name(name):
        own.append(Violation("name", "bad_value", "{field} must not begin or end with a space."))
    own += _text("description", description, TEXT_CHARACTERS)
    own += _text("email_address", draft.email or "", EMAIL_CHARACTERS, required=False)
    permission_set = _GUID.fullmatch(draft.permission_set or "")
    if permission_set is None:
        missing = not draft.permission_set
        told = "{field} is required." if missing else "{field} must be a GUID."
        own.append(Violation("permission_set_id", "missing" if missing else "bad_value", told))
    strings, wrong = _strings(draft.permissions)
    own += wrong
    claims, wrong = _claims(draft.claims)
    own += wrong
    _require_none(found, own)
    assert permission_set is not None  # noqa: S101 - checked
    return Role(
        *(0, name, description, draft.email or None, permission_set[1].lower()),
        permissions=strings,
        claims=claims,
    )


def checked_claim(draft: ClaimDraft, found: Collection[Violation] = ()) -> RoleClaim:
    """The claim that a draft describes, without a number. Raises BadInput."""
    _require_none(found, _claim_violations(draft))
    return _claim(draft)


def checked_description(text: str | None, found: Collection[Violation] = ()) -> str:
    """Raises BadInput."""
    _require_none(found, _text("description", text or "", TEXT_CHARACTERS))
    return text or ""


def checked_string(text: str, field: str) -> str:
    """A permission string in its one form. Raises BadInput."""
    strings, wrong = _strings((text,), field)
    _require_none((), wrong)
    return strings[0]


def require_schemes(claims: Iterable[RoleClaim], known: Collection[str], field: str) -> None:
    """Raise UnknownReference for claims whose word is that of an identity provider that is not here."""
    unknown = sorted({each.claim.scheme for each in claims} - set(known))
    if unknown:
        told = (
            f"{{field}}: there is no authentication scheme {_shown(unknown[0])}; there is {', '.join(sorted(known))}."
        )
        raise UnknownReference(
            (Violation(field, UnknownReference.code, told),), remedy="Name one of those, or add the identity provider."
        )


def require_held(by: Identity, strings: Iterable[str]) -> None:
    """Raise PermissionMissing unless somebody holds what they are about to give."""
    if missing := beyond(by.permissions, strings):
        raise PermissionMissing(
            f"User {by.name} cannot give what it does not hold.",
            remedy="Ask somebody who holds " + " and ".join(missing),
        )


def _require_none(found: Collection[Violation], own: Iterable[Violation]) -> None:
    """Raise BadInput for what was found when a request was read, and for what is wrong with what could be read."""
    spoken = {violation.field.partition(".")[0] for violation in found}
    if violations := (*found, *(each for each in own if each.field not in spoken)):
        raise BadInput(violations)


def _strings(given: tuple[str, ...], field: str = "permissions") -> tuple[tuple[str, ...], list[Violation]]:
    if len(given) > MOST_STRINGS:
        return (), [Violation(field, "too_many", f"{{field}} has more than {MOST_STRINGS} items.")]
    strings, violations = set(), []
    for text in given:
        try:
            strings.add(permission(text))
        except Unsuitable:
            told = f"{{field}}: {_shown(text)} is no permission string, which is a path such as /system_settings/read/."
            violations.append(Violation(field, "bad_value", told))
    return tuple(sorted(strings)), violations


def _claims(drafts: tuple[ClaimDraft, ...]) -> tuple[tuple[RoleClaim, ...], list[Violation]]:
    if len(drafts) > MOST_ROLE_CLAIMS:
        return (), [Violation("claims", "too_many", f"{{field}} has more than {MOST_ROLE_CLAIMS} items.")]
    claims: dict[tuple[int, str, str], RoleClaim] = {}
    violations = []
    for place, draft in enumerate(drafts, 1):
        wrong = list(_claim_violations(draft))
        for violation in wrong:
            told = violation.message.replace("{field}", f"{_WORDS[violation.field]} of item {place}")
            violations.append(Violation("claims", violation.code, "{field}: " + told))
        if not wrong:
            claim = _claim(draft)
            if claim.claim.key in claims:
                told = f"{{field}}: item {place} means the same as one before it."
                violations.append(Violation("claims", "duplicate", told))
            claims[claim.claim.key] = claim
    return tuple(claims.values()), violations


_WORDS = {
    "claim_type": "the type",
    "claim_value": "the value",
    "scheme": "the authentication scheme",
    "description": "the description",
}


def _claim_violations(draft: ClaimDraft) -> Iterator[Violation]:
    if draft.claim_type is None:
        yield Violation("claim_type", "missing", "{field} is required.")
    elif draft.claim_type not in set(ClaimType):
        names = ", ".join(f"{number:d} ({name})" for number, name in TYPE_NAMES.items())
        yield Violation("claim_type", "bad_value", f"{{field}} must be one of {names}.")
    yield from _text("claim_value", draft.claim_value or "", TEXT_CHARACTERS)
    yield from _text("scheme", draft.scheme or "", TEXT_CHARACTERS)
    yield from _text("description", draft.description or "", TEXT_CHARACTERS)


def _claim(draft: ClaimDraft) -> RoleClaim:
    assert draft.claim_type is not None  # noqa: S101 - checked
    claim = Claim(ClaimType(draft.claim_type), draft.claim_value or "", draft.scheme or "")
    return RoleClaim(0, claim, draft.description or "")


def _text(field: str, text: str, longest: int, *, required: bool = True) -> Iterator[Violation]:
    if required and not text:
        yield Violation(field, "missing", "{field} is required.")
    elif has_control(text):
        yield Violation(field, "control_character", "{field} holds a control character, such as a line break.")
    elif len(text) > longest:
        yield Violation(field, "too_long", f"{{field}} has more than {longest} characters.")


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_CHARACTERS])
