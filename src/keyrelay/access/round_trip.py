"""A way to an identity provider and back, as the browser that goes it remembers it (docs/decisions/0029).

Everything that has to be the same when it comes back is made of one random seed: so nothing is kept here, and any node
takes it in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

LIFE = 600.0  # seconds
_SKEW = 60.0  # that the clocks of nodes may differ by
_TEXT = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9a-f-]{36})\.(\d{1,12})\.([A-Za-z0-9_-]{0,700})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One of them. ``provider``: its id; ``began_at``: seconds since 1970; ``after``: the page to go to then."""

    provider: str
    after: str
    began_at: int
    seed: str = field(repr=False)

    @classmethod
    def begin(cls, provider: str, after: str, now: float) -> RoundTrip:
        return cls(provider, after, int(now), secrets.token_urlsafe(32))

    @classmethod
    def read(cls, text: str, now: float) -> RoundTrip | None:
        """What ``text`` gave; None for anything else, and when it is over."""
        found = _TEXT.fullmatch(text)
        if found is None or not -_SKEW <= now - int(found[3]) < LIFE:
            return None
        try:
            after = base64.urlsafe_b64decode(found[4] + "=" * (-len(found[4]) % 4)).decode("ascii")
        except ValueError:
            return None
        return cls(found[2], after, int(found[3]), found[1])

    def text(self) -> str:
        """For a cookie; whoever has it can end the trip."""
        after = base64.urlsafe_b64encode(self.after.encode("ascii")).rstrip(b"=").decode()
        return f"{self.seed}.{self.provider}.{self.began_at}.{after}"

    @property
    def state(self) -> str:
        """What the answer has to bring along (RFC 6749 section 10.12)."""
        return self._derived("state")

    def fits(self, state: str) -> bool:
        """Whether an answer with this state belongs to the trip."""
        return hmac.compare_digest(state.encode("utf-8", "replace"), self.state.encode())

    @property
    def nonce(self) -> str:
        """What the ID token has to hold (OpenID Connect Core 1.0 section 3.1.2.1)."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What shows that the code is redeemed by whoever had it made (RFC 7636 section 4.1)."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """The verifier as it is shown beforehand: S256 (RFC 7636 section 4.2)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, purpose: str) -> str:
        return _text(hmac.digest(self.seed.encode(), purpose.encode(), "sha256"))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
