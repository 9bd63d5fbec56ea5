"""An entry as text: an XML message, and a line of a sheet (CSV)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import Any

from keyrelay.audit.model import Entry

SHEET_COLUMNS = (
    *("Id", "Timestamp", "Message", "Signature", "Category", "Operation", "Level", "User", "EntityType"),
    *("AuditIdentifier", "ImmutableIdentifier"),
)

# XML 1.0 section 2.2 has no other characters, not even escaped.
_FOREIGN_TO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# White space too, which would come back as a blank or a line feed (sections 2.11 and 3.3.3).
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
# What a spreadsheet would take for a formula, also behind white space; the last four are the wide forms of the first.
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def message(entry: Entry) -> str:
    """What an entry says, as XML (contract 7.3)."""
    parts = [_element("User", entry.actor.name), _element("Operation", entry.operation_title)]
    parts += [_element("Category", entry.category_title), _element("Name", entry.name)]
    parts += [_element("Address", entry.actor.address)]
    parts += [_fact("Detail", "name", field, _element("Value", value)) for field, value in entry.details.items()]
    parts += [_fact("Change", "field", field, _changed(value)) for field, value in entry.changes.items()]
    return f"<AuditEntry>{''.join(parts)}</AuditEntry>"


def _changed(value: Any) -> str:
    """What a field was and is; of a secret only that it changed."""
    if isinstance(value, dict) and value.keys() == {"before", "after"}:
        return _element("Before", value["before"]) + _element("After", value["after"])
    return _text(value)


def _element(name: str, value: Any) -> str:
    return "" if value is None else f"<{name}>{_text(value)}</{name}>"


def _fact(element: str, attribute: str, name: str, inner: str) -> str:
    return f'<{element} {attribute}="{_escaped(name)}">{inner}</{element}>'


def _text(value: Any) -> str:
    return _escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Text as it stands in an element, or in an attribute in double quotes."""
    return _FOREIGN_TO_XML.sub(_REPLACED, text).translate(_ESCAPES)


def sheet(entries: Iterable[Entry]) -> str:
    """Lines of a sheet (RFC 4180), in which no cell is a formula."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerows([_cell(cell) for cell in _cells(entry)] for entry in entries)
    return written.getvalue()


def heading() -> str:
    """The first line of a sheet."""
    return ",".join(SHEET_COLUMNS) + "\r\n"


def _cells(entry: Entry) -> tuple[str | int | None, ...]:
    return (
        *(entry.id, entry.timestamp, message(entry), entry.signature, entry.category_title, entry.operation_title),
        *(entry.level_title, entry.actor.name, entry.kind, entry.name, entry.object),
    )


def _cell(value: str | int | None) -> str:
    text = "" if value is None else str(value)
    text = "".join(_REPLACED if each == "\0" or "\ud800" <= each <= "\udfff" else each for each in text)
    return f"'{text}" if _FORMULA.match(text) else text


_REPLACED = "\ufffd"
