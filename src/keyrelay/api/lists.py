"""The list parameters of the compatible API: search, sort and page (contract 1.4)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from keyrelay.errors import BadInput, BadSortField, Violation
from keyrelay.query_language import AllOf, Comparison, Condition, Operator, parse, shown

NAMES = {
    "query_string": "QueryString",
    "page_returned": "PageReturned",
    "return_limit": "ReturnLimit",
    "sort_field": "SortField",
    "sort_ascending": "SortAscending",
}

# A client that asks for more wants all there is, and reads a page shorter than it asked for as the last one. So what
# is beyond the bound is refused, never cut short: rows must not go missing without a word. The most seen is 1000.
MOST_RETURNED = 10_000
_DEFAULT_LIMIT = 50
_INT32_MAX = 2**31 - 1
_FIELDS = {name.lower(): field for field, name in NAMES.items()}
_OLD_PREFIX = "pq."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list can be searched and sorted by.

    ``fields``: what a query may name, str, int, bool or datetime by its published name; matched without regard to case.
    ``sortable``: None means all of ``fields``. ``sort_field``: the default, which can always be asked for too.
    """

    fields: Mapping[str, type]
    sortable: frozenset[str] | None
    sort_field: str

    def sort_fields(self) -> list[str]:
        """The published names of what the list can be sorted by."""
        return sorted({self.sort_field, *(self.fields if self.sortable is None else self.sortable)})


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a caller wants of a list. ``condition`` is None when all of it; ``page`` counts from 1."""

    condition: Condition | None
    page: int
    limit: int
    sort_field: str
    descending: bool

    def apply(self, rows: Iterable[T], value: Callable[[T, str], object]) -> list[T]:
        """The page asked for; ``value`` gives a row's value of a field, by its published name.

        Rows that sort alike stay in the order they came in, descending too; a value that is not there (None) sorts
        before all others.
        """

        def place(row: T) -> tuple[bool, object]:
            own = value(row, self.sort_field)
            return own is not None, _folded(own)

        if self.condition is not None:
            meets = _matcher(self.condition)
            rows = [row for row in rows if meets(partial(value, row))]
        ordered = sorted(rows, key=place, reverse=self.descending)
        return ordered[(self.page - 1) * self.limit : self.page * self.limit]


def read(parameters: QueryParams, listing: Listing) -> ListQuery:
    """What the parameters of a request ask for; plain and ``pq.`` names in any case, and others ignored.

    Raises BadSortField when the list cannot be sorted by the field named, and otherwise BadInput; both hold everything
    that is wrong, under the fields of ``NAMES``.
    """
    values, violations = _values(parameters)
    condition = _condition(values.get("query_string", ""), listing, violations)
    # A client that counts pages from 0 (Keyfactor's synchronisation with DigiCert) gets the first one twice.
    page = max(_number(values, "page_returned", 1, _INT32_MAX, violations), 1)
    limit = _number(values, "return_limit", _DEFAULT_LIMIT, MOST_RETURNED, violations)
    descending = _number(values, "sort_ascending", 0, 1, violations) == 1
    asked = values.get("sort_field", listing.sort_field)
    usable = {name.lower(): name for name in listing.sort_fields()}
    sort_field = usable.get(asked.lower())
    if sort_field is None:
        told = f"names {shown(asked)}; this list can be sorted by {', '.join(usable.values())}"
        raise BadSortField((*violations, Violation("sort_field", "unknown_field", f"{{field}} {told}.")))
    if violations:
        raise BadInput(tuple(violations))
    return ListQuery(condition, page, limit, sort_field, descending)


def _values(parameters: QueryParams) -> tuple[dict[str, str], list[Violation]]:
    """Each parameter by our own name, with empty ones left out, and those that are given in two ways."""
    given: dict[str, dict[str, str]] = {}
    repeated: set[str] = set()
    for key, value in parameters.multi_items():
        spelling = key.lower()
        field = _FIELDS.get(spelling.removeprefix(_OLD_PREFIX))
        if field is None:
            continue
        others = given.setdefault(field, {})
        if spelling in others or any(value != other for other in others.values()):
            repeated.add(field)
        others[spelling] = value
    violations = [
        Violation(field, "duplicate", "{field} is given more than once.") for field in NAMES if field in repeated
    ]
    values = {field: next(iter(others.values())) for field, others in given.items() if field not in repeated}
    return {field: value for field, value in values.items() if value.strip()}, violations


def _condition(text: str, listing: Listing, violations: list[Violation]) -> Condition | None:
    try:
        return parse(text, listing.fields)
    except BadInput as error:
        violations.extend(error.violations)
        return None


def _number(values: Mapping[str, str], field: str, default: int, most: int, violations: list[Violation]) -> int:
    """A whole number from 0 to ``most``."""
    text = values.get(field, str(default)).strip()
    if text.isascii() and text.isdigit():
        significant = text.lstrip("0")
        if len(significant) <= len(str(most)) and int(significant or "0") <= most:
            return int(significant or "0")
    told = "0 (ascending) or 1 (descending)" if field == "sort_ascending" else f"a whole number from 0 to {most}"
    violations.append(Violation(field, "out_of_range", f"{{field}} must be {told}."))
    return default


# --- Which rows meet a condition -------------------------------------------------------------------------------

_Row = Callable[[str], object]  # gives the value of the field named


def _matcher(condition: Condition) -> Callable[[_Row], bool]:
    """Whether a row meets the condition.

    ``-ne`` and ``-notcontains`` are the exact contrary of ``-eq`` and ``-contains``, so a value that is not there
    (None) meets them; it meets no other comparison but ``-eq NULL``.
    """
    if isinstance(condition, Comparison):
        field, holds, wanted = condition.field, _HOLDS[condition.operator], _folded(condition.value)
        return lambda row: holds(_folded(row(field)), wanted)
    parts = [_matcher(each) for each in condition.conditions]
    if isinstance(condition, AllOf):
        return lambda row: all(part(row) for part in parts)
    return lambda row: any(part(row) for part in parts)


def _folded(value: object) -> Any:
    """A value as it is compared: text without regard to case."""
    return value.casefold() if isinstance(value, str) else value


def _there(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: value is not None and holds(value, wanted)


_HOLDS: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.CONTAINS: _there(lambda value, wanted: wanted in value),
    Operator.NOT_CONTAINS: lambda value, wanted: value is None or wanted not in value,
    Operator.STARTS_WITH: _there(str.startswith),
    Operator.ENDS_WITH: _there(str.endswith),
    Operator.LESS: _there(operator.lt),
    Operator.LESS_OR_EQUAL: _there(operator.le),
    Operator.GREATER: _there(operator.gt),
    Operator.GREATER_OR_EQUAL: _there(operator.ge),
}
