"""The part of an identity provider that people see: it signs them in, and gives codes that are redeemed once.

It is as strict as a provider may be: what is not registered, not asked for as RFC 6749, RFC 7636 and OpenID
Connect have it, or not proven, is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

from token_server import Answer, Request, redirect, refused, says

if TYPE_CHECKING:
    from oidc_server import OidcServer

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_SECONDS = 60


@dataclass(frozen=True)
class App:
    """A client that people sign in through. Without a secret it is a public one."""

    redirect_uri: str
    secret: str | None = None


@dataclass(frozen=True)
class _Code:
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    made_at: float


@dataclass
class SignIns:
    """``ways``: how clients may show their secret. ``asks``: whether there is a page, on which somebody says yes or no.

    ``names_itself``: whether each answer says whose it is (RFC 9207). ``id_token`` makes the ID token of the
    claims that it should have. ``changes`` is what is put over what a browser brings back.
    """

    provider: OidcServer
    ways: tuple[str, ...] = ("client_secret_basic", "client_secret_post")
    asks: bool = False
    names_itself: bool = True
    id_token: Callable[[dict[str, Any]], str] | None = None
    changes: dict[str, str | None] = field(default_factory=dict)
    codes: dict[str, _Code] = field(default_factory=dict)
    redeemed: list[str] = field(default_factory=list)

    def authorize(self, request: Request) -> Answer:
        pairs = parse_qsl(request.path.partition("?")[2], keep_blank_values=True)
        asked = dict(pairs)
        wrong = self._wrong(asked) if len(asked) == len(pairs) else "twice"
        if wrong:
            return _page(f"<p>{wrong}</p>", 400)
        answer = {"state": asked["state"]} | ({"iss": self.provider.issuer} if self.names_itself else {})
        if asked.get("decided") == "no":
            return self._back(asked, answer | {"error": "access_denied", "error_description": "<b>They said no</b>"})
        if self.asks and "decided" not in asked:
            yes, no = (request.path + "&decided=" + word for word in ("yes", "no"))
            yes, no = yes.replace("&", "&amp;"), no.replace("&", "&amp;")
            return _page(f'<p><a href="{yes}">Go on as Jo</a> <a href="{no}">Cancel</a></p>')
        code = secrets.token_urlsafe(24)
        self.codes[code] = _Code(
            *(asked["client_id"], asked["redirect_uri"], asked["code_challenge"], asked["nonce"], time.time())
        )
        return self._back(asked, answer | {"code": code})

    def redeem(self, request: Request) -> Answer:
        form = request.form
        client_id = request.client_id or form.get("client_id", "")
        app = self.provider.apps.get(client_id)
        if app is None or not self._proven(request, app):
            return refused(401, "invalid_client", "Nobody shall see these words.")
        code = self.codes.pop(form.get("code", ""), None)
        self.redeemed.append(form.get("code", ""))
        if (
            code is None
            or time.time() > code.made_at + _SECONDS
            or (code.client_id, code.redirect_uri) != (client_id, form.get("redirect_uri"))
            or not _VERIFIER.fullmatch(form.get("code_verifier", ""))
            or _challenge(form["code_verifier"]) != code.challenge
        ):
            return refused(400, "invalid_grant", "Nobody shall see these words.")
        claims = {"aud": client_id, "nonce": code.nonce}
        token = self.provider.token(**claims) if self.id_token is None else self.id_token(claims)
        return says({"access_token": "of no interest", "token_type": "Bearer", "expires_in": 60, "id_token": token})

    def _wrong(self, asked: dict[str, str]) -> str:
        app = self.provider.apps.get(asked.get("client_id", ""))
        if app is None:
            return "client"
        right = {
            "redirect_uri": asked.get("redirect_uri") == app.redirect_uri,
            "response_type": asked.get("response_type") == "code",
            "scope": "openid" in asked.get("scope", "").split(),
            "state": len(asked.get("state", "")) >= 22,
            "nonce": len(asked.get("nonce", "")) >= 22 and asked["nonce"] != asked["state"],
            "code_challenge": _CHALLENGE.fullmatch(asked.get("code_challenge", "")) is not None,
            "code_challenge_method": asked.get("code_challenge_method") == "S256",
        }
        return " ".join(name for name, holds in right.items() if not holds)

    def _back(self, asked: dict[str, str], answer: dict[str, str]) -> Answer:
        changed = {name: value for name, value in (answer | self.changes).items() if value is not None}
        return redirect(f"{asked['redirect_uri']}?{urlencode(changed)}", 302)

    def _proven(self, request: Request, app: App) -> bool:
        """In one way alone, which is one of those that are announced; a public client in none."""
        form, basic = request.form, "authorization" in request.headers
        if app.secret is None:
            return not basic and "client_secret" not in form
        if basic:
            given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
            _, _, secret = given.partition(":")
            right = unquote_plus(secret) == app.secret and not {"client_id", "client_secret"} & form.keys()
            return right and "client_secret_basic" in self.ways
        return form.get("client_secret") == app.secret and "client_secret_post" in self.ways


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _page(body: str, status: int = 200) -> Answer:
    head = '<head><title>Provider</title><link rel="icon" href="data:,"></head>'
    html = f'<!doctype html><html lang="en">{head}<body>{body}</body></html>'
    return Answer(status, html.encode(), {"Content-Type": "text/html; charset=utf-8"})
