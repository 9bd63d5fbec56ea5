"""Asking an identity provider for its keys and endpoints: bounded and verified.

OpenID Connect Discovery 1.0 section 4, RFC 7517.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keyrelay import setting_values
from keyrelay.network.exchange import HttpRequest, NoAnswer, exchange

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.access.signatures import PublicKey

_WELL_KNOWN = "/.well-known/openid-configuration"
_SECONDS = 5.0  # for each of the two answers
_LONGEST = 256 * 1024  # octets of an answer
_HEADERS = (("User-Agent", "keyrelay"), ("Accept", "application/json"), ("Accept-Encoding", "identity"))
_OK = 200
_SEE_BUNDLE = "Name its authority in KEYRELAY_CA_BUNDLE."
# What failed, and what to do about it where that is not plain.
_WORDS: Mapping[str, tuple[str, str | None]] = {
    "name_unknown": ("its name does not exist", None),
    "no_address": ("its name has no address", None),
    "dns_unavailable": ("no name server answered", None),
    "dns_busy": ("too many names wait for an answer", None),
    "refused": ("nobody listens there", None),
    "unreachable": ("there is no route to it", None),
    "forbidden": ("this machine's own rules forbid it", None),
    "timeout": ("there was no answer in time", None),
    "closed": ("it ended the connection", None),
    "not_http": ("what it said is no HTTP", None),
    "not_tls": ("it does not speak TLS", None),
    "expired": ("its certificate has expired", None),
    "not_yet_valid": ("its certificate is not valid yet", None),
    "name_mismatch": ("its certificate is for another name", None),
    "unknown_issuer": ("its certificate is from an authority that is not trusted", _SEE_BUNDLE),
    "self_signed": ("its certificate is self-signed and not trusted", _SEE_BUNDLE),
    "weak": ("its TLS is too weak", None),
    "client_certificate": ("it wants a client certificate, and we have none for it", None),
    "certificate": ("its certificate was refused", None),
    "handshake": ("TLS failed", None),
}


class NotDiscovered(Exception):
    """What an identity provider publishes cannot be had. ``why`` is a sentence about what it answered."""

    def __init__(self, why: str, remedy: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


async def keys_of(authority: str, context: ssl.SSLContext) -> tuple[PublicKey, ...]:
    """The keys that the provider signs with now. Raises NotDiscovered.

    No redirect is followed, and what it refers to is asked as safely as itself.
    """
    from keyrelay.access.signatures import usable

    where = endpoint(await configuration(authority, context), "jwks_uri", authority)
    keys = (await _members("The key set", where, context)).get("keys")
    if not isinstance(keys, list):
        raise NotDiscovered("The key set has no list of keys.")
    return usable(keys)


async def configuration(authority: str, context: ssl.SSLContext) -> Mapping[str, Any]:
    """What the provider says of itself; only its name was looked at. Raises NotDiscovered."""
    found = await _members("The discovery document", authority.rstrip("/") + _WELL_KNOWN, context)
    issuer = found.get("issuer")
    if issuer != authority:
        said = repr(issuer[:200]) if isinstance(issuer, str) else "none"
        raise NotDiscovered(
            f"The discovery document names the issuer {said}, and not {authority!r}.",
            "Give the authority exactly as the provider names itself, to the last slash.",
        )
    return found


def endpoint(found: Mapping[str, Any], member: str, authority: str) -> str:
    """An address of the provider, which can be asked as safely as the provider itself. Raises NotDiscovered."""
    where = found.get(member)
    if not isinstance(where, str) or not where:
        raise NotDiscovered(f"The discovery document has no {member}.")
    try:
        setting_values.authority(where.partition("?")[0])
        plain = where.startswith("http:") and authority.startswith("https:")
    except ValueError:
        plain = True
    if plain or not re.fullmatch(r"[!-~]{1,2048}", where):
        raise NotDiscovered(f"The {member} of the discovery document is no URL that begins with https://.")
    return where


async def _members(what: str, url: str, context: ssl.SSLContext) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_SECONDS + 1):
            answer = await exchange(HttpRequest("GET", url, _HEADERS), context, within=_SECONDS, limit=_LONGEST)
    except TimeoutError:
        raise NotDiscovered(f"{what} cannot be had from {url}: there was no answer in time.") from None
    except NoAnswer as problem:
        words, remedy = _WORDS[problem.kind]
        raise NotDiscovered(f"{what} cannot be had from {url}: {words}.", remedy) from None
    if 300 <= answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise NotDiscovered(
            f"{what} is elsewhere: {url} redirects, which is not followed.", "Give the address that it has."
        )
    if answer.status != _OK:
        raise NotDiscovered(f"{what} cannot be had: {url} answers {answer.status}.")
    if answer.body is None:
        raise NotDiscovered(f"{what} at {url} has more than {_LONGEST // 1024} KiB.")
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotDiscovered(f"{what} at {url} is no JSON object.")
    return value
