"""Entra ID and Key Vault as their documentation has them, and strict about it."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from double import Answered, Asked, says

TENANT = "8d5c3a54-9b0e-4c5f-9b7a-0d5f6a0c1e11"
CLIENT = "2f6f2f0a-4d5b-4b1c-8f63-5f6f2d9a7b10"
CLIENT_SECRET = "q~7Q&client=secret+of/tests%"
SCOPE = "https://127.0.0.1/.default"
VERSION = "4387e9f3d6e14c459867679a90fd0f79"


@dataclass
class Azure:
    """``answers`` stand in for those of a path's next requests; ``life`` is that of new tokens, in seconds."""

    secrets: dict[str, str] = field(default_factory=lambda: {"smtp-password": "geheim \u00e4\u20ac"})
    life: int | str | None = 3599
    answers: dict[str, list[Answered]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answered:
        with self.lock:
            part = self._part(asked)
            self.counted[part] += 1
            if self.answers.get(part):
                return self.answers[part].pop(0)
        return getattr(self, f"_{part}")(asked)

    def _part(self, asked: Asked) -> str:
        if asked.path.startswith("/secrets/"):
            return "vault"
        if asked.path.startswith("/metadata/"):
            return "machine"
        if asked.path.endswith("/.well-known/openid-configuration"):
            return "discovery"
        assert asked.path.endswith("/oauth2/v2.0/token"), "no such path"
        return "token"

    def _token(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert "authorization" not in asked.headers
        form = asked.form
        assert form["grant_type"] == "client_credentials"
        assert SCOPE in form["scope"].split()
        if asked.path.split("/")[1] != TENANT:
            return _refusal(400, "invalid_request", "AADSTS90002")
        if form["client_id"] != CLIENT:
            return _refusal(400, "unauthorized_client", "AADSTS700016")
        if form["client_secret"] != CLIENT_SECRET:
            return _refusal(401, "invalid_client", "AADSTS7000215")
        return says({"token_type": "Bearer", "access_token": self._new(), **self._lives()})

    def _discovery(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        base = f"https://{asked.headers['host']}/{TENANT}"
        return says(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            }
        )

    def _machine(self, asked: Asked) -> Answered:
        if asked.headers.get("metadata") != "true":  # the probe of azure-identity
            return says({"error": "invalid_request"}, 400)
        assert asked.query["resource"] == SCOPE.removesuffix("/.default")
        return says({"access_token": self._new(), "expires_in": "3600", "token_type": "Bearer", "resource": "x"})

    def _vault(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        assert asked.query == {"api-version": "7.4"}
        assert asked.body == b""
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.tokens or token in self.revoked:
            return says({"error": {"code": "Unauthorized", "message": f"AKV10000 {token}"}}, 401)
        name, _, version = urlsplit(asked.target).path.removeprefix("/secrets/").partition("/")
        if name not in self.secrets or version not in {"", VERSION}:
            return says({"error": {"code": "SecretNotFound", "message": f"{name} was not found"}}, 404)
        return says({"value": self.secrets[name], "id": f"https://vault/secrets/{name}/{VERSION}", "attributes": {}})

    def _new(self) -> str:
        with self.lock:
            made = base64.urlsafe_b64encode(json.dumps({"no": len(self.tokens)}).encode()).decode()
            self.tokens.append(f"eyJ.{made}.tokencanary")
            return self.tokens[-1]

    def _lives(self) -> dict[str, object]:
        return {} if self.life is None else {"expires_in": self.life}


def _refusal(status: int, error: str, code: str) -> Answered:
    return says({"error": error, "error_description": f"{code}: words of the authority"}, status)
