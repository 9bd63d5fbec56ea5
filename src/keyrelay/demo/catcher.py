"""The catcher: a mail server that asks for sign-in over TLS, takes what comes and keeps the newest of it in memory."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay, Received
from keyrelay.chaos.script import MECHANISMS, Script
from keyrelay.demo.credentials import MAILER, SCOPE, SENDER, Credentials
from keyrelay.demo.signing import Signer

# What mail to these domains gets, so that failures can be tried.
ANSWERS: Mapping[str, str] = {
    "refused.example": "550 5.1.1 there is no such mailbox here",
    "blocked.example": "554 5.7.1 this sender is not welcome",
    "full.example": "452 4.2.2 the mailbox is full",
    "busy.example": "451 4.7.1 greylisted, come back later",
}
LOST = "lost.example"  # the connection ends after the message, before the answer

_MOST_MESSAGES = 500
_MOST_OCTETS = 64 << 20


@dataclass(frozen=True, slots=True)
class Caught:
    """A message in the inbox; ``number`` counts from 1 and is never given again."""

    number: int
    at: datetime
    received: Received


class Inbox:
    """The newest messages, as far as the bounds allow; the oldest go first."""

    def __init__(self, *, messages: int = _MOST_MESSAGES, octets: int = _MOST_OCTETS) -> None:
        self._messages = messages
        self._octets = octets
        self._kept: deque[Caught] = deque()
        self._size = 0
        self.count = 0

    def take(self, received: Received) -> None:
        self.count += 1
        self._kept.append(Caught(self.count, datetime.now(UTC), received))
        self._size += len(received.content)
        while len(self._kept) > self._messages or (self._size > self._octets and len(self._kept) > 1):
            self._size -= len(self._kept.popleft().received.content)

    def newest_first(self) -> list[Caught]:
        return list(reversed(self._kept))

    def message(self, number: int) -> Caught | None:
        return next((caught for caught in self._kept if caught.number == number), None)


def catcher(inbox: Inbox, credentials: Credentials, signer: Signer, certificates: Certificates) -> ChaosRelay:
    """The mail server, not started yet: STARTTLS, then a password or one of the signer's tokens."""

    def admits(user: str, secret: str) -> bool:
        if user == SENDER:
            return signer.has_signed(secret, SCOPE)
        known = credentials.mailer_password.reveal().encode()
        return user == MAILER and hmac.compare_digest(secret.encode(), known)

    script = Script(
        starttls=True,
        auth=MECHANISMS,
        auth_needs_tls=True,
        require_auth=True,
        admits=admits,
        rcpt_replies={f"@{domain}": reply for domain, reply in ANSWERS.items()},
        lost=frozenset({LOST}),
    )
    return ChaosRelay(script, certificates=certificates, keep_messages=False, take=inbox.take)
