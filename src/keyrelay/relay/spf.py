"""Which addresses may send for a domain, by its SPF record (RFC 7208).

Read for advice, not to judge a sender: the whole record is walked, also where a receiver would stop at the first match,
so that everything wrong with it is seen. Macros (section 7) depend on the single message and are not expanded.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Ask = Callable[[str, str], Awaitable[tuple[str, ...]]]
"""Ask DNS for the records of a name and a type (TXT, MX as host names, A, AAAA); none if there are none."""

_MOST_LOOKUPS = 10  # section 4.6.4
_MOST_HOSTS = 10  # of one mx mechanism; the same section
_TERM = re.compile(
    r"[+?~-]?(?P<name>[a-z][a-z0-9._-]*)(?::(?P<target>[^/]+))?(?P<lengths>(?:/\d{1,3})?(?://\d{1,3})?)",
    re.IGNORECASE,
)
_MODIFIER = re.compile(r"(?P<name>[a-z][a-z0-9._-]*)=(?P<target>.*)", re.IGNORECASE)
_NETWORK = re.compile(r"[+?~-]?ip[46]:(?P<network>[0-9a-f:.]+(?:/\d{1,3})?)", re.IGNORECASE)
_NEEDS_TARGET = {"include", "exists"}
_NETWORKS = {"ip4", "ip6"}


class Broken(Exception):
    """The record cannot be evaluated; receivers answer with "permerror". The text says why, as end of a sentence."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a record says.

    ``authorised``: those of the addresses asked for that may send. ``rest``: the qualifier for all other addresses
    ("+", "-", "~", "?"), or "" when the record does not say. ``unsure``: it has macros, so an address may be
    authorised although it is not among them.
    """

    authorised: frozenset[Address]
    rest: str
    unsure: bool


def is_spf(record: str) -> bool:
    """Whether a TXT record is an SPF record (section 4.5)."""
    return record.lower().split(" ", 1)[0] == "v=spf1"


async def evaluate(record: str, domain: str, addresses: frozenset[Address], ask: Ask) -> Outcome:
    """What the SPF record of a domain says about addresses. Raises Broken, and what ``ask`` raises."""
    walk = _Walk(ask)
    authorised, rest = await walk.record(record, domain, addresses)
    return Outcome(authorised, rest, walk.unsure)


@dataclass(slots=True)
class _Walk:
    ask: Ask
    lookups: int = 0
    unsure: bool = False

    async def record(self, record: str, domain: str, undecided: frozenset[Address]) -> tuple[frozenset[Address], str]:
        """The addresses that may send, and the qualifier for all others."""
        authorised: frozenset[Address] = frozenset()
        redirect = ""
        for term in record.split(" ")[1:]:
            if modifier := _MODIFIER.fullmatch(term):
                redirect = modifier["target"] if modifier["name"].lower() == "redirect" else redirect
                continue
            if not term:
                continue
            qualifier, matched, last = await self._mechanism(term, domain, undecided)
            if qualifier == "+":
                authorised |= matched
            if last:
                return authorised, qualifier
            undecided -= matched
        if redirect:
            others, rest = await self._other_record(redirect, undecided, "redirect")
            return authorised | others, rest
        return authorised, ""

    async def _mechanism(
        self, term: str, domain: str, undecided: frozenset[Address]
    ) -> tuple[str, frozenset[Address], bool]:
        """Its qualifier, the addresses it matches, and whether it matches everything (section 5)."""
        if network := _NETWORK.fullmatch(term):
            return _qualifier(term), _within(undecided, [_network(network["network"], term)]), False
        read = _TERM.fullmatch(term)
        name = read["name"].lower() if read else ""
        if read is None or name in _NETWORKS or (name in _NEEDS_TARGET and not read["target"]):
            raise Broken(f'"{term}" cannot be read')
        target = read["target"] or domain
        matched: frozenset[Address] = frozenset()
        match name:
            case "all":
                return _qualifier(term), undecided, True
            case "include":
                matched, _ = await self._other_record(target, undecided, "include")
            case "a" | "mx":
                matched = _within(undecided, await self._networks(name, target, read["lengths"]))
            case "exists" | "ptr":  # both depend on who is sending, and to whom
                self._count()
                self.unsure = True
            case _:
                raise Broken(f'"{term}" is no mechanism of SPF')
        return _qualifier(term), matched, False

    async def _other_record(
        self, target: str, undecided: frozenset[Address], why: str
    ) -> tuple[frozenset[Address], str]:
        self._count()
        if self._is_macro(target):
            return frozenset(), "-"
        records = [record for record in await self.ask(target, "TXT") if is_spf(record)]
        if len(records) != 1:
            many = "several SPF records" if records else "no SPF record"
            raise Broken(f"{why} leads to {target}, which has {many}")
        return await self.record(records[0], target, undecided)

    async def _networks(self, name: str, target: str, lengths: str) -> list[_Network]:
        """The networks of an ``a`` or ``mx`` mechanism."""
        self._count()
        if self._is_macro(target):
            return []
        hosts: tuple[str, ...] = (target,)
        if name == "mx":
            hosts = await self.ask(target, "MX")
            if len(hosts) > _MOST_HOSTS:
                raise Broken(f"mx leads to {target}, which has more than {_MOST_HOSTS} mail servers")
        four, _, six = lengths.partition("//")
        suffixes = {"A": four or "/32", "AAAA": f"/{six or 128}"}
        return [
            _network(address + suffix, f"{name}{lengths}")
            for host in hosts
            for kind, suffix in suffixes.items()
            for address in await self.ask(host, kind)
        ]

    def _count(self) -> None:
        self.lookups += 1
        if self.lookups > _MOST_LOOKUPS:
            raise Broken(f"it needs more than the {_MOST_LOOKUPS} DNS lookups that receivers make")

    def _is_macro(self, target: str) -> bool:
        self.unsure = self.unsure or "%" in target
        return "%" in target


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _qualifier(term: str) -> str:
    return term[0] if term[0] in "+-~?" else "+"


def _network(text: str, term: str) -> _Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Broken(f'"{term}" cannot be read') from None


def _within(addresses: frozenset[Address], networks: list[_Network]) -> frozenset[Address]:
    return frozenset(address for address in addresses if any(address in network for network in networks))
