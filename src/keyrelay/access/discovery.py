"""Asking an identity provider for its keys (OpenID Connect Discovery 1.0 section 4, RFC 7517): bounded and verified."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyrelay import setting_values
from keyrelay.aside import aside
from keyrelay.errors import IdentityProviderUnusable
from keyrelay.network.exchange import HttpRequest, NoAnswer, exchange
from keyrelay.network.trust import Trust

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


class NoKeys(Exception):
    """The keys of an identity provider cannot be had. ``why`` is a sentence about what it answered."""

    def __init__(self, why: str, remedy: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


async def keys_of(authority: str, context: ssl.SSLContext) -> tuple[PublicKey, ...]:
    """The keys that the provider signs with now. Raises NoKeys.

    No redirect is followed, and what it refers to is asked as safely as itself.
    """
    from keyrelay.access.signatures import usable

    configuration = await _members("The discovery document", authority.rstrip("/") + _WELL_KNOWN, context)
    issuer, where = configuration.get("issuer"), configuration.get("jwks_uri")
    if issuer != authority:
        said = repr(issuer[:200]) if isinstance(issuer, str) else "none"
        raise NoKeys(
            f"The discovery document names the issuer {said}, and not {authority!r}.",
            "Give the authority exactly as the provider names itself, to the last slash.",
        )
    if not isinstance(where, str) or not where:
        raise NoKeys("The discovery document has no jwks_uri, so its keys cannot be found.")
    try:
        setting_values.authority(where.partition("?")[0])
        plain = where.startswith("http:") and authority.startswith("https:")
    except ValueError:
        plain = True
    if plain or not re.fullmatch(r"[!-~]{1,2048}", where):
        raise NoKeys("The jwks_uri of the discovery document is no URL that begins with https://.")
    keys = (await _members("The key set", where, context)).get("keys")
    if not isinstance(keys, list):
        raise NoKeys("The key set has no list of keys.")
    return usable(keys)


async def signing_keys(authority: str, bundle: Path | None) -> int:
    """How many keys the provider signs with, to see whether it can be used. ``bundle``: authorities to trust besides.

    Raises IdentityProviderUnusable, or TrustUnusable.
    """
    try:
        keys = await keys_of(authority, await aside(Trust(authorities=bundle).for_http))
    except NoKeys as problem:
        raise IdentityProviderUnusable(problem.why, remedy=problem.remedy) from None
    if not keys:
        raise IdentityProviderUnusable("The key set has no key that tokens can be checked with.")
    return len(keys)


async def _members(what: str, url: str, context: ssl.SSLContext) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_SECONDS + 1):
            answer = await exchange(HttpRequest("GET", url, _HEADERS), context, within=_SECONDS, limit=_LONGEST)
    except TimeoutError:
        raise NoKeys(f"{what} cannot be had from {url}: there was no answer in time.") from None
    except NoAnswer as problem:
        words, remedy = _WORDS[problem.kind]
        raise NoKeys(f"{what} cannot be had from {url}: {words}.", remedy) from None
    if 300 <= answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise NoKeys(f"{what} is elsewhere: {url} redirects, which is not followed.", "Give the address that it has.")
    if answer.status != _OK:
        raise NoKeys(f"{what} cannot be had: {url} answers {answer.status}.")
    if answer.body is None:
        raise NoKeys(f"{what} at {url} has more than {_LONGEST // 1024} KiB.")
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NoKeys(f"{what} at {url} is no JSON object.")
    return value
