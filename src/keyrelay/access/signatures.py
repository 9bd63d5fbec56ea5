"""Keys of identity providers (RFC 7517), and what they have signed. The only place that knows the library for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import base64_to_int

from keyrelay.access.token_text import ALGORITHMS

_MOST_KEYS = 100
_LEAST_BITS, _MOST_BITS = 2048, 8192  # of RSA: RFC 7518 section 3.3; larger ones take long to check
_LARGEST_EXPONENT = 2**32
_KINDS: Mapping[str, tuple[type[RSAKey | ECKey | OKPKey], tuple[str, ...]]] = {
    "RSA": (RSAKey, ("n", "e")),
    "EC": (ECKey, ("crv", "x", "y")),
    "OKP": (OKPKey, ("crv", "x")),
}
_SIGNING_CURVES = ("Ed25519", "Ed448")
_ABOUT = ("kid", "use", "alg", "key_ops")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures. ``fingerprint`` is the same for the same key with the same purpose."""

    id: str | None
    fingerprint: str
    key: RSAKey | ECKey | OKPKey = field(repr=False, compare=False)

    def fits(self, algorithm: str) -> bool:
        """Whether the algorithm is one for keys of this kind, and what the key itself says it is for."""
        try:
            JWSRegistry.algorithms[algorithm].check_key(self.key)
            self.key.check_key_op("verify")
        except JoseError:
            return False
        return True

    def has_signed(self, algorithm: str, text: bytes, signature: bytes) -> bool:
        try:
            return JWSRegistry.algorithms[algorithm].verify(text, signature, self.key)
        except (JoseError, ValueError):
            return False


def usable(keys: list[Any]) -> tuple[PublicKey, ...]:
    """The keys of a set that signatures of ours can be checked with. The others are passed over (RFC 7517 section 5).

    Those are secrets that would be shared, keys that are too weak or too large, damaged ones, and those for other uses.
    """
    found = (_usable(members) for members in keys[:_MOST_KEYS])
    return tuple(key for key in found if key is not None)


def _usable(members: Any) -> PublicKey | None:
    if not isinstance(members, dict) or not isinstance(members.get("kty"), str) or members["kty"] not in _KINDS:
        return None
    kind, parameters = _KINDS[members["kty"]]
    # Nothing private is taken over, should a provider publish it.
    public = {name: members[name] for name in ("kty", *parameters, *_ABOUT) if name in members}
    try:
        if kind is RSAKey:
            _check_size(public)
        if kind is OKPKey and public["crv"] not in _SIGNING_CURVES:  # the others only agree on secrets
            return None
        key = kind.import_key(public)
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError):
        return None
    found = PublicKey(key.kid, json.dumps(public, sort_keys=True), key)
    return found if any(found.fits(algorithm) for algorithm in ALGORITHMS) else None


def _check_size(public: Mapping[str, Any]) -> None:
    """Raises ValueError, before anybody computes with it."""
    exponent = base64_to_int(public["e"])
    if not _LEAST_BITS <= base64_to_int(public["n"]).bit_length() <= _MOST_BITS:
        raise ValueError
    if exponent % 2 == 0 or not 1 < exponent < _LARGEST_EXPONENT:
        raise ValueError
