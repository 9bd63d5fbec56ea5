"""The header lines of a message: folded, quoted and encoded only where they have to be (RFC 5322, RFC 2047)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

_LINE = 76  # characters of a header line that holds an encoded word (RFC 2047 section 2); the others may have 78
_WORD = 75  # characters of an encoded word, and of any other that is not encoded
_FIRST_WORD = 50  # the same for the first one, which has the header's name before it
_AROUND = len("=?utf-8?q??=")
_PIECE = 54  # characters of a file name on one line (RFC 2231 section 3)

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"  # RFC 5322 section 3.2.3
_ATOMS = re.compile(rf"{_ATEXT}+( {_ATEXT}+)*")
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 section 5 (3)

LONGEST_NAME = 50
"""Characters of the name of a header whose text may need to be encoded: beside it there is room for a first word."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address, and the name of whoever reads there (RFC 5322 section 3.4)."""

    address: str
    name: str = ""


def free_text(name: str, text: str) -> str:
    """A header whose text may be anything, such as Subject. Its name has at most LONGEST_NAME characters."""
    return folded(name, _free_text(text, min(_FIRST_WORD, _LINE - len(name) - len(": "))))


def mailboxes(name: str, boxes: Iterable[Mailbox]) -> str:
    """A header of mailboxes, such as To."""
    words: list[str] = []
    for box in boxes:
        if words:
            words[-1] += ","
        words += [*_phrase(box.name), f"<{box.address}>"] if box.name else [box.address]
    return folded(name, words)


def author(name: str, box: Mailbox) -> str:
    """A header of one mailbox whose address stands in brackets even when it has no name."""
    return folded(name, [*_phrase(box.name), f"<{box.address}>"])


def attachment(file_name: str) -> str:
    """The Content-Disposition of a file (RFC 2183), its name as RFC 2231 writes what is not plain."""
    start = "Content-Disposition: attachment;\r\n "
    if file_name.isascii() and len(file_name) <= _PIECE and not any(trap in file_name for trap in ('"', "\\", "=?")):
        return f'{start}filename="{file_name}"'
    pieces = list(_grouped((quote(character, safe="") for character in file_name), _PIECE, _PIECE))
    if len(pieces) == 1:
        return f"{start}filename*=utf-8''{pieces[0]}"
    first, *others = pieces
    lines = [f"filename*0*=utf-8''{first}", *(f"filename*{at}*={piece}" for at, piece in enumerate(others, 1))]
    return start + ";\r\n ".join(lines)


def folded(name: str, words: list[str]) -> str:
    """A header, folded before the words that do not fit on the line (RFC 5322 section 2.2.3)."""
    first, *others = words or [""]
    lines = [f"{name}: {first}".rstrip()]  # some readers take the space of an early fold for one of the text
    for word in others:
        if len(lines[-1]) + 1 + len(word) > _LINE:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


def _free_text(text: str, room: int) -> list[str]:
    """The words of a header that is free text."""
    words = text.split(" ")
    fitting = len(words[0]) <= room and all(0 < len(word) <= _WORD for word in words)
    if text == "" or (text.isascii() and "=?" not in text and fitting):
        return words
    return list(_encoded_words(text, room))


def _phrase(name: str) -> list[str]:
    """The words of a name before an address (RFC 5322 section 3.2.5)."""
    if name == "":
        return []
    if name.isascii() and "=?" not in name and len(name) <= _FIRST_WORD and " ".join(name.split()) == name:
        if _ATOMS.fullmatch(name):
            return [name]
        return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return list(_encoded_words(name, _FIRST_WORD))


def _encoded_words(text: str, room: int) -> Iterator[str]:
    """The text as encoded words (RFC 2047), none of them split within a character."""
    quoted = [_quoted(character) for character in text]
    foreign = sum(len(piece) // 3 for piece in quoted)
    if mostly_plain(foreign, len(text.encode())):
        for word in _grouped(quoted, room - _AROUND, _WORD - _AROUND):
            yield f"=?utf-8?q?{word}?="
        return
    # Base64 makes four characters of three octets.
    for word in _grouped(text, (room - _AROUND) // 4 * 3, (_WORD - _AROUND) // 4 * 3):
        yield f"=?utf-8?b?{binascii.b2a_base64(word.encode(), newline=False).decode('ascii')}?="


def _quoted(character: str) -> str:
    if character in _SAFE:
        return character
    return "_" if character == " " else "".join(f"={octet:02X}" for octet in character.encode())


def mostly_plain(foreign: int, octets: int) -> bool:
    """Whether so many octets that need three characters each leave the text readable; base64 makes 4 of 3."""
    return foreign * 3 <= octets


def _grouped(pieces: Iterable[str], first: int, most: int) -> Iterator[str]:
    """Join pieces to groups of at most so many octets: as many as ``first`` in the first, then ``most``."""
    room = first
    group = ""
    for piece in pieces:
        octets = len(piece.encode())
        if octets > room:
            yield group
            group, room = "", most
        group += piece
        room -= octets
    yield group
