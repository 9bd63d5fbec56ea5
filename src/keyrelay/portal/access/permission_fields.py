"""Permission strings in a form: a checkbox for each that is known, and lines for others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keyrelay.access.permissions import MEANINGS, every
from keyrelay.portal.forms import Form

_CHECKED, _TYPED = "permission", "more_permissions"


@dataclass(frozen=True, slots=True)
class PermissionFields:
    """What a form shows: those that are checked, and the others as lines."""

    checked: frozenset[str]
    typed: str

    @property
    def known(self) -> list[tuple[str, str]]:
        """Every string that has a checkbox, and what it grants."""
        return [(string, MEANINGS[string]) for string in every()]

    @classmethod
    def of(cls, strings: Iterable[str]) -> PermissionFields:
        """As they are now."""
        held = set(strings)
        known = held & set(MEANINGS)
        return cls(frozenset(known), "\n".join(sorted(held - known)))

    @classmethod
    def sent(cls, form: Form) -> PermissionFields:
        """As they were sent."""
        return cls(frozenset(form.all(_CHECKED)), form.raw(_TYPED))

    @property
    def strings(self) -> tuple[str, ...]:
        """All of them, as they were written."""
        return (*sorted(self.checked), *(line.strip() for line in self.typed.splitlines() if line.strip()))
