"""The identity provider: OpenID Connect with an authorization code and PKCE, for people who exist in the demo alone.

It speaks http, on loopback only, so that no browser has to be told to trust the demo's authority.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from keyrelay.demo.local_http import here_alone
from keyrelay.demo.rendering import STRICT, STYLE, page
from keyrelay.demo.signing import Signer
from keyrelay.demo.token_server import issued, read_form, refused
from keyrelay.setting_values import is_loopback

CLIENT = "keyrelay-portal"  # a public client: it proves itself by PKCE (RFC 7636)
ADMINISTRATORS, HELPDESK = "administrators", "helpdesk"
_CODE_SECONDS = 120
_MOST_CODES = 1000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in here, without a password: ``roles`` are what this provider says of them."""

    name: str
    full_name: str
    roles: tuple[str, ...]
    may: str

    @property
    def claims(self) -> Mapping[str, Any]:
        return {
            "preferred_username": self.name,
            "name": self.full_name,
            "email": f"{self.name}@demo.example",
            "roles": list(self.roles),
        }


PEOPLE = (
    Person("alice", "Alice Archer", (ADMINISTRATORS,), "may do everything"),
    Person("bob", "Bob Baker", (HELPDESK,), "may see what became of mail"),
)


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a code stands for, until ``ends_at`` on the monotonic clock."""

    person: Person
    redirect_uri: str
    challenge: str
    nonce: str | None
    ends_at: float


def application(signer: Signer) -> Starlette:
    """``signer``: whose issuer is the URL that this is served at."""
    provider = _IdentityProvider(signer)
    routes = [
        Route("/.well-known/openid-configuration", provider.configuration),
        Route("/keys", provider.keys),
        Route("/authorize", provider.authorize),
        Route("/token", provider.token, methods=["POST"]),
        STYLE,
    ]
    return Starlette(routes=routes, middleware=here_alone())


@dataclass(slots=True)
class _IdentityProvider:
    signer: Signer
    codes: dict[str, _Grant] = field(default_factory=dict)

    async def configuration(self, _: Request) -> Response:
        """OpenID Connect Discovery 1.0 section 3."""
        issuer = self.signer.issuer
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/keys",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code"],
                "subject_types_supported": ["public"],
                "scopes_supported": ["openid", "profile", "email"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def keys(self, _: Request) -> Response:
        return JSONResponse(self.signer.key_set)

    async def authorize(self, request: Request) -> Response:
        """The page to sign in on, or the way back once somebody has been chosen (OpenID Connect Core 1.0, 3.1.2)."""
        asked = dict(request.query_params)
        wrong = _wrong(asked)
        if wrong is not None:
            return page("sign_in.html", 400, wrong=wrong, choices=())
        person = next((one for one in PEOPLE if one.name == asked.get("as")), None)
        if person is None:
            choices = [(one, "authorize?" + urlencode(asked | {"as": one.name})) for one in PEOPLE]
            return page("sign_in.html", wrong=None, choices=choices)
        code = self._granted(person, asked)
        answer = {"code": code, "iss": self.signer.issuer} | ({"state": asked["state"]} if "state" in asked else {})
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return RedirectResponse(asked["redirect_uri"] + joint + urlencode(answer), 302, STRICT)

    async def token(self, request: Request) -> Response:
        """A code becomes an ID token, once (OpenID Connect Core 1.0, 3.1.3)."""
        form = await read_form(request)
        if form.get("grant_type") != "authorization_code":
            return refused("unsupported_grant_type", "This server knows authorization_code alone.")
        if form.get("client_id") != CLIENT:
            return refused("invalid_client", "There is no such client.", 401)
        grant = self.codes.pop(form.get("code", ""), None)
        if grant is None or grant.ends_at < time.monotonic():
            return refused("invalid_grant", "The code is unknown, used or too old.")
        if form.get("redirect_uri") != grant.redirect_uri:
            return refused("invalid_grant", "The redirect_uri is not the one that the code was given for.")
        if not hmac.compare_digest(_challenge_of(form.get("code_verifier", "")), grant.challenge):
            return refused("invalid_grant", "The code_verifier does not fit the code_challenge.")
        claims = grant.person.claims
        identity = self.signer.signed(CLIENT, grant.person.name, **claims, nonce=grant.nonce)
        return issued(self.signer.signed(CLIENT, grant.person.name, **claims), id_token=identity)

    def _granted(self, person: Person, asked: Mapping[str, str]) -> str:
        now = time.monotonic()
        self.codes = {code: grant for code, grant in self.codes.items() if grant.ends_at > now}
        while len(self.codes) >= _MOST_CODES:
            self.codes.pop(next(iter(self.codes)))
        code = secrets.token_urlsafe(32)
        redirect_uri, challenge, nonce = asked["redirect_uri"], asked["code_challenge"], asked.get("nonce")
        self.codes[code] = _Grant(person, redirect_uri, challenge, nonce, now + _CODE_SECONDS)
        return code


def _wrong(asked: Mapping[str, str]) -> str | None:
    """What is wrong with a request to sign in. None of it is sent back to where it may have come from."""
    rules = (
        (asked.get("client_id") == CLIENT, f"client_id is not {CLIENT}."),
        (_is_here(asked.get("redirect_uri", "")), "redirect_uri is no URL on this machine."),
        (asked.get("response_type") == "code", "response_type is not code."),
        ("openid" in asked.get("scope", "").split(), "scope does not name openid."),
        (asked.get("code_challenge_method") == "S256", "code_challenge_method is not S256."),
        (bool(_CHALLENGE.fullmatch(asked.get("code_challenge", ""))), "code_challenge is no SHA-256 in base64url."),
    )
    return next((sentence for right, sentence in rules if not right), None)


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and is_loopback(parts.hostname or "") and not parts.fragment
    except ValueError:
        return False


def _challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("utf-8", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
