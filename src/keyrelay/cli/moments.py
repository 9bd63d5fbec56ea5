"""Times as people type them: 2h, 30m, 7d, or 2026-03-01T12:30+01:00."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from keyrelay.errors import Unsuitable

_SPAN = re.compile(r"(\d{1,7})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=3660)


def before_now(text: str, option: str) -> datetime:
    """A time of the past: so long ago, or a time of day in this machine's zone unless it says its own.

    Raises Unsuitable.
    """
    return _moment(text, option, -1)


def from_now(text: str, option: str) -> datetime:
    """The same for the future."""
    return _moment(text, option, 1)


def _moment(text: str, option: str, sign: int) -> datetime:
    now = datetime.now().astimezone()
    try:
        span = _SPAN.fullmatch(text.strip())
        if span is not None:
            return now + sign * _bounded(timedelta(**{_UNITS[span[2]]: int(span[1])}))
        moment = datetime.fromisoformat(text.strip()).astimezone()
        _bounded(abs(moment - now))
    except (ValueError, OverflowError):
        raise Unsuitable(
            f"{option} is not a time.", remedy="Say how long, such as 30m, 2h or 7d, or a time: 2026-03-01T12:30."
        ) from None
    return moment


def _bounded(span: timedelta) -> timedelta:
    if span > _LONGEST:
        raise OverflowError
    return span
