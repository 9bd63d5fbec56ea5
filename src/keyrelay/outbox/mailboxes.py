"""The mailboxes in a header such as To (RFC 5322 section 3.4).

What can be read in two ways is not read at all: an address that we take for the sender's, and a relay for part of a
name, would let anybody write in anybody's name.
"""

from __future__ import annotations

import re

from keyrelay.relay.headers import Mailbox

# An atom may hold a domain literal, in which a colon is part of the address.
_TOKEN = re.compile(r'[ \t]+|"(?:[^"\\]|\\.)*"|<[^<>]*>|[,:;(]|(?:[^\s"<>,:;()\[\]\\]|\[[^\[\]\s]*\])+')
_ESCAPED = re.compile(r"\\(.)")
_COMMENT = re.compile(r"[^()\\]+|\\.|[()]")
_MOST_COMMENTS_INSIDE = 20


def read_mailboxes(text: str) -> list[Mailbox]:
    """The mailboxes of an unfolded header, those of groups among them. Raises ValueError."""
    reader = _Reader()
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError("not a list of addresses")
        at = token.end()
        if token[0] == "(":
            at = _after_comment(text, at)
        elif token[0][0] not in " \t":
            reader.take(token[0])
    return reader.end()


class _Reader:
    """Takes one token after the other, comments and spaces left out."""

    def __init__(self) -> None:
        self._found: list[Mailbox] = []
        self._words: list[str] = []
        self._angle: str | None = None
        self._in_group = False
        self._after_group = False

    def take(self, piece: str) -> None:
        if piece == ",":
            self._finish()
            self._after_group = False
        elif piece == ";":
            self._group(inside=True)
            self._finish()
            self._after_group = True
        elif self._angle is not None or self._after_group:
            raise ValueError("something after an address, without a comma")
        elif piece == ":":
            self._group(inside=False)
            self._ensure_no_address()
            self._words.clear()
        elif piece[0] == "<":
            self._angle = piece[1:-1].strip(" \t")
        else:
            self._words.append(piece)

    def end(self) -> list[Mailbox]:
        if self._in_group:
            raise ValueError("a group without its end")
        self._finish()
        return self._found

    def _group(self, *, inside: bool) -> None:
        if self._in_group is not inside or not (inside or self._words):
            raise ValueError("a group where none can be")
        self._in_group = not inside

    def _ensure_no_address(self, but: str = "") -> None:
        """The words are a name, which holds an address only in quotes: some readers take one for who is meant."""
        if any("@" in word and word[0] != '"' and word != but for word in self._words):
            raise ValueError("an address where a name can be")

    def _finish(self) -> None:
        if self._angle is not None:
            self._ensure_no_address(but=self._angle)
            self._found.append(Mailbox(self._angle, " ".join(map(_unquoted, self._words))))
        elif len(self._words) > 1:
            raise ValueError("an address with spaces in it")
        elif self._words:
            self._found.append(Mailbox(self._words[0]))
        self._words.clear()
        self._angle = None


def _after_comment(text: str, at: int) -> int:
    depth = 1
    while depth:
        token = _COMMENT.match(text, at)
        if token is None or depth > _MOST_COMMENTS_INSIDE:
            raise ValueError("a comment without its end")
        at = token.end()
        depth += {"(": 1, ")": -1}.get(token[0], 0)
    return at


def _unquoted(word: str) -> str:
    return _ESCAPED.sub(r"\1", word[1:-1]) if word[0] == '"' else word
