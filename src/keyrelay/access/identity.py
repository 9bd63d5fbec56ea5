"""From the Authorization header to an identity (contract 6.1: HTTP Basic, RFC 7617)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from keyrelay.access.permissions import granted
from keyrelay.secrets.model import SecretText

_LONGEST_HEADER = 4096
_MOST_ANSWERS = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who has signed in: the name, the roles, and the permission strings these hold together."""

    name: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    _answers: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_local(self) -> bool:
        """Whether it is a local user: the names of all others have a colon."""
        return ":" not in self.name

    def may(self, needed: str) -> bool:
        answer = self._answers.get(needed)
        if answer is None:
            answer = granted(self.permissions, needed)
            if len(self._answers) < _MOST_ANSWERS:  # callers name the numbers in them
                self._answers[needed] = answer
        return answer

    def may_in_part(self, needed: str) -> bool:
        """Whether something below ``needed`` is granted, if not all of it."""
        return any(held.startswith(needed) for held in self.permissions)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password as they were sent."""

    name: str
    password: SecretText

    def accounts(self) -> list[str]:
        r"""The accounts this name may mean, most literal first.

        ``DOMAIN\user`` also means ``user@domain``, which official clients rewrite so, and the local ``user``.
        """
        name = self.name.casefold()
        domain, separator, user = name.partition("\\")
        if separator and domain and user:
            return [name, f"{user}@{domain}", user]
        return [name]


def basic_credentials(header: bytes) -> Credentials | None:
    """Read an Authorization header; None for anything that is not well-formed Basic."""
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic" or len(header) > _LONGEST_HEADER:
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    name, separator, password = text.partition(":")
    if not separator or not name or "\0" in text:
        return None
    return Credentials(name, SecretText(password))


def tried_name(header: bytes) -> str:
    """The user name that an Authorization header tries to sign in with; "" when it names none."""
    credentials = basic_credentials(header)
    return "" if credentials is None else credentials.name
