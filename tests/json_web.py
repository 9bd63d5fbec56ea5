"""JSON Web Tokens as no library would make them: whatever stands in them, and however they are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from joserfc.jws import JWSRegistry


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def part(members: Any) -> str:
    """A header or claims; text stands as it is."""
    return encoded(members.encode() if isinstance(members, str) else json.dumps(members).encode())


def signed(header: Mapping[str, Any] | str, claims: Mapping[str, Any] | str, key: Any, algorithm: str = "") -> str:
    """Signed by the algorithm that the header names, or by another one."""
    text = f"{part(header)}.{part(claims)}"
    name = algorithm or (header["alg"] if not isinstance(header, str) else json.loads(header)["alg"])
    return f"{text}.{encoded(JWSRegistry.algorithms[name].sign(text.encode(), key))}"


def with_secret(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """Signed with a secret that is shared (HS256), whatever that is."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return f"{part(header)}.{part(claims)}."


def claims_of(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
