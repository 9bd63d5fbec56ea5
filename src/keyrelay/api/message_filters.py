"""What callers ask of the list of messages, and which of the failed ones they want sent again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args

from keyrelay.api.conventions import Fields, Pairs, printable
from keyrelay.api.moments import point_in_time
from keyrelay.errors import BadInput, Violation
from keyrelay.outbox.listing import MOST_ON_A_PAGE, Search, is_id
from keyrelay.outbox.model import STATES, State
from keyrelay.outbox.steering import FAILED
from keyrelay.secrets.model import has_control

_NAMES = ("state", "recipient", "since", "until", "after", "limit")
_USUAL_LIMIT = 50
_LONGEST = 320  # characters of an address, and of everything else
_NO_TIME = "{field} is not a point in time such as 2026-03-01T12:00:00Z."
_RESEND = {"since": "since", "states": "states"}


class Filters:
    """The parameters of a list. Raises BadInput with everything that is wrong."""

    def __init__(self, given: Iterable[tuple[str, str]]) -> None:
        self._found: list[Violation] = []
        self._values: dict[str, list[str]] = {}
        for name, value in given:
            if name in _NAMES:
                self._values.setdefault(name, []).append(value)
            else:
                self._wrong(printable(name), "unknown", "is not a parameter of this")
        self.search = Search(self._states(), self._recipient(), self._moment("since"), self._moment("until"))
        self.after, self.limit = self._after(), self._limit()
        if self._found:
            raise BadInput(tuple(self._found))

    def _states(self) -> frozenset[State]:
        names = {name for value in self._values.get("state", ()) for name in value.split(",")}
        if not names <= set(STATES):
            self._wrong("state", "unknown_state", "must be one of " + ", ".join(STATES))
        return frozenset(state for state in STATES if state in names)

    def _recipient(self) -> str | None:
        text = self._text("recipient")
        if text is not None and ("@" not in text or has_control(text)):
            self._wrong("recipient", "bad_address", "must be one whole address such as ops@example.org")
        return text

    def _moment(self, name: str) -> datetime | None:
        text = self._text(name)
        found = None if text is None else point_in_time(text)
        if text is not None and found is None:
            self._found.append(Violation(name, "bad_time", _NO_TIME))
        return found

    def _after(self) -> str | None:
        text = self._text("after")
        if text is not None and not is_id(text):
            self._wrong("after", "bad_value", "is nothing that an earlier page gave as next")
        return text

    def _limit(self) -> int:
        text = self._text("limit")
        if text is None:
            return _USUAL_LIMIT
        if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_ON_A_PAGE)):
            number = int(text)
            if 1 <= number <= MOST_ON_A_PAGE:
                return number
        self._wrong("limit", "out_of_range", f"must be a whole number from 1 to {MOST_ON_A_PAGE}")
        return _USUAL_LIMIT

    def _text(self, name: str) -> str | None:
        values = self._values.get(name, [])
        if len(values) > 1:
            self._wrong(name, "duplicate", "is given more than once")
        elif values and len(values[0]) > _LONGEST:
            self._wrong(name, "too_long", f"has more than {_LONGEST} characters")
        elif values:
            return values[0]
        return None

    def _wrong(self, name: str, code: str, told: str) -> None:
        self._found.append(Violation(name, code, f"{{field}} {told}."))


def read_resend(pairs: Pairs) -> tuple[datetime, frozenset[State]]:
    """Since when, and of which states, messages are to be sent again. Raises BadInput."""
    fields = Fields(pairs, _RESEND, exact=True)
    text = fields.text("since")
    since = None if text is None else point_in_time(text[:_LONGEST])
    if since is None and not any(violation.field == "since" for violation in fields.violations):
        fields.violations.append(Violation("since", "bad_time", _NO_TIME))
    states = _failed(dict(pairs)["states"]) if fields.has("states") else FAILED
    if states is None:
        fields.refuse("states", "must be a list of refused, expired, or both")
    if since is None or states is None or fields.violations:
        raise BadInput(tuple(fields.violations))
    return since, states


def _failed(given: Any) -> frozenset[State] | None:
    if not isinstance(given, list) or not all(isinstance(state, str) and state in FAILED for state in given):
        return None
    return frozenset(state for state in get_args(State) if state in given) or None
