"""An OpenID Connect provider over real TLS: discovery, keys, and tokens for clients that prove themselves.

with OidcServer(tmp_path) as provider:
    token = provider.token(roles=["Readers"])           # as if somebody had signed in there
    provider.clients["machine"] = "its secret"          # POST provider.url gives tokens to it (RFC 6749 section 4.4)
    provider.rotate()                                   # signs with a new key from now on
    provider.down = True                                # hangs up on everybody
    provider.apps["portal"] = App(server.url + "/portal/signed-in", secret="its secret")
    ...                                                 # and people sign in there: see ``sign_ins.py``
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

import json_web
from sign_ins import App, SignIns
from token_server import Answer, Request, TokenServer, issues, says

AUDIENCE = "api://keyrelay"
DISCOVERY = "/tenant/.well-known/openid-configuration"
KEYS = "/tenant/keys"
AUTHORIZE = "/tenant/authorize"
TOKEN = "/tenant/oauth2/v2.0/token"

Key = RSAKey | ECKey | OKPKey | OctKey


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> RSAKey:
    """The same key whenever the same number is asked for: making one takes longer than most tests."""
    return RSAKey.generate_key(bits, auto_kid=False)


class OidcServer(TokenServer):
    """``published`` maps key ids to keys, and ``signing`` is the id of the one that signs.

    ``answers`` has what is answered at a path in place of what should be.
    """

    _numbers = itertools.count()

    def __init__(self, directory: Path, *, tls: bool = True) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory, tls=tls)
        self.down = False
        self.number = next(self._numbers) % 3
        self.signing = "key-0"
        self.published: dict[str, Key] = {"key-0": rsa_key(self.number)}
        self.answers: dict[str, Answer | Callable[[Request], Answer]] = {}
        self.claims: dict[str, Any] = {}  # beside those that every token has
        self.apps: dict[str, App] = {}
        self.sign_ins = SignIns(self)
        self.answer = self._answered

    @property
    def issuer(self) -> str:
        return self.url.partition("/tenant/")[0] + "/tenant"

    @property
    def looks(self) -> int:
        """How often somebody has asked for the keys."""
        return sum(request.path == KEYS for request in self.requests)

    @property
    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": self.issuer + "/keys",
            "authorization_endpoint": self.issuer + "/authorize",
            "token_endpoint": self.url,
            "token_endpoint_auth_methods_supported": list(self.sign_ins.ways),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": self.sign_ins.names_itself,
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def rotate(self) -> str:
        """Publish a new key beside the others, sign with it from now on, and give its id."""
        new = f"key-{len(self.published)}-{self.signing}"
        self.published[new] = rsa_key(100 + len(self.published))
        self.signing = new
        return new

    def token(
        self,
        *,
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
        **claims: Any,
    ) -> str:
        """A signed token. A header member or a claim that is None is left out."""
        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": self.signing} | dict(header or {})
        said = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "subject-1",
            "iat": now,
            "exp": now + 600,
            "preferred_username": "jo@example.org",
        }
        said |= self.claims | claims
        return json_web.signed(_present(head), _present(said), key or self.published[self.signing])

    def _identified(self, request: Request) -> Request:
        # Those through which people sign in are looked at where the code is.
        found = super()._identified(request)
        return replace(found, refusal=None) if request.form.get("grant_type") == "authorization_code" else found

    def _answered(self, request: Request) -> Answer:
        if self.down:
            return Answer(raw=b"")
        path = request.path.partition("?")[0]
        if (other := self.answers.get(path)) is not None:
            return other(request) if callable(other) else other
        if path == DISCOVERY:
            return says(self.discovery)
        if path == KEYS:
            return says(
                {"keys": [key.as_dict(private=False, kid=kid, use="sig") for kid, key in self.published.items()]}
            )
        if path == AUTHORIZE:
            return self.sign_ins.authorize(request)
        return self._issued(request)

    def _issued(self, request: Request) -> Answer:
        grant = request.form.get("grant_type") if request.method == "POST" else None
        if grant == "authorization_code":
            return self.sign_ins.redeem(request)
        if grant == "client_credentials":
            given = self.token(sub=request.client_id, azp=request.client_id, preferred_username=None)
            return issues(given, expires_in=600)
        return Answer(404)


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
