"""Addresses as a relay is told them, and none that it could not be told."""

from __future__ import annotations

import re

from keyrelay.errors import BadInput, Violation
from keyrelay.secrets.model import has_control

_LOCAL_OCTETS = 64  # RFC 5321 section 4.5.3.1
_DOMAIN_OCTETS = 253

# RFC 5322 section 3.2.3; RFC 6531 section 3.3 adds everything outside ASCII.
_LOCAL_ATOM = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f])+"
_LOCAL = re.compile(rf"{_LOCAL_ATOM}(?:\.{_LOCAL_ATOM})*")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[(?:[0-9.]{{7,15}}|IPv6:[0-9A-Fa-f:.]{{2,45}})\]")


def envelope_address(address: str, *, field: str = "address") -> tuple[str, bool]:
    """The address as the relay is told, its domain as IDNA writes it (RFC 5891), and whether that needs SMTPUTF8.

    Raises BadInput with a violation of ``field``.
    """
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        domain = _idna(domain)
    if not address.isprintable() and has_control(address):  # the first is quick and sees more than is wrong
        raise BadInput((control_character(field),))
    if (
        not _LOCAL.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
        or "=?" in local  # would be read as an encoded word
        or not local.isprintable()
        or len(local.encode()) > _LOCAL_OCTETS
        or len(domain) > _DOMAIN_OCTETS
    ):
        raise BadInput((no_address(field),))
    return f"{local}@{domain}", not local.isascii()


def no_address(field: str) -> Violation:
    return Violation(field, "bad_address", "{field} is not an e-mail address such as pki@example.org.")


def control_character(field: str) -> Violation:
    return Violation(field, "control_character", "{field} holds a control character, such as a line break.")


def _idna(domain: str) -> str:
    import idna  # most domains are ASCII

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:
        return ""
