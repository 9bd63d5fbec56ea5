"""A HashiCorp Vault of the simplest kind, for tests of what stands above the back ends."""

from __future__ import annotations

from pathlib import Path

from canary import new_canary
from pam.double import Answered, Asked, Double, says

TYPE = "Hashicorp-Vault"
_FACTS = {"version": 1, "created_time": "2026-03-22T02:24:06.945319214Z", "deletion_time": "", "destroyed": False}


class SimpleVault(Double):
    """``secrets``: the value of ``key``, by path. ``trouble``: what is answered in place of all of them."""

    def __init__(self, directory: Path, key: str = "value") -> None:
        super().__init__(directory, self._answer)
        self._key = key
        self.token = new_canary()
        self.secrets: dict[str, str] = {}
        self.trouble: Answered | None = None

    @property
    def values(self) -> dict[str, str]:
        """The provider-level values of a provider for it."""
        return {"Host": self.url, "Path": "v1/secret/data", "Token": self.token}

    def _answer(self, asked: Asked) -> Answered:
        assert asked.method == "GET"
        if asked.headers.get("x-vault-token") != self.token:
            return says({"errors": ["permission denied"]}, 403)
        if asked.path == "/v1/auth/token/lookup-self":
            return says({"data": {"ttl": 0, "renewable": False, "type": "service"}})
        if self.trouble is not None:
            return self.trouble
        value = self.secrets.get(asked.path.removeprefix("/v1/secret/data/"))
        if value is None:
            return says({"errors": []}, 404)
        return says({"data": {"data": {self._key: value}, "metadata": _FACTS}})
