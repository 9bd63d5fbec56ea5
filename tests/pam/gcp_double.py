"""Google's token endpoint and Secret Manager as their documentation has them, and strict about it."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from double import Answered, Asked, says
from joserfc import jwt
from joserfc.jwk import RSAKey

PROJECT = "keyrelay-tests"
ACCOUNT = "mailer@keyrelay-tests.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_KEY = rsa.generate_private_key(65537, 2048)


def account(url: str, email: str = ACCOUNT) -> dict[str, str]:
    """A service account's key file, whose tokens come from ``url``."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "k1",
        "private_key": _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": email,
        "token_uri": f"{url}/token",
    }


def person(url: str) -> dict[str, str]:
    """The file that gcloud keeps of a person who signed in."""
    return {
        "type": "authorized_user",
        "client_id": "person.apps.example",
        "client_secret": "person~client~secret",
        "refresh_token": "person~refresh~token",
        "quota_project_id": PROJECT,
        "token_uri": f"{url}/token",
    }


def payload(text: str) -> dict[str, Any]:
    content = text.encode()
    return {"data": base64.b64encode(content).decode(), "dataCrc32c": str(_crc32c(content))}


def _crc32c(content: bytes) -> int:
    """Bit by bit, as RFC 3720 section 12.1 describes it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


@dataclass
class Google:
    """``answers`` stand in for those of a part's next requests; ``life`` is that of new tokens, in seconds."""

    secrets: dict[str, str] = field(default_factory=lambda: {"smtp-password": "geheim \u00e4\u20ac"})
    life: int = 3599
    answers: dict[str, list[Answered]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answered:
        with self.lock:
            machine = asked.path == "/" or asked.path.startswith("/computeMetadata/")
            part = "machine" if machine else "token" if asked.path == "/token" else "vault"
            self.counted[part] += 1
            if self.answers.get(part):
                return self.answers[part].pop(0)
            return getattr(self, f"_{part}")(asked)

    def _token(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        form = asked.form
        if form["grant_type"] == "refresh_token":
            assert form["refresh_token"] == "person~refresh~token"
        else:
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            claims = jwt.decode(form["assertion"], RSAKey.import_key(_KEY.public_key()), algorithms=["RS256"]).claims
            assert claims["scope"] == SCOPE
            assert claims["aud"].endswith("/token")
            if claims["iss"] != ACCOUNT:
                return says({"error": "invalid_grant", "error_description": "Invalid grant: account not found"}, 400)
        self.tokens.append(f"ya29.{len(self.tokens)}-tokencanary")
        return says({"access_token": self.tokens[-1], "expires_in": self.life, "token_type": "Bearer"})

    def _machine(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        assert asked.headers["metadata-flavor"] == "Google"
        account = "/computeMetadata/v1/instance/service-accounts/"
        match asked.path.removeprefix(account):
            case "/":
                return Answered(200, b"", {"metadata-flavor": "Google"})
            case "/computeMetadata/v1/project/project-id":
                return Answered(200, PROJECT.encode(), {"content-type": "application/text"})
            case "/computeMetadata/v1/universe/universe-domain":
                return Answered(200, b"googleapis.com", {"content-type": "application/text"})
            case "default/":
                return says({"email": ACCOUNT, "scopes": [SCOPE], "aliases": ["default"]})
        assert asked.path in {f"{account}default/token", f"{account}{ACCOUNT}/token"}, "no such path"
        self.tokens.append(f"ya29.{len(self.tokens)}-tokencanary")
        return says({"access_token": self.tokens[-1], "expires_in": self.life, "token_type": "Bearer"})

    def _vault(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        assert asked.body == b""
        assert "?" not in asked.target
        before, _, rest = asked.path.partition("/secrets/")
        name, _, version = rest.partition("/versions/")
        assert before.startswith("/v1/projects/")
        assert version == "latest:access"
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.tokens or token in self.revoked:
            return failure(401, "UNAUTHENTICATED")
        if before != f"/v1/projects/{PROJECT}":
            return failure(403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED")
        if name not in self.secrets:
            return failure(404, "NOT_FOUND")
        place = f"projects/1/secrets/{name}/versions/7"
        return says({"name": place, "payload": payload(self.secrets[name])})


def failure(code: int, status: str, reason: str | None = None) -> Answered:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return says({"error": {"code": code, "message": "words of theirs", "status": status, "details": details}}, code)


def write(path: Any, info: dict[str, str]) -> str:
    path.write_text(json.dumps(info))
    return str(path)
