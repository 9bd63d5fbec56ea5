"""What somebody searches the audit trail for, from the fields of a form to a condition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay.audit.model import Category, Level, Operation
from keyrelay.errors import BadInput, Violation
from keyrelay.query_language import AllOf, AnyOf, Comparison, Condition
from keyrelay.query_language import Operator as Op
from keyrelay.secrets.model import has_control

NAMES = {
    "who": "Who",
    "category": "Area",
    "operation": "What was done",
    "level": "How serious",
    "about": "About",
    "text": "Text",
    "since": "From",
    "until": "Until",
    "query_string": "This search",
}
_CHARACTERS = 200
_TYPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", re.ASCII)
_DIGITS = 10
_CHOICES: Mapping[str, frozenset[int]] = {
    "category": frozenset(Category),
    "operation": frozenset(Operation),
    "level": frozenset(Level),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The fields as they were typed; "" for all. Times are in UTC, ``until`` is not part of what is found."""

    who: str = ""
    category: str = ""
    operation: str = ""
    level: str = ""
    about: str = ""
    text: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        return cls(**{name: query.get(name, "").strip() for name in cls.__slots__})

    def query(self) -> dict[str, str]:
        """What leads to the same search again."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}

    def kind(self, name: str) -> str:
        """What kind of field shows it: one for times cannot show what is none."""
        value = getattr(self, name)
        return "datetime-local" if not value or (_TYPED.fullmatch(value) and _moment(value)) else "text"

    def condition(self) -> Condition | None:
        """None for everything. Raises BadInput with all that is wrong."""
        if violations := tuple(self._violations()):
            raise BadInput(violations, remedy="Correct the fields named and search again.")
        return all_of(*self._parts())

    def _violations(self) -> Iterator[Violation]:
        for name in ("who", "about", "text"):
            value = getattr(self, name)
            if has_control(value):
                yield Violation(name, "control_character", "{field} holds a control character, such as a line break.")
            elif len(value) > _CHARACTERS:
                yield Violation(name, "too_long", f"{{field}} has more than {_CHARACTERS} characters.")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value and number(value) not in known:
                yield Violation(name, "unknown_choice", "{field}: choose one of those there are.")
        for name in ("since", "until"):
            value = getattr(self, name)
            if value and _moment(value) is None:
                yield Violation(name, "no_time", "{field} is no time such as 2026-03-01T12:30.")

    def _parts(self) -> Iterator[Condition]:
        if self.who:
            yield Comparison("User", Op.CONTAINS, self.who)
        if self.category:
            yield Comparison("Category", Op.EQUAL, self.category)
        if self.operation:
            yield Comparison("Operation", Op.EQUAL, self.operation)
        if self.level:
            worst = int(self.level) == max(Level)  # which has an index
            yield Comparison("Level", Op.EQUAL if worst else Op.GREATER_OR_EQUAL, int(self.level))
        if self.about:
            named = Comparison("AuditIdentifier", Op.CONTAINS, self.about)
            yield AnyOf((named, Comparison("ImmutableIdentifier", Op.EQUAL, self.about)))
        if self.text:
            fields = ("User", "EntityType", "AuditIdentifier", "ImmutableIdentifier")
            yield AnyOf(tuple(Comparison(field, Op.CONTAINS, self.text) for field in fields))
        for text, operator in ((self.since, Op.GREATER_OR_EQUAL), (self.until, Op.LESS)):
            if text:
                yield Comparison("Timestamp", operator, _moment(text))


def all_of(*parts: Condition | None) -> Condition | None:
    """What meets all of them; None is met by everything."""
    given = tuple(part for part in parts if part is not None)
    return AllOf(given) if len(given) > 1 else given[0] if given else None


def number(text: str) -> int | None:
    """A number as a link of ours has it; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
