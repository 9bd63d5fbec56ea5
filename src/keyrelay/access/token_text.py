"""A token as it was sent, taken apart strictly, with nothing of it believed yet (RFC 7515 section 5.2, RFC 8725)."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyrelay.access.admission import TokenRefused

LONGEST = 16 * 1024  # octets
_PARTS = 3
_LONGEST_KEY_ID = 1024
# A JWT for something else, such as a logout, is no token to sign in with (RFC 8725 section 3.11, RFC 9068 section 4).
_TYPES = {"jwt", "at+jwt", "application/at+jwt", "application/jwt"}
# By these names, and by no other: no secret that is shared, and no signature that is none (RFC 8725 section 3.1).
# Ed25519 and Ed448 are what RFC 9864 calls EdDSA by its two curves.
ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"),
    }
)


@dataclass(frozen=True, slots=True)
class Presented:
    """A signed token that nobody has checked. ``key_id`` is only ever compared."""

    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def bearer_token(header: bytes) -> str | None:
    """The token of an Authorization header (RFC 6750 section 2.1); None for another scheme."""
    scheme, _, token = header.partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def take_apart(text: str) -> Presented:
    """Raises TokenRefused. Whatever else its header names, such as keys or where to find some, is not looked at."""
    if len(text) > LONGEST:
        raise TokenRefused("too large")
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise TokenRefused("malformed")
    head, claims, signature = (_octets(part) for part in parts)
    header = _members(head)
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused("algorithm")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("type")
    # Of what must be understood, we understand nothing (RFC 7515 section 4.1.11).
    if "crit" in header or "b64" in header:
        raise TokenRefused("malformed")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= _LONGEST_KEY_ID):
        raise TokenRefused("malformed")
    signed = text.rpartition(".")[0].encode("ascii")
    return Presented(algorithm, key_id, _members(claims), signed, signature)


def _octets(part: str) -> bytes:
    """Base64url without padding, in its one form."""
    try:
        octets = base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused("malformed") from None
    if base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != part:
        raise TokenRefused("malformed")
    return octets


def _members(octets: bytes) -> dict[str, Any]:
    """A JSON object that every reader reads alike: no member stands in it twice, and every number is one."""
    try:
        value = json.loads(
            octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_real
        )
    except (ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    if not isinstance(value, dict):
        raise TokenRefused("malformed")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError
    return members


def _no_number(_: str) -> Any:
    raise ValueError


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number
