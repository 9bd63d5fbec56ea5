"""A look at what DNS says about the sender's domain: SPF, DMARC and MX.

It is advice. Nothing here makes a test fail, and what cannot be found out is "unknown".
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from keyrelay.errors import BadInput
from keyrelay.profile.addresses import envelope_address
from keyrelay.relay import dmarc, spf

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

Topic = Literal["spf", "dmarc", "mx"]
Verdict = Literal["good", "attention", "unknown"]

_SHOWN = 200  # characters of a record
_EDNS_OCTETS = 1232  # fits into one packet everywhere
_PUBLIC_ONLY = "DNS has no public records for {domain}, so there is nothing to look up."
# Names that are resolved inside a network or nowhere (RFC 2606, 6761, 6762, 8375, and usual private ones).
_PRIVATE = re.compile(
    r"(^|\.)(local|localhost|localdomain|internal|intranet|lan|corp|home|private|home\.arpa|test|invalid|example|onion)$"
)


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that DNS says about the sender's domain, in words for the person who runs it.

    ``found`` is the record, shortened and without control characters. ``remedy`` is what to do, if there is anything.
    """

    topic: Topic
    verdict: Verdict
    found: str | None
    sentence: str
    remedy: str | None


async def look(
    sender_account: str,
    relay_addresses: tuple[str, ...],
    *,
    name_servers: tuple[str, ...] | None,
    seconds: float = 3.0,
) -> tuple[Advice, ...]:
    """Look up the domain of the sender, and whether it lets ``relay_addresses`` (IP addresses) send for it.

    ``name_servers``: addresses, with a port where it is not 53 (``127.0.0.1:5353``, ``[::1]:5353``); None for the
    system's, and none at all for no look and no advice. Raises nothing, and ends within ``seconds``.
    """
    if name_servers == ():
        return ()
    domain = _domain(sender_account)
    if domain is None or "." not in domain or _PRIVATE.search(domain.lower()):
        sentence = _PUBLIC_ONLY.format(domain=domain or "the sender's domain")
        return tuple(Advice(topic, "unknown", None, sentence, None) for topic in ("spf", "dmarc", "mx"))
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        ask = _dns(name_servers, seconds)
    except Exception:  # noqa: BLE001 - whatever is wrong with the name servers, it is no failure of the test
        ask = _nobody
    addresses = frozenset(address for text in relay_addresses if (address := _ip(text)))
    return tuple(
        await asyncio.gather(
            _by("spf", deadline, lambda: _spf(domain, addresses, ask)),
            _by("dmarc", deadline, lambda: _dmarc(domain, ask)),
            _by("mx", deadline, lambda: _mx(domain, ask)),
        )
    )


async def _by(topic: Topic, deadline: float, work: Callable[[], Awaitable[Advice]]) -> Advice:
    try:
        async with asyncio.timeout_at(deadline):
            return await work()
    except Exception:  # noqa: BLE001 - advice never fails
        sentence = f"DNS gave no usable answer about {topic.upper()}."
        return Advice(
            topic, "unknown", None, sentence, "Check that this machine's name servers answer, and look again."
        )


def _domain(address: str) -> str | None:
    try:
        domain = envelope_address(address)[0].rpartition("@")[2]
    except BadInput:
        return None
    return None if domain.startswith("[") else domain


def _ip(text: str) -> spf.Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shown(text: str) -> str:
    """A text that came from DNS, fit to be shown."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


# --- SPF (RFC 7208) ------------------------------------------------------------------------------------------


async def _spf(domain: str, addresses: frozenset[spf.Address], ask: spf.Ask) -> Advice:
    records = [record for record in await ask(domain, "TXT") if spf.is_spf(record)]
    found = _shown(" / ".join(records)) or None

    def advice(verdict: Verdict, sentence: str, remedy: str | None) -> Advice:
        return Advice("spf", verdict, found, sentence, remedy)

    if not records:
        return advice(
            "attention",
            f"{domain} has no SPF record, so receivers cannot tell who may send for it.",
            f'Publish a TXT record at {domain} that begins with "v=spf1", names what your mail goes out through, and '
            'ends with "-all". Who runs the relay knows what to put into it.',
        )
    if len(records) > 1:
        return advice(
            "attention",
            f"{domain} has {len(records)} SPF records; receivers then use none of them.",
            "Join them to one.",
        )
    try:
        outcome = await spf.evaluate(records[0], domain, addresses, ask)
    except spf.Broken as broken:
        return advice(
            "attention",
            f"Receivers cannot use the SPF record of {domain}: {_shown(str(broken))}.",
            "Correct the record.",
        )
    if outcome.rest == "+":
        return advice(
            "attention",
            f'The SPF record of {domain} ends with "+all": everybody in the world may send for it.',
            'End it with "-all" or "~all".',
        )
    if outcome.rest in {"?", ""}:
        return advice(
            "attention",
            f"The SPF record of {domain} does not say what to think of other senders.",
            'End it with "-all" or "~all".',
        )
    return advice(*_about_relay(domain, addresses, outcome))


def _about_relay(
    domain: str, addresses: frozenset[spf.Address], outcome: spf.Outcome
) -> tuple[Verdict, str, str | None]:
    if not addresses:
        return "good", f"{domain} has an SPF record; the relay's address is not known, so it was not compared.", None
    if outcome.authorised:
        return "good", f"The SPF record of {domain} lets the relay send for it.", None
    named = " and ".join(sorted(map(str, addresses)))
    sentence = (
        f"The SPF record of {domain} does not name the address that the relay listens on ({named}). That need not be "
        "a fault: a relay often sends from other addresses than it listens on"
    )
    if outcome.unsure:
        sentence += ", and the record has parts that depend on the single message"
    remedy = (
        "Ask who runs the relay which addresses it sends from, or look whether a message that arrived has spf=pass in "
        "its header Authentication-Results."
    )
    return "unknown", sentence + ".", remedy


# --- DMARC (RFC 9989, and RFC 7489 before it) ---------------------------------------------------------

_POLICIES = {
    "none": "asks receivers to treat mail that fails the check like any other",
    "quarantine": "asks receivers to put mail that fails the check into the junk folder",
    "reject": "asks receivers to refuse mail that fails the check",
}


async def _dmarc(domain: str, ask: spf.Ask) -> Advice:
    owner, records = await dmarc.find(domain, ask)
    found = _shown(" / ".join(records)) or None

    def advice(verdict: Verdict, sentence: str, remedy: str | None) -> Advice:
        return Advice("dmarc", verdict, found, sentence, remedy)

    if not records:
        return advice(
            "attention",
            f"{domain} has no DMARC record; large mailbox providers want one from everybody who sends much.",
            f'Publish a TXT record at _dmarc.{domain}; "v=DMARC1; p=none; rua=mailto:ADDRESS" only asks for reports.',
        )
    if len(records) > 1:
        return advice(
            "attention",
            f"_dmarc.{owner} has {len(records)} DMARC records; receivers then use none of them.",
            "Leave one of them.",
        )
    tags = dmarc.tags(records[0])
    policy = tags.get("p", "")
    if owner != domain:
        policy = tags.get("sp", policy)
    if policy not in _POLICIES:
        return advice(
            "attention",
            f"The DMARC record at _dmarc.{owner} has no policy that all receivers know, so some pass it over.",
            "Give it p=none, p=quarantine or p=reject.",
        )
    sentence = f"The DMARC record at _dmarc.{owner} {_POLICIES[policy]}."
    if tags.get("t") == "y":
        sentence += " It says that this is a test, so receivers do less than that."
    if policy == "none":
        return advice("good", sentence, "When its reports show that all your mail passes, raise p to quarantine.")
    return advice("good", sentence + " Mail passes when SPF or DKIM does so for the sender's own domain.", None)


# --- MX (RFC 5321 section 5.1) -------------------------------------------------------------------------------


async def _mx(domain: str, ask: spf.Ask) -> Advice:
    hosts = await ask(domain, "MX")
    found = _shown(", ".join(hosts)) or None
    remedy = f"Give {domain} an MX record, or send from a domain that has one."
    if hosts == (".",):  # RFC 7505
        sentence = f"{domain} says that it takes no mail (null MX): many receivers refuse mail from such a sender."
        return Advice("mx", "attention", found, sentence, remedy)
    if hosts:
        return Advice("mx", "good", found, f"Replies and bounces to {domain} have a way back.", None)
    if await ask(domain, "A") or await ask(domain, "AAAA"):
        sentence = f"{domain} has no MX record. Replies and bounces then go to its own address, if mail is taken there."
        return Advice("mx", "attention", None, sentence, remedy)
    sentence = f"{domain} has neither an MX record nor an address: replies and bounces cannot arrive."
    return Advice("mx", "attention", None, sentence, remedy)


# --- Asking DNS ----------------------------------------------------------------------------------------------


async def _nobody(_name: str, _kind: str) -> tuple[str, ...]:
    raise OSError("there is no name server to ask")


def _dns(name_servers: tuple[str, ...] | None, seconds: float) -> spf.Ask:
    from dns import asyncresolver, exception, nameserver, resolver  # slow to import, and only for this look
    from dns.name import from_text

    asked: Resolver = asyncresolver.Resolver(configure=name_servers is None)
    if name_servers is not None:
        asked.nameservers = [nameserver.Do53Nameserver(*_host_and_port(server)) for server in name_servers]
    asked.use_edns(0, 0, _EDNS_OCTETS)
    asked.lifetime = seconds
    asked.timeout = seconds / 3  # time for another name server when the first is silent

    async def ask(name: str, kind: str) -> tuple[str, ...]:
        try:
            absolute = from_text(name)
        except (exception.DNSException, UnicodeError):
            return ()  # no name, so there is nothing at it
        try:
            answer = await asked.resolve(absolute, kind, search=False)
        except (resolver.NXDOMAIN, resolver.NoAnswer):
            return ()
        return tuple(map(_TEXTS.get(kind, str), answer))

    return ask


# TXT and MX records as text; the type of a record is known only when it is there.
_TEXTS: dict[str, Callable[..., str]] = {
    "TXT": lambda record: b"".join(record.strings).decode("utf-8", "replace"),
    "MX": lambda record: record.exchange.to_text(omit_final_dot=True) or ".",
}


def _host_and_port(server: str) -> tuple[str, int]:
    with_port = re.fullmatch(r"\[(.+)\](?::(\d{1,5}))?|([^:]+):(\d{1,5})", server)
    host, port = (with_port[1] or with_port[3], with_port[2] or with_port[4]) if with_port else (server, None)
    return str(ipaddress.ip_address(host)), int(port or 53)
