"""Conditions of the query language as SQL: the same rows on both databases, and the same as ``api/lists.py`` finds.

Text is compared without regard to case. Both databases fold the letters of ASCII alike (the columns are in the
collation "C"), and no others; of those beyond, the ones that are looked for are folded by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from keyrelay.query_language import AllOf, Comparison, Condition, Operator

_MOST_FOLDED = 60  # letters beyond ASCII: more than any alphabet has
_SAME = {
    Operator.EQUAL: "=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
}
_TESTS: Mapping[Operator, Callable[[str, str], bool]] = {
    Operator.EQUAL: str.__eq__,
    Operator.CONTAINS: str.__contains__,
    Operator.STARTS_WITH: str.startswith,
    Operator.ENDS_WITH: str.endswith,
}
_CONTRARY = {Operator.NOT_EQUAL: Operator.EQUAL, Operator.NOT_CONTAINS: Operator.CONTAINS}


@dataclass(slots=True)
class Values:
    """The values of a statement's parameters, in their order."""

    given: list[Any] = field(default_factory=list)

    def add(self, value: Any) -> str:
        """The parameter that stands for this value."""
        self.given.append(value)
        return f"${len(self.given)}"


class Column(Protocol):
    """What a field of the query language is in the database. ``name`` is that of the column."""

    @property
    def name(self) -> str: ...

    def compared(self, operator: Operator, value: Any, values: Values) -> str:
        """The SQL of a comparison that is no contrary of another one; not with NULL."""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number."""

    name: str

    def compared(self, operator: Operator, value: Any, values: Values) -> str:
        # Callers may name numbers that the column could never hold.
        return f"{self.name} {_SAME[operator]} CAST({values.add(value)} AS BIGINT)"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, kept as text of one form: UTC, to the microsecond."""

    name: str

    def compared(self, operator: Operator, value: datetime, values: Values) -> str:
        text = value.astimezone(UTC).isoformat(timespec="microseconds")
        return f"{self.name} {_SAME[operator]} {values.add(text)}"


@dataclass(frozen=True, slots=True)
class Text:
    """Text, in the collation "C"."""

    name: str

    def compared(self, operator: Operator, value: str, values: Values) -> str:
        wanted = "".join(_folded(each) for each in value)
        column = self._folded_for(wanted, values)
        if operator is Operator.EQUAL:
            return f"{column} = {values.add(wanted)}"
        before = "" if operator is Operator.STARTS_WITH else "%"
        after = "" if operator is Operator.ENDS_WITH else "%"
        return f"{column} LIKE {values.add(before + _literally(wanted) + after)} ESCAPE '\\'"

    def _folded_for(self, wanted: str, values: Values) -> str:
        """The column, with the case of all letters that are looked for taken away.

        Where there are none, it is left as it is: so it can be looked up in an index.
        """
        if not any(each.isalpha() for each in wanted):
            return self.name
        column = f"lower({self.name})"
        beyond = sorted({each for each in wanted if not each.isascii() and each.upper() != each})
        for letter in beyond[:_MOST_FOLDED]:
            for other in sorted({letter.upper(), letter.title()} - {letter}):
                if len(other) == 1:
                    column = f"replace({column}, {values.add(other)}, {values.add(letter)})"
        return column


@dataclass(frozen=True, slots=True)
class Named:
    """A number that has a name; either may be looked for."""

    name: str
    names: Mapping[int, str]

    def compared(self, operator: Operator, value: str, values: Values) -> str:
        wanted = value.casefold()
        found = {number for number, name in self.names.items() if _meets(operator, wanted, (name, str(number)))}
        if operator is Operator.EQUAL and wanted.isascii() and wanted.isdigit() and len(wanted) < len(str(2**31)):
            found.add(int(wanted))
        return _among(self.name, found, values)


def sql_of(condition: Condition, columns: Mapping[str, Column], values: Values) -> str:
    """The SQL of a condition; ``columns`` are those of its fields."""
    if isinstance(condition, Comparison):
        return _comparison(condition, columns[condition.field], values)
    word = " AND " if isinstance(condition, AllOf) else " OR "
    return f"({word.join(sql_of(each, columns, values) for each in condition.conditions)})"


def _comparison(comparison: Comparison, column: Column, values: Values) -> str:
    """``-ne`` and ``-notcontains`` are the exact contrary of ``-eq`` and ``-contains``."""
    if comparison.value is None:
        return f"{column.name} IS {'' if comparison.operator is Operator.EQUAL else 'NOT '}NULL"
    contrary = _CONTRARY.get(comparison.operator)
    if contrary is None:
        return column.compared(comparison.operator, comparison.value, values)
    return f"({column.name} IS NULL OR NOT {column.compared(contrary, comparison.value, values)})"


def _among(column: str, numbers: Collection[int], values: Values) -> str:
    if not numbers:
        return "1 = 0"
    return f"{column} IN ({', '.join(values.add(number) for number in sorted(numbers))})"


def _meets(operator: Operator, wanted: str, texts: Collection[str]) -> bool:
    return any(_TESTS[operator](text.casefold(), wanted) for text in texts)


def _folded(letter: str) -> str:
    """A letter in lower case, or one that no database could be asked for."""
    if "\ud800" <= letter <= "\udfff":
        return "\ufffd"
    lower = letter.lower()
    return lower if len(lower) == 1 else letter


def _literally(text: str) -> str:
    """Text in a pattern of LIKE, in which nothing stands for anything else."""
    for each in "\\%_":
        text = text.replace(each, "\\" + each)
    return text
