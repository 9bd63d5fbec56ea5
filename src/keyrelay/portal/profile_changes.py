"""What differs between two profiles, field by field, for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keyrelay.api.profile import readable
from keyrelay.portal.smtp_form import NAMES
from keyrelay.profile.document import FieldChange

SIGN_INS = {
    "anonymous": "Anonymous",
    "basic": "Basic: user name and password",
    "oauth_client_credentials": "OAuth client credentials",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs. Of a secret only that it does."""

    label: str
    before: str
    after: str
    secret: bool


def differences(changes: Iterable[FieldChange]) -> list[Difference]:
    return [
        Difference(NAMES[one.field], told(one.field, one.before), told(one.field, one.after), one.secret)
        for one in changes
    ]


def told(field: str, value: Any) -> str:
    """The value of a field, for people."""
    return SIGN_INS.get(value, value) if field == "authentication" and value else readable(value)
