"""Who signs in where in a demo. Every secret is made at its start, and is nowhere once it has ended."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from keyrelay.access.passwords import make_password
from keyrelay.secrets.model import SecretText

SENDER = "pki@demo.example"
MAILER = "mailer"
CLIENT_ID = "keyrelay-demo"
SCOPE = "smtp.send"
SCHEME = "demo"
USERS = ("auditor", "helpdesk")


def _made() -> SecretText:
    return SecretText(secrets.token_urlsafe(24))


@dataclass(frozen=True, slots=True)
class Credentials:
    """``mailer_password`` is for Basic sign-in at the catcher, ``client_secret`` for tokens; ``users``: by name."""

    mailer_password: SecretText = field(default_factory=_made)
    client_secret: SecretText = field(default_factory=_made)
    vault_token: SecretText = field(default_factory=_made)
    users: dict[str, SecretText] = field(default_factory=lambda: {name: SecretText(make_password()) for name in USERS})
