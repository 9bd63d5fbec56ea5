r"""The query language of lists, as in ``name -eq "Local secrets" AND (area -ne 1 OR remote -eq true)``.

Operators and NULL are those of Keyfactor's pages "Using the … Search Feature"; the pages on single operations show
values without quotes as well (``field1 -eq value1``). AND binds tighter than OR. Names, operators and AND, OR and NULL
are read without regard to case, and so is text when it is compared: Command's database compares like that.

Text stands in double or single quotes. A quote inside is doubled (as in PowerShell, after which the language is made)
or has a backslash before it (as the Terraform provider writes it), and two backslashes are one; any other backslash is
an ordinary character, so that ``"DOMAIN\user"`` needs nothing.

A query is read once from left to right; its length, depth and number of comparisons are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto

from keyrelay.errors import BadInput, Violation

MOST_CHARACTERS = 4000
MOST_COMPARISONS = 100
MOST_DEPTH = 20

_INT64 = 2**63
_SHOWN_CHARACTERS = 40
_QUOTES = "\"'"
_AND, _OR, _NULL = "and", "or", "null"


class Operator(StrEnum):
    EQUAL = "-eq"
    NOT_EQUAL = "-ne"
    CONTAINS = "-contains"
    NOT_CONTAINS = "-notcontains"
    STARTS_WITH = "-startswith"
    ENDS_WITH = "-endswith"
    LESS = "-lt"
    LESS_OR_EQUAL = "-le"
    GREATER = "-gt"
    GREATER_OR_EQUAL = "-ge"


_EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL)
_ORDERED = (*_EQUALITY, Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL)
_OPERATORS: dict[type, tuple[Operator, ...]] = {
    str: (*_EQUALITY, Operator.CONTAINS, Operator.NOT_CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH),
    int: _ORDERED,
    datetime: _ORDERED,
    bool: _EQUALITY,
}
_RESERVED = {*Operator, _AND, _OR}


Value = str | int | bool | datetime | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field compared with one value of its type; None stands for NULL, with ``-eq`` and ``-ne`` only."""

    field: str
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class AllOf:
    """AND: two conditions or more."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """OR: two conditions or more."""

    conditions: tuple[Condition, ...]


Condition = Comparison | AllOf | AnyOf


def parse(text: str, fields: Mapping[str, type]) -> Condition | None:
    """The condition that ``text`` says, or None when it says nothing.

    ``fields``: what may be compared, str, int, bool or datetime by its published name. Raises BadInput about
    ``query_string`` that names the place and what was expected there.
    """
    if len(text) > MOST_CHARACTERS:
        raise _refused("too_long", f"has more than {MOST_CHARACTERS} characters")
    if "\0" in text:  # which no database could compare
        raise _refused("not_a_query", "holds a NUL character")
    tokens = _tokens(text)
    return _Parser(tokens, fields).whole() if len(tokens) > 1 else None


class _Kind(Enum):
    OPENING = auto()
    CLOSING = auto()
    TEXT = auto()
    WORD = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    place: int

    def says(self, word: str) -> bool:
        return self.kind is _Kind.WORD and self.text.lower() == word

    def __str__(self) -> str:
        return "it ends" if self.kind is _Kind.END else f"there is {shown(self.text)}"


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        start, character = position, text[position]
        position += 1
        if character.isspace():
            continue
        if character in "()":
            kind = _Kind.OPENING if character == "(" else _Kind.CLOSING
            tokens.append(_Token(kind, character, start))
        elif character in _QUOTES:
            content, position = _quoted(text, start)
            tokens.append(_Token(_Kind.TEXT, content, start))
        else:
            while position < len(text) and not (text[position].isspace() or text[position] in '()"'):
                position += 1
            tokens.append(_Token(_Kind.WORD, text[start:position], start))
    return [*tokens, _Token(_Kind.END, "", len(text))]


def _quoted(text: str, start: int) -> tuple[str, int]:
    """The text in the quotes that open at ``start``, and where what follows begins."""
    quote, position, content = text[start], start + 1, []
    while position < len(text):
        pair = text[position : position + 2]
        if pair in (quote * 2, "\\" + quote, "\\\\"):
            content.append(pair[1])
            position += 2
        elif pair[0] == quote:
            return "".join(content), position + 1
        else:
            content.append(pair[0])
            position += 1
    raise _refused("not_a_query", f"cannot be read: the quote at character {start + 1} is never closed")


class _Parser:
    """Recursive descent; one token is looked at at a time."""

    def __init__(self, tokens: list[_Token], fields: Mapping[str, type]) -> None:
        self._tokens = iter(tokens)
        self._token = next(self._tokens)
        self._published = {name.lower(): name for name in fields}
        self._fields = fields
        self._comparisons = 0

    def whole(self) -> Condition:
        condition = self._any_of(0)
        if not self._at(_Kind.END):
            raise self._unexpected("AND, OR or the end (text with spaces needs quotes)")
        return condition

    def _any_of(self, depth: int) -> Condition:
        conditions = [self._all_of(depth)]
        while self._token.says(_OR):
            self._take()
            conditions.append(self._all_of(depth))
        return conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))

    def _all_of(self, depth: int) -> Condition:
        conditions = [self._one(depth)]
        while self._token.says(_AND):
            self._take()
            conditions.append(self._one(depth))
        return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))

    def _one(self, depth: int) -> Condition:
        if not self._at(_Kind.OPENING):
            return self._comparison()
        if depth == MOST_DEPTH:
            raise _refused("too_deep", f"has more than {MOST_DEPTH} parentheses within each other")
        self._take()
        condition = self._any_of(depth + 1)
        if not self._at(_Kind.CLOSING):
            raise self._unexpected("AND, OR or a closing parenthesis (text with spaces needs quotes)")
        self._take()
        return condition

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise _refused("too_many", f"has more than {MOST_COMPARISONS} comparisons")
        field = self._field()
        kind = self._fields[field]
        compared = self._operator(field, kind)
        return Comparison(field, compared, self._value(field, kind, compared))

    def _field(self) -> str:
        names = ", ".join(self._fields)
        if not self._at(_Kind.WORD) or self._token.text.lower() in _RESERVED:
            raise self._unexpected(f"a field ({names})")
        field = self._published.get(self._token.text.lower())
        if field is None:
            raise self._unexpected(f"a field of this list ({names})", code="unknown_field")
        self._take()
        return field

    def _operator(self, field: str, kind: type) -> Operator:
        usable = _OPERATORS[kind]
        for each in usable:
            if self._token.says(each):
                self._take()
                return each
        raise self._unexpected(f"an operator for {field} ({', '.join(usable)})")

    def _value(self, field: str, kind: type, compared: Operator) -> Value:
        token = self._token
        if token.kind not in (_Kind.WORD, _Kind.TEXT) or any(token.says(word) for word in _RESERVED):
            raise self._unexpected(f"a value for {field}")
        value: Value
        if token.says(_NULL):
            if compared not in _EQUALITY:
                raise self._unexpected(f"a value for {field} (NULL goes with -eq and -ne)")
            value = None
        elif kind is str:
            value = token.text
        else:
            value = _BY_KIND[kind](token.text)
            if value is None:
                raise self._unexpected(f"{_CALLED[kind]} for {field}")
        self._take()
        return value

    def _at(self, kind: _Kind) -> bool:
        return self._token.kind is kind

    def _take(self) -> None:
        self._token = next(self._tokens)

    def _unexpected(self, expected: str, *, code: str = "not_a_query") -> BadInput:
        place = self._token.place + 1
        return _refused(code, f"cannot be read: at character {place}, {expected} is expected, and {self._token}")


def _integer(text: str) -> int | None:
    """A number that a database's integer holds; in quotes as well, as scripts send it."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)  # Python reads up to 4300 digits, and a query is shorter
    return number if -_INT64 <= number < _INT64 else None


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _moment(text: str) -> datetime | None:
    """A point in time, or the beginning of a day; in UTC where it says nothing else."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_BY_KIND: dict[type, Callable[[str], Value]] = {int: _integer, bool: _flag, datetime: _moment}
_CALLED = {int: "a whole number", bool: "true or false", datetime: "a time such as 2026-03-01T12:30:00Z"}


def _refused(code: str, told: str) -> BadInput:
    return BadInput((Violation("query_string", code, f"{{field}} {told}."),))


def shown(text: str) -> str:
    """What a caller wrote, short and harmless enough for a message."""
    start = "".join(each if each.isprintable() else "?" for each in text[:_SHOWN_CHARACTERS]).replace("{", "(")
    return f'"{start}…"' if len(text) > _SHOWN_CHARACTERS else f'"{start}"'
