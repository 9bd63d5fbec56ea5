"""Which DMARC record holds for a domain (RFC 9989, and RFC 7489 before it)."""

from __future__ import annotations

import re

from keyrelay.relay.spf import Ask

_MOST_LABELS = 8  # longer parents are not asked for (section 4.10)
_TAG = re.compile(r"\s*([a-z]+)\s*=\s*([^;]*?)\s*(?:;|$)", re.IGNORECASE)


async def find(domain: str, ask: Ask) -> tuple[str, list[str]]:
    """Whose DMARC records hold for the domain, and those: its own, else its organisation's (section 4.10).

    More than one record is an error of their owner; none is the empty list. Raises what ``ask`` raises.
    """
    owner: str = domain
    records: list[str] = []
    for name in _tree_walk(domain):
        here = [record for record in await ask(f"_dmarc.{name}", "TXT") if _is_dmarc(record)]
        if not here:
            continue
        border = tags(here[0]).get("psd")  # "y": others register names below; "n": an organisation begins
        if border != "y" or not records:
            owner, records = name, here
        if name == domain or border in {"y", "n"}:
            break
    return owner, records


def tags(record: str) -> dict[str, str]:
    """The tags of a record, in lower case."""
    return {name.lower(): value.lower() for name, value in _TAG.findall(record)}


def _is_dmarc(record: str) -> bool:
    return re.match(r"v\s*=\s*DMARC1\s*(;|$)", record) is not None


def _tree_walk(domain: str) -> list[str]:
    """The domain and its parents, as far as receivers ask for them."""
    labels = domain.split(".")
    parents = labels[1:] if len(labels) < _MOST_LABELS else labels[1 - _MOST_LABELS :]
    return [domain, *(".".join(parents[at:]) for at in range(len(parents)))]
