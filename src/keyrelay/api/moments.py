"""Points in time as callers write them (RFC 3339)."""

from __future__ import annotations

import re
from datetime import datetime

_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PLUS = re.compile(r" (?=\d\d:\d\d$)")  # in a query string, a plus sign that was not escaped


def point_in_time(text: str) -> datetime | None:
    """The moment that is written; None when it is none, or when it has no offset from UTC."""
    written = _PLUS.sub("+", text.strip().upper())
    if not _SHAPE.fullmatch(written):
        return None
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return None
