"""Where a request comes from: its peer, or whom proxies name that the operator trusts.

``X-Forwarded-For`` is read from the right, because each proxy adds at its end: the first address that is no trusted
proxy is the caller's, and whatever stands before it may be made up. The header Forwarded (RFC 7239) is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from keyrelay import request_id
from keyrelay.setting_values import Network

UNKNOWN = "unknown"
_MOST_PROXIES = 32  # in one chain
_LONGEST = 4096  # characters from the end of all that was sent
_WITH_PORT = re.compile(r"\[([^\[\]]{2,45})\](?::\d{1,5})?|(\d[\d.]{6,14}):\d{1,5}", re.ASCII)

Headers = Iterable[tuple[bytes, bytes]]


class Callers:
    """Knows which proxies are trusted."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def address(self, peer: str | None, headers: Headers) -> str:
        """The network address that a request comes from; ``peer`` is who is connected to us, if that has an address."""
        if peer is None:
            return UNKNOWN
        if not self.trusts(peer):
            return peer
        nearest = peer
        for named in _named(headers):
            if (address := _address(named)) is None:
                break  # whoever wrote that, the one who sent it to us is all we know
            nearest = str(address)
            if not self._is_trusted(address):
                break
        return nearest

    def request_id(self, peer: str | None, headers: Headers) -> str:
        """The id of a request: a new one, or the one that a trusted proxy has given it."""
        if peer is not None and self.trusts(peer):
            given = [value.decode("latin-1") for name, value in headers if name == b"x-request-id"]
            if len(given) == 1 and request_id.fits(given[0]):
                return given[0]
        return request_id.new()

    def trusts(self, peer: str) -> bool:
        """Whether this peer is one of the proxies."""
        return bool(self._trusted) and (address := _address(peer)) is not None and self._is_trusted(address)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _named(headers: Headers) -> Iterator[str]:
    """Who is named, the nearest first. Empty items say nothing (RFC 9110 section 5.6.1)."""
    whole = ",".join(value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for")
    items = [item.strip() for item in whole[-_LONGEST:].split(",")]
    if len(whole) > _LONGEST:
        del items[0]  # it may be half an address
    yield from [item for item in reversed(items) if item][:_MOST_PROXIES]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without brackets and port. IPv4 in the clothes of IPv6 counts as what it is."""
    if "%" in text:  # a zone is a name that anybody can make up
        return None
    if (match := _WITH_PORT.fullmatch(text)) is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
