"""What a token whose signature is right says: whether it is for us and now, and whom it is about (RFC 7519)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from keyrelay.access.admission import TokenRefused
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity_provider import IdentityProvider

_SKEW = 60.0  # seconds that clocks may differ by
_LONGEST_NAME = 256
_LONGEST_VALUE = 512  # of a claim that a role can have (contract 7.2)

Claims = Mapping[str, Any]


def end_of(claims: Claims, now: float) -> float:
    """When a token ends that has begun and has not ended yet, in seconds since 1970. Raises TokenRefused."""
    end, start, issued = (_moment(claims, name) for name in ("exp", "nbf", "iat"))
    if end is None:
        raise TokenRefused("claims")
    if now >= end + _SKEW:
        raise TokenRefused("expired")
    if max(start or 0.0, issued or 0.0) > now + _SKEW:
        raise TokenRefused("not yet valid")
    return end


def is_for(claims: Claims, audience: str) -> bool:
    given = claims.get("aud")
    return given == audience if isinstance(given, str) else isinstance(given, list) and audience in given


def name_of(claims: Claims, provider: IdentityProvider) -> str:
    """What the provider calls whom the token is about. Raises TokenRefused when that can be shown to nobody."""
    name = next(_texts(claims, provider.names.name), "")
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise TokenRefused("no name")
    return name


def stated(claims: Claims, provider: IdentityProvider, name: str) -> frozenset[Claim]:
    """What the provider states of whom the token is about, as claims that roles can have."""
    names = provider.names
    single = {
        ClaimType.OAUTH_SUBJECT: names.subject,
        ClaimType.OAUTH_CLIENT_ID: names.client_id,
        ClaimType.OAUTH_OID: names.oid,
    }
    found = [(ClaimType.USER, name)]
    found += [(kind, value) for kind, where in single.items() for value in [next(_texts(claims, where), None)] if value]
    found += [(ClaimType.OAUTH_ROLE, value) for value in _lists(claims, names.roles)]
    found += [(ClaimType.GROUP, value) for value in _lists(claims, names.groups)]
    return frozenset(Claim(kind, value, provider.scheme) for kind, value in found if len(value) <= _LONGEST_VALUE)


def _moment(claims: Claims, name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2)."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused("claims")
    try:
        return float(value)
    except OverflowError:
        raise TokenRefused("claims") from None


def _texts(claims: Claims, names: Collection[str]) -> Iterator[str]:
    for name in names:
        value = _value(claims, name)
        if isinstance(value, str) and value:
            yield value


def _lists(claims: Claims, names: Collection[str]) -> Iterator[str]:
    """The texts that stand in lists of these names, or alone."""
    for name in names:
        value = _value(claims, name)
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each)


def _value(claims: Claims, name: str) -> Any:
    """A claim by its name, which may hold dots itself as URLs do, or by the way that leads to it."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
