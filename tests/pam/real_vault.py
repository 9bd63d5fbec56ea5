"""A HashiCorp Vault or OpenBao that runs already, for tests to use: named by BAO_ADDR or VAULT_ADDR, with a token."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import ssl
from typing import Any, Self

from keyrelay.pam.asking import Body, ask
from keyrelay.pam.backend import Means

POLICY = 'path "{mount}/*" {{ capabilities = ["read"] }}'


def environment(name: str) -> str | None:
    return os.environ.get(f"BAO_{name}") or os.environ.get(f"VAULT_{name}") or None


def is_there() -> bool:
    return environment("ADDR") is not None and environment("TOKEN") is not None


class RealVault:
    """Mounts of our own in it, which are gone after the ``with`` block. The token must be allowed to make them."""

    def __init__(self) -> None:
        self.url = str(environment("ADDR")).rstrip("/")
        self.token = str(environment("TOKEN"))
        self.namespace = environment("NAMESPACE")
        own = f"keyrelay-test-{secrets.token_hex(8)}"
        self.versioned, self.plain, self.app_role, self.policy = (f"{own}-{kind}" for kind in ("v2", "v1", "role", "p"))
        self.role_id = self.secret_id = ""

    def means(self) -> Means:
        def context() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=environment("CACERT"))

        return Means(context, context, allow_plain_http=True)

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean()

    def put(self, name: str, value: dict[str, Any]) -> None:
        """In both engines."""
        self._do("POST", f"{self.versioned}/data/{name}", {"data": value})
        self._do("POST", f"{self.plain}/{name}", value)

    def delete(self, name: str) -> None:
        self._do("DELETE", f"{self.versioned}/data/{name}")

    def revoke(self) -> None:
        """Let the tokens of all sign-ins die."""
        self._do("POST", f"sys/leases/revoke-prefix/auth/{self.app_role}")

    def _make(self) -> None:
        self._do("POST", f"sys/mounts/{self.versioned}", {"type": "kv", "options": {"version": "2"}})
        self._do("POST", f"sys/mounts/{self.plain}", {"type": "kv", "options": {"version": "1"}})
        rules = "\n".join(POLICY.format(mount=mount) for mount in (self.versioned, self.plain))
        self._do("POST", f"sys/policies/acl/{self.policy}", {"policy": rules})
        self._do("POST", f"sys/auth/{self.app_role}", {"type": "approle"})
        role = f"auth/{self.app_role}/role/mail"
        self._do("POST", role, {"token_policies": [self.policy], "token_ttl": "20m"})
        self.role_id = self._do("GET", f"{role}/role-id")["data"]["role_id"]
        self.secret_id = self._do("POST", f"{role}/secret-id")["data"]["secret_id"]

    def _clean(self) -> None:
        for path in (f"sys/mounts/{self.versioned}", f"sys/mounts/{self.plain}", f"sys/auth/{self.app_role}"):
            self._do("DELETE", path)
        self._do("DELETE", f"sys/policies/acl/{self.policy}")

    def _do(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        headers = [("X-Vault-Token", self.token), ("X-Vault-Request", "true")]
        if self.namespace is not None:
            headers.append(("X-Vault-Namespace", self.namespace))
        asking = ask(
            method,
            f"{self.url}/v1/{path}",
            self.means(),
            headers=headers,
            body=Body() if document is None else Body.of_json(document),
        )
        answer = asyncio.run(asking)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        return json.loads(answer.body) if answer.body else None
