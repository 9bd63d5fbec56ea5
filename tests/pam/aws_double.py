"""AWS Secrets Manager as its documentation has it, and strict about it: every signature is worked out anew."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from double import Answered, Asked, says

REGION = "eu-central-1"
KEYS = {"AKIDOFTHEPROVIDER00": "provider/secret+canary=key0"}
CHAIN_KEYS = {"AKIDOFTHEMACHINE000": "machine/secret+canary=key00"}


def failure(name: str, status: int = 400) -> Answered:
    return says({"__type": name, "message": "words of theirs", "Message": "words of theirs"}, status)


def signature(asked: Asked, secret_key: str, signed: str, at: str) -> str:
    """Signature Version 4 of a request ("Create a signed AWS API request")."""
    headers = "".join(f"{name}:{asked.headers[name].strip()}\n" for name in signed.split(";"))
    digest = hashlib.sha256(asked.body).hexdigest()
    canonical = f"{asked.method}\n{asked.path}\n\n{headers}\n{signed}\n{digest}"
    scope = f"{at[:8]}/{REGION}/secretsmanager/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


@dataclass
class Aws:
    """``answers`` stand in for those of the next requests."""

    secrets: dict[str, str] = field(default_factory=lambda: {"prod/smtp": '{"password": "geheim \u00e4", "port": 25}'})
    binary: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=lambda: {**KEYS, **CHAIN_KEYS})
    token: str | None = None
    answers: list[Answered] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert asked.target == "/"
        assert asked.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
        assert asked.headers["content-type"] == "application/x-amz-json-1.1"
        refusal = self._refusal(asked)
        with self.lock:
            self.counted[self._key(asked)] += 1
            if self.answers:
                return self.answers.pop(0)
        return refusal or self._answer(asked)

    def _key(self, asked: Asked) -> str:
        return asked.headers["authorization"].partition("Credential=")[2].partition("/")[0]

    def _refusal(self, asked: Asked) -> Answered | None:
        kind, _, rest = asked.headers["authorization"].partition(" ")
        assert kind == "AWS4-HMAC-SHA256"
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        at = asked.headers["x-amz-date"]
        key, _, scope = parts["Credential"].partition("/")
        assert scope == f"{at[:8]}/{REGION}/secretsmanager/aws4_request"
        assert {"host", "x-amz-date", "x-amz-target"} <= set(parts["SignedHeaders"].split(";"))
        age = datetime.now(UTC) - datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        assert abs(age) < timedelta(minutes=15)
        if key not in self.keys:
            return failure("UnrecognizedClientException")
        if not hmac.compare_digest(parts["Signature"], signature(asked, self.keys[key], parts["SignedHeaders"], at)):
            return failure("InvalidSignatureException")
        if asked.headers.get("x-amz-security-token") != (self.token if key in CHAIN_KEYS else None):
            return failure("ExpiredTokenException")
        return None

    def _answer(self, asked: Asked) -> Answered:
        wanted = self._document(asked)
        assert set(wanted) <= {"SecretId", "VersionStage"}
        name = wanted["SecretId"]
        known = name in self.secrets or name in self.binary
        if not known or wanted.get("VersionStage", "AWSCURRENT") != "AWSCURRENT":
            return failure("com.amazonaws.secretsmanager#ResourceNotFoundException")
        told = {"ARN": f"arn:aws:secretsmanager:{REGION}:1:secret:x", "Name": name, "VersionStages": ["AWSCURRENT"]}
        if name in self.binary:
            return says({**told, "SecretBinary": base64.b64encode(self.binary[name]).decode()})
        return says({**told, "SecretString": self.secrets[name]})

    @staticmethod
    def _document(asked: Asked) -> dict[str, str]:
        document = json.loads(asked.body)
        assert isinstance(document, dict)
        return document
