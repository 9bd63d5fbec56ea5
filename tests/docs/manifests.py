"""Reads the manifests of docs/deploy: a small, strict part of YAML, in which nothing can be read in two ways.

Blocks by indentation, lists in lines that begin with a hyphen, whole-line and trailing comments, documents with ``---``
between them. Flow collections and quoted texts are those of JSON. What YAML makes something else of than a text (yes,
on, 0440, 1.5) has to be quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_KEY = re.compile(r"([A-Za-z_][\w./-]*):(?: +(\S.*))?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9/.][\w./:@+=%?-]*(?<!:)", re.ASCII)
_NOT_A_TEXT = re.compile(
    r"y|n|yes|no|on|off|true|false|null|0[xob]?[\da-f_]*|[\d_]*\.?[\d_]+(e[-+]?\d+)?|\d+(:\d+)+(\.\d*)?|\d+\.|\d{4}-\d+-\d+.*",
    re.IGNORECASE | re.ASCII,
)


def documents(text: str) -> list[Any]:
    """Every document of a file. Raises ValueError, which names the line."""
    found: list[list[tuple[int, int, str]]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip(" ")
        if line == "---":
            found.append([])
        elif stripped and not stripped.startswith("#"):
            if "\t" in line or line.endswith(" "):
                raise ValueError(f"line {number}: a tab, or a space at its end")
            found[-1].append((number, len(line) - len(stripped), stripped))
    return [_Reader(lines).whole() for lines in found]


class _Reader:
    def __init__(self, lines: Sequence[tuple[int, int, str]]) -> None:
        self._lines = list(lines)
        self._at = 0

    def whole(self) -> Any:
        value = self._block(0)
        if self._at != len(self._lines):
            raise self._wrong("is indented as nothing before it")
        return value

    def _block(self, indent: int) -> Any:
        if self._at == len(self._lines) or self._lines[self._at][1] != indent:
            raise self._wrong("nothing stands here, or it is indented wrongly")
        return self._items(indent) if self._lines[self._at][2].startswith("- ") else self._members(indent)

    def _items(self, indent: int) -> list[Any]:
        items = []
        while (text := self._next(indent)) is not None and text.startswith("- "):
            number, _, _ = self._lines[self._at]
            self._lines[self._at] = (number, indent + 2, text[2:])  # what follows the hyphen is a block of its own
            items.append(self._block(indent + 2) if _KEY.fullmatch(text[2:]) else self._scalar(text[2:]))
        return items

    def _members(self, indent: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while (text := self._next(indent)) is not None:
            match = _KEY.fullmatch(text)
            if match is None or match[1] in members:
                raise self._wrong("is no member, or a second one of this name")
            if match[2] is None:
                self._at += 1
                members[match[1]] = self._block(indent + 2)
            else:
                members[match[1]] = self._scalar(match[2])
        return members

    def _scalar(self, text: str) -> Any:
        if text[0] in '"[{':
            try:
                value, end = json.JSONDecoder().raw_decode(text)
            except ValueError as problem:
                raise self._wrong(f"is not written as JSON is ({problem})") from None
            if not re.fullmatch(r"( +#.*)?", text[end:]):
                raise self._wrong("has something behind its value")
        else:
            value = self._plain(text.partition(" #")[0].rstrip(" "))
        self._at += 1
        return value

    def _plain(self, text: str) -> str | int | bool:
        if text in {"true", "false"}:
            return text == "true"
        if re.fullmatch(r"0|[1-9]\d*", text, re.ASCII):
            return int(text)
        if not _PLAIN.fullmatch(text) or _NOT_A_TEXT.fullmatch(text):
            raise self._wrong("has a text that has to be quoted")
        return text

    def _next(self, indent: int) -> str | None:
        if self._at == len(self._lines) or self._lines[self._at][1] < indent:
            return None
        if self._lines[self._at][1] > indent:
            raise self._wrong("is indented as nothing before it")
        return self._lines[self._at][2]

    def _wrong(self, what: str) -> ValueError:
        number, _, text = self._lines[min(self._at, len(self._lines) - 1)]
        return ValueError(f"line {number} {what}: {text}")
