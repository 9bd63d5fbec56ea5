"""What a client may say (RFC 5321 section 4.1, and the extensions): read strictly, so that its mistakes show."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_LONGEST_TEXT_LINE = 1000  # bytes with CRLF, RFC 5321 section 4.5.3.1.6

_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
_LOCAL = rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*")'
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[^\s\[\]<>]+\])"
_HELLO = re.compile(rf"(?a:{_DOMAIN})")
_MAIL = re.compile(rf"(?i:FROM):<({_LOCAL}@{_DOMAIN}|)>(?: (.+))?")
_RCPT = re.compile(rf"(?i:TO):<({_LOCAL}@{_DOMAIN}|(?i:postmaster))>(?: (.+))?")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_CHUNK = re.compile(r"(\d{1,18})(?i:( LAST))?")


class Mistake(Exception):
    """The client broke the protocol; the reply says how."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply.decode().strip())
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Mail:
    sender: str
    parameters: str
    utf8: bool
    eight_bit: bool
    binary: bool
    size: int | None


def hello_name(argument: str) -> None:
    """Raises Mistake for what is neither a domain nor an address literal."""
    if not _HELLO.fullmatch(argument):
        raise Mistake(b"501 5.5.4 a domain or an address literal is needed\r\n")
    if argument.startswith("["):
        try:
            ipaddress.ip_address(argument[1:-1].removeprefix("IPv6:"))
        except ValueError:
            raise Mistake(b"501 5.5.4 this is no address literal\r\n") from None


def mail(argument: str, offered: Mapping[str, str]) -> Mail:
    """The argument of MAIL, with no more parameters than ``offered`` allows. Raises Mistake."""
    found = _MAIL.fullmatch(argument)
    if found is None:
        raise Mistake(b"501 5.5.4 syntax: MAIL FROM:<address> [parameters]\r\n")
    sender, text = found[1], found[2] or ""
    parameters = _parameters(text) if text else {}
    for name, value in parameters.items():
        allowed = _MAIL_PARAMETERS.get(name)
        if allowed is None or not allowed(value, offered):
            raise Mistake(f"555 5.5.4 parameter {name} is not one that was offered\r\n".encode())
    utf8 = "SMTPUTF8" in parameters
    if not utf8 and not argument.isascii():
        raise Mistake(b"553 5.6.7 an address outside ASCII needs SMTPUTF8\r\n")
    body, size = parameters.get("BODY", "7BIT").upper(), parameters.get("SIZE")
    return Mail(
        sender=sender,
        parameters=text,
        utf8=utf8,
        eight_bit=body != "7BIT",
        binary=body == "BINARYMIME",
        size=int(size) if size is not None else None,
    )


def recipient(argument: str, *, utf8: bool) -> str:
    """The address in the argument of RCPT. Raises Mistake."""
    found = _RCPT.fullmatch(argument)
    if found is None:
        raise Mistake(b"501 5.5.4 syntax: RCPT TO:<address>\r\n")
    if found[2]:
        raise Mistake(b"555 5.5.4 no parameter of RCPT was offered\r\n")
    if not utf8 and not argument.isascii():
        raise Mistake(b"553 5.6.7 an address outside ASCII needs SMTPUTF8\r\n")
    return found[1]


def chunk(argument: str) -> tuple[int, bool]:
    """The bytes that follow BDAT, and whether they are the last (RFC 3030). Raises Mistake."""
    found = _CHUNK.fullmatch(argument)
    if found is None:
        raise Mistake(b"501 5.5.4 syntax: BDAT size [LAST]\r\n")
    return int(found[1]), found[2] is not None


def unstuffed(content: bytes) -> bytes:
    """Content as it was before dots were doubled (RFC 5321 section 4.5.2). Raises Mistake for a dot left single."""
    if content.startswith(b"."):
        if not content.startswith(b".."):
            raise Mistake(b"554 5.5.2 a dot at the beginning of a line was not doubled\r\n")
        content = content[1:]
    stuffed = content.count(b"\r\n.")
    if not stuffed:
        return content
    if stuffed != content.count(b"\r\n.."):
        raise Mistake(b"554 5.5.2 a dot at the beginning of a line was not doubled\r\n")
    return content.replace(b"\r\n.", b"\r\n")


def check_content(content: bytes, mail: Mail) -> None:
    """Raises Mistake for content that the parameters of MAIL do not allow (RFC 5321 section 2.3.8, RFC 6152)."""
    if mail.binary:
        return
    if not mail.eight_bit and not content.isascii():
        raise Mistake(b"554 5.6.1 8-bit content without BODY=8BITMIME\r\n")
    lines = content.split(b"\r\n")
    if not len(lines) - 1 == content.count(b"\n") == content.count(b"\r"):
        raise Mistake(b"554 5.6.0 a line ends with something else than CRLF\r\n")
    if max(map(len, lines)) > _LONGEST_TEXT_LINE - 2:
        raise Mistake(b"554 5.6.0 a line is longer than 998 bytes\r\n")


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for word in text.split(" "):
        found = _PARAMETER.fullmatch(word)
        if found is None or found[1].upper() in parameters:
            raise Mistake(b"501 5.5.4 these parameters cannot be read\r\n")
        parameters[found[1].upper()] = found[2] or ""
    return parameters


_BODIES = {"7BIT": "8BITMIME", "8BITMIME": "8BITMIME", "BINARYMIME": "BINARYMIME"}

_MAIL_PARAMETERS: Mapping[str, Callable[[str, Mapping[str, str]], bool]] = {
    "SIZE": lambda value, offered: "SIZE" in offered and value.isdecimal() and len(value) <= 20,  # noqa: PLR2004 - RFC 1870
    "BODY": lambda value, offered: _BODIES.get(value.upper(), "?") in offered,
    "SMTPUTF8": lambda value, offered: "SMTPUTF8" in offered and not value,
    "AUTH": lambda value, offered: "AUTH" in offered and bool(value),
}
