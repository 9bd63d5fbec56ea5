"""The cookie of the portal (RFC 6265): the token of a session, for https and loopback, and for no script."""

from __future__ import annotations

from starlette.requests import Request

from keyrelay.api.answers import Header
from keyrelay.secrets.model import SecretText

# The prefix has browsers see to it that no other host, and nobody without TLS, has set it.
NAME = "__Host-keyrelay"
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def session_token(request: Request) -> str | None:
    """The token that a request brings along; None also when there are two, of which one is nobody's."""
    found = []
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == NAME:
                found.append(value)
    return found[0] if len(found) == 1 and found[0] else None


def handed(token: SecretText) -> Header:
    """The header that hands a token over. It ends with the browser; when it ends otherwise, the store knows."""
    return b"set-cookie", f"{NAME}={token.reveal()}; {_ATTRIBUTES}".encode()


def taken_back() -> Header:
    """The header that has the browser forget it."""
    return b"set-cookie", f"{NAME}=; Max-Age=0; {_ATTRIBUTES}".encode()
