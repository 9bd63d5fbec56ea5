"""The key that a demo's tokens are signed with (RS256), and the look at them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

LIFE_SECONDS = 600
_ALGORITHM = "RS256"


class Signer:
    """Signs for one issuer, with a key that nobody else ever has."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._key = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": _ALGORITHM}, auto_kid=True)

    @property
    def key_set(self) -> Mapping[str, Any]:
        """What is published (RFC 7517)."""
        return KeySet([self._key]).as_dict(private=False)

    def signed(self, audience: str, subject: str, **claims: Any) -> str:
        """A token that lives for LIFE_SECONDS. A claim that is None is left out."""
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "aud": audience,
            "sub": subject,
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "jti": uuid.uuid4().hex,
            **{name: value for name, value in claims.items() if value is not None},
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid}, said, self._key, algorithms=[_ALGORITHM])

    def has_signed(self, token: str, audience: str) -> bool:
        """Whether this is a token of ours for that audience, and still lives."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            return False
        return claims.get("aud") == audience and claims.get("exp", 0) > time.time()
