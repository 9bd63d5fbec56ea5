"""What is kept of a message that was handed in, and what a caller may hand in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import msgspec

from keyrelay.errors import BadInput, Violation
from keyrelay.profile.addresses import envelope_address
from keyrelay.relay.model import Content, Envelope
from keyrelay.settings import Settings

_MEGABYTE = 1024 * 1024
_LONGEST_ADDRESS = 1000  # characters that are worth remembering: none that long is an address


class Letter(msgspec.Struct, frozen=True):
    """A message ready to be sent, and its envelope. Nothing that could be known now is wrong with it.

    ``needs_smtputf8``: an address or a header has characters outside ASCII (RFC 6531). ``needs_8bit``: the content has
    octets above 127; a relay without 8BITMIME (RFC 6152) gets what ``parts.seven_bit`` makes of it.
    """

    envelope: Envelope
    content: Content
    needs_smtputf8: bool
    needs_8bit: bool
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a message may have. ``size`` (of all that is sent) and ``head`` (its headers) are in bytes.

    ``depth`` counts messages and multiparts in each other, ``hops`` the relays that it has passed (RFC 5321 6.3).
    """

    size: int = 25 * 1024 * 1024
    head: int = 64 * 1024
    recipients: int = 500
    headers: int = 500
    attachments: int = 100
    parts: int = 1000
    depth: int = 50
    hops: int = 50

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            size=settings.message_megabytes * _MEGABYTE,
            recipients=settings.message_recipients,
            attachments=settings.message_attachments,
        )


def _nobody_else(_: str) -> bool:
    return False


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may hand in: in whose name, and how much.

    ``sender_account`` and ``sender_name`` are the profile's. ``may_send_as`` is asked about any other address, as the
    relay would be told it, with its domain in lower case.
    """

    sender_account: str
    sender_name: str
    may_send_as: Callable[[str], bool] = _nobody_else
    bounds: Bounds = Bounds()

    def is_profiles(self, address: str) -> bool:
        """Whether it is the profile's own address, however its letters are written."""
        return address == self.sender_account or _in_lower_case(address) == _in_lower_case(told(self.sender_account))

    def permits(self, address: str) -> bool:
        """Whether mail may be from this address, which is one that a relay could be told."""
        if self.is_profiles(address):
            return True
        local, _, domain = address.rpartition("@")
        return self.may_send_as(f"{local}@{domain.lower()}")


def _in_lower_case(address: str | None) -> str | None:
    return address.lower() if address is not None and address.isascii() else address


def told(address: str) -> str | None:
    """The address as a relay is told it; None when that cannot be."""
    return _told(address) if len(address) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _told(address: str) -> str | None:
    try:
        return envelope_address(address)[0]
    except BadInput:
        return None


def not_permitted(field: str) -> Violation:
    return Violation(
        field,
        "not_permitted",
        "{field} is not the profile's sender; another needs a permission such as /messages/submit/as/pki@example.org/.",
    )


def too_many(field: str, most: int, what: str) -> Violation:
    return Violation(field, "too_many", f"{{field}} has more than {most} {what}.")


def too_large(field: str, most: int) -> Violation:
    return Violation(field, "too_large", f"{{field}} has more than {most} bytes.")
