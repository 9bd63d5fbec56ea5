"""A HashiCorp Vault of ours, as far as its documentation describes what keyrelay asks of it.

with VaultDouble(tmp_path) as vault:
    vault.put("secret/smtp", {"password": "..."})  # KV version 2; "kv/..." is version 1
    ...  # fetch from vault.url with vault.means()
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from double import Answered, Asked, Double, says

from canary import new_canary
from keyrelay.pam.backend import Means

ROOT = "hvs.RootTokenOfTheDouble-Qk7Zx9"
ROLE_ID = "59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8"
SECRET_ID = "84896a0c-1347-aa90-a4f6-aca8b7558780"
ROLE = "keyrelay"
CREATED = "2026-03-22T02:24:06.945319214Z"
ENGINES = {"secret": 2, "kv": 1}


@dataclass(frozen=True)
class Issued:
    """A token. ``rights``: what it may read, by the first part of the path. ``seconds`` 0: it does not end."""

    seconds: int = 0
    renewable: bool = False
    rights: tuple[str, ...] = ("secret", "kv", "database", "auth")
    default_policy: bool = True  # may look itself up, and renew itself


@dataclass
class Version:
    value: dict[str, Any] | None
    destroyed: bool = False


@dataclass
class VaultDouble:
    """``issues``: what a sign-in gives; ``renews``: seconds that each renewal gives, None refuses.

    ``says_invalid``: whether a dead token is called invalid, as since Vault 1.17. ``namespace``: where all of this
    is. ``trouble``: what every request is answered, in place of the vault. ``issued``: the tokens it gave, in order.
    """

    directory: Path
    issues: Issued = field(default_factory=lambda: Issued(seconds=1200, renewable=True))
    renews: int | None = 1200
    says_invalid: bool = True
    namespace: str | None = None
    trouble: Answered | None = None
    wait: float = 0.0

    def __post_init__(self) -> None:
        self.tokens: dict[str, Issued] = {ROOT: Issued()}
        self.secrets: dict[str, Version] = {}
        self.service_accounts: set[str] = set()
        self.issued: list[str] = []
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._http = Double(self.directory, self._answer)

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._http.__exit__(*problem)

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def authority(self) -> Path:
        return self._http.authority

    def means(self, **more: Any) -> Means:
        return self._http.means(**more)

    def put(self, path: str, value: dict[str, Any] | None, *, destroyed: bool = False) -> None:
        """``path`` is mount and name; None and ``destroyed`` are a deleted version."""
        self.secrets[path] = Version(value, destroyed)

    def service_account(self, *, subject: str = "system:serviceaccount:mail:keyrelay") -> str:
        """A JWT that may sign in."""
        parts = [{"alg": "RS256", "kid": "k"}, {"sub": subject, "aud": ["vault"]}]
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        made = ".".join([*encoded, f"c2lnbmF0dXJl{next(self._numbers)}"])
        self.service_accounts.add(made)
        return made

    def revoke_all(self) -> None:
        self.tokens.clear()

    def asked(self, part: str = "") -> list[Asked]:
        """The requests whose path has this in it."""
        return [one for one in self._http.asked if part in one.path]

    @property
    def sign_ins(self) -> int:
        return len(self.asked("/login"))

    def _answer(self, asked: Asked) -> Answered:
        if self.trouble is not None:
            return self.trouble
        assert urlsplit(asked.target).query == "", "nothing is asked for in a query"
        assert asked.headers.get("x-vault-request") == "true"
        assert (self.namespace is None) or "x-vault-namespace" in asked.headers
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["accept"] == "application/json"
        if asked.headers.get("x-vault-namespace") != self.namespace:
            return refused(403, "permission denied")
        with self._lock:
            answer = self._routed(asked, [unquote(part) for part in asked.path.split("/")[1:]])
        return replace(answer, wait=self.wait)

    def _routed(self, asked: Asked, parts: list[str]) -> Answered:
        assert parts[0] == "v1", asked.path
        match parts[1:]:
            case ["auth", "approle", "login"]:
                return self._app_role(asked)
            case ["auth", "kubernetes", "login"]:
                return self._kubernetes(asked)
            case ["auth", _, "login"] if asked.method == "POST":
                return refused(403, "permission denied")
            case ["auth", "token", "lookup-self"]:
                return self._look_up(asked)
            case ["auth", "token", "renew-self"]:
                return self._renew(asked)
            case [mount, *rest]:
                return self._read(asked, mount, rest)
        raise AssertionError(asked.path)

    def _token(self, asked: Asked, right: str | None = None) -> Issued | Answered:
        named = asked.headers.get("x-vault-token")
        assert named, "a token is needed here"
        issued = self.tokens.get(named)
        if issued is None:
            return (
                refused(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
                if (self.says_invalid)
                else refused(403, "permission denied")
            )
        if not (issued.default_policy if right is None else right in issued.rights):
            return refused(403, "1 error occurred:\n\t* permission denied\n\n")
        return issued

    def _read(self, asked: Asked, mount: str, rest: list[str]) -> Answered:
        assert asked.method == "GET"
        assert asked.body == b""
        issued = self._token(asked, mount)
        if isinstance(issued, Answered):
            return issued
        if mount == "database" and rest[:1] == ["creds"]:
            return whole({"username": "u", "password": "p"}, lease_id="database/creds/x/1", seconds=3600)
        version = ENGINES.get(mount)
        if version is None or not rest[-1]:
            return refused(404, f'no handler for route "{mount}". route entry not found.')
        if version == 2 and rest[:1] != ["data"]:
            return whole(None, status=404, warnings=["Invalid path for a versioned K/V secrets engine."])
        found = self.secrets.get("/".join([mount, *(rest[1:] if version == 2 else rest)]))
        return refused(404) if found is None else self._shown(found, version)

    def _shown(self, found: Version, version: int) -> Answered:
        if version == 1:
            return whole(found.value or {}, seconds=2764800)
        gone = found.value is None
        facts = {
            "created_time": CREATED,
            "custom_metadata": None,
            "deletion_time": CREATED if gone and not found.destroyed else "",
            "destroyed": found.destroyed,
            "version": 2,
        }
        return whole({"data": found.value, "metadata": facts}, status=404 if gone else 200)

    def _app_role(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert "x-vault-token" not in asked.headers
        assert set(asked.document) == {"role_id", "secret_id"}
        if asked.document != {"role_id": ROLE_ID, "secret_id": SECRET_ID}:
            return refused(400, "invalid role or secret ID")
        return self._issue()

    def _kubernetes(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert "x-vault-token" not in asked.headers
        assert set(asked.document) == {"role", "jwt"}
        if asked.document["role"] != ROLE:
            return refused(400, f'invalid role name "{asked.document["role"]}"')
        if asked.document["jwt"] not in self.service_accounts:
            return refused(403, "permission denied")
        return self._issue()

    def _issue(self) -> Answered:
        named = "hvs." + new_canary()
        self.tokens[named] = self.issues
        self.issued.append(named)
        return auth(named, self.issues.seconds, renewable=self.issues.renewable)

    def _look_up(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        issued = self._token(asked)
        if isinstance(issued, Answered):
            return issued
        named = asked.headers["x-vault-token"]
        facts = {"id": named, "ttl": issued.seconds, "renewable": issued.renewable, "type": "service", "num_uses": 0}
        return whole(facts)

    def _renew(self, asked: Asked) -> Answered:
        assert asked.method == "POST"
        assert asked.document == {}
        issued = self._token(asked)
        if isinstance(issued, Answered):
            return issued
        if self.renews is None or not issued.renewable:
            return refused(400, "invalid lease ID")
        return auth(asked.headers["x-vault-token"], self.renews, renewable=True)


def whole(
    data: dict[str, Any] | None,
    *,
    status: int = 200,
    lease_id: str = "",
    seconds: int = 0,
    warnings: list[str] | None = None,
) -> Answered:
    """An answer with data, with all the members that the product gives it."""
    return says(
        {
            "request_id": "f0185257-af7d-f550-2d9a-ada457a70e17",
            "lease_id": lease_id,
            "renewable": bool(lease_id),
            "lease_duration": seconds,
            "data": data,
            "wrap_info": None,
            "warnings": warnings,
            "auth": None,
            "mount_type": "kv" if status == 200 and not lease_id else "",
        },
        status,
    )


def auth(token: str, seconds: int, *, renewable: bool) -> Answered:
    given = {
        "client_token": token,
        "accessor": "B6oixijqmeR4bsLOJH88Ska9",
        "policies": ["default", "mail"],
        "token_policies": ["default", "mail"],
        "metadata": None,
        "lease_duration": seconds,
        "renewable": renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": True,
        "mfa_requirement": None,
    }
    return says(
        {"auth": given, "data": None, "lease_duration": 0, "renewable": False, "lease_id": "", "warnings": None}
    )


def refused(status: int, *errors: str) -> Answered:
    return says({"errors": list(errors)}, status)
