"""The cookies of the portal (RFC 6265), for https and loopback alone, and for no script."""

from __future__ import annotations

from starlette.requests import Request

from keyrelay.access.round_trip import LIFE
from keyrelay.api.answers import Header
from keyrelay.secrets.model import SecretText

# The prefix has browsers see to it that no other host, and nobody without TLS, has set it.
NAME = "__Host-keyrelay"
SIGN_IN = "__Host-keyrelay-sign-in"
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def session_token(request: Request) -> str | None:
    """The token that a request brings along; None also when there are two, of which one is nobody's."""
    return cookie_of(request, NAME)


def cookie_of(request: Request, wanted: str) -> str | None:
    """The value of a cookie; None also when there are two of this name."""
    found = []
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == wanted:
                found.append(value)
    return found[0] if len(found) == 1 and found[0] else None


def by_somebody(request: Request) -> bool:
    """Whether a request may be one that somebody makes; False for those of a page's scripts (Fetch Metadata)."""
    return request.headers.get("sec-fetch-dest") != "empty"


def handed(token: SecretText) -> Header:
    """The header that hands a token over. It ends with the browser; when it ends otherwise, the store knows."""
    return b"set-cookie", f"{NAME}={token.reveal()}; {_ATTRIBUTES}".encode()


def taken_back() -> Header:
    """The header that has the browser forget it."""
    return b"set-cookie", f"{NAME}=; Max-Age=0; {_ATTRIBUTES}".encode()


def handed_sign_in(trip: str) -> Header:
    """The header that has the browser remember its way to an identity provider."""
    return b"set-cookie", f"{SIGN_IN}={trip}; Max-Age={LIFE:.0f}; {_ATTRIBUTES}".encode()


def taken_back_sign_in() -> Header:
    """The header that has the browser forget that."""
    return b"set-cookie", f"{SIGN_IN}=; Max-Age=0; {_ATTRIBUTES}".encode()
