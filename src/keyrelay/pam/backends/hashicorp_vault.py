"""HashiCorp Vault and OpenBao: secrets of their KV engines, by three ways to sign in."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import members, path_of, secret
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.backends.vault_api import Vault, errors, require
from keyrelay.pam.backends.vault_sign_in import (
    Given,
    Leases,
    SignIn,
    with_app_role,
    with_service_account,
    with_token,
)
from keyrelay.secrets.model import SecretText

_HOST = Parameter("Host", "Vault Host")
_REST = (
    Parameter("Path", "KV Engine Path"),
    Parameter("Namespace", "Vault Namespace", required=False),
    Parameter("Secret", "KV Secret Name", instance=True),
    Parameter("Key", "KV Secret Key", instance=True),
)
# Mounts that every vault has. What they answer looks like a KV secret too, the token itself among it.
_NO_KV_ENGINES = {"auth", "cubbyhole", "identity", "sys"}
_KV_ENGINES = {"kv", "generic"}
_WHAT = "reading the secret"


class _KeyValueSecrets(ABC):
    """Asks for {``Host`` with ``Path`` as its path}/{``Secret``} and takes the member ``Key`` of what is there.

    The newest version of a secret in a KV engine of version 2, where ``Path`` ends in ``data`` (``v1/secret/data``),
    or a secret in one of version 1 (``v1/kv``). Works with HashiCorp Vault 1.0 and later, and with OpenBao 2.0 and
    later; ``Namespace`` with Vault Enterprise, HCP Vault, and OpenBao 2.3 and later.

    Sources: "HTTP API", "KV secrets engine - version 1 (API)", "KV secrets engine - version 2 (API)", /sys/health.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = Leases(clock)

    @abstractmethod
    def _sign_in(self, vault: Vault, given: Given) -> SignIn: ...

    async def fetch(self, wanted: Mapping[str, str], given: Given, means: Means) -> SecretText:
        vault = Vault.of(given, means)
        path = _path(vault.engine, wanted["Secret"])
        sign_in = self._sign_in(vault, given)
        key = self._leases.key(given)
        lease = await self._leases.current(key, vault, sign_in)
        answer = await vault.ask("GET", path, token=lease.token)
        if answer.status in {401, 403} and lease.ours:
            other = await self._leases.instead_of(lease, answer, key, vault, sign_in)
            if other is not None:
                answer = await vault.ask("GET", path, token=other.token)
        return _value(answer, wanted["Key"], doubtful=_is_doubtful(path))


class HashicorpVault(_KeyValueSecrets):
    """Signs in with the token that is given. One that lives for a while only is renewed, each time it is used late
    in its life, as far as the vault allows ("Token auth method (API)", Lookup and Renew a token (self)).
    """  # noqa: D205 - two sentences of one kind

    name: ClassVar[str] = "Hashicorp-Vault"
    parameters: ClassVar[tuple[Parameter, ...]] = (_HOST, Parameter("Token", "Vault Token", secret=True), *_REST)

    def _sign_in(self, vault: Vault, given: Given) -> SignIn:
        return with_token(vault, given)


class HashicorpVaultAppRole(_KeyValueSecrets):
    """Signs in with an AppRole: its role id, and a secret id ("AppRole auth method (API)")."""

    name: ClassVar[str] = "Hashicorp-Vault-AppRole"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _HOST,
        Parameter("RoleId", "AppRole Role ID"),
        Parameter("SecretId", "AppRole Secret ID", secret=True),
        Parameter("AuthPath", "Auth Method Path", required=False, default="approle"),
        *_REST,
    )

    def _sign_in(self, vault: Vault, given: Given) -> SignIn:
        return with_app_role(vault, given)


class HashicorpVaultKubernetes(_KeyValueSecrets):
    """Signs in with the service account of the pod that keyrelay runs in ("Kubernetes auth method (API)").

    Its token is read from ``TokenFile`` below the directory of KEYRELAY_SECRET_FILES, and sent to ``Host`` alone. Give
    it an audience of its own (a projected volume with ``serviceAccountToken.audience``), so that it opens nothing else.
    """

    name: ClassVar[str] = "Hashicorp-Vault-Kubernetes"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        _HOST,
        Parameter("Role", "Kubernetes Auth Role"),
        Parameter("TokenFile", "Service Account Token File below the directory of KEYRELAY_SECRET_FILES"),
        Parameter("AuthPath", "Auth Method Path", required=False, default="kubernetes"),
        *_REST,
    )

    def _sign_in(self, vault: Vault, given: Given) -> SignIn:
        return with_service_account(vault, given)


def _path(engine: str, name: str) -> str:
    """Where the secret is, below the API."""
    path = f"{engine}/{path_of(name, 'Secret', slashes=True)}".lstrip("/")
    if path.split("/")[0] in _NO_KV_ENGINES:
        raise VaultFailed("bad_parameter", "Path names no KV engine")
    return path


def _is_doubtful(path: str) -> bool:
    """Whether this may be the path of no KV engine at all, with namespaces before it."""
    return not _NO_KV_ENGINES.isdisjoint(path.split("/")[1:-1])


def _value(answer: HttpAnswer, key: str, *, doubtful: bool) -> SecretText:
    if answer.status == 404:  # noqa: PLR2004 - Not Found
        raise _not_there(answer)
    denied = "the token is not valid, or no longer" if "invalid token" in (errors(answer) or "") else "no right to it"
    require(answer, _WHAT, {403: ("denied", denied)})
    document = members(answer, _WHAT)
    if document.get("lease_id") or document.get("mount_type") not in {None, "", *_KV_ENGINES}:
        raise VaultFailed("bad_parameter", "Path names no KV engine")
    data = document.get("data")
    if not isinstance(data, dict):
        raise VaultFailed("bad_answer", f"{_WHAT}: the answer has no data")
    held = _of_newest_version(data)
    if doubtful and held is data and not document.get("mount_type"):
        raise VaultFailed(
            "bad_parameter", "Path and Secret may name no KV engine, and the answer does not say it is one"
        )
    if key not in held:
        raise VaultFailed("not_found", "the secret has no such key")
    return secret(held[key], "the key")


def _of_newest_version(data: dict[str, Any]) -> dict[str, Any]:
    """The secret itself. A KV engine of version 2 puts it beside facts about its version, one of version 1 does not."""
    held, facts = data.get("data"), data.get("metadata")
    if isinstance(facts, dict) and {"version", "created_time"} <= set(facts):
        if isinstance(held, dict):
            return held
        if held is None:
            raise VaultFailed("not_found", "the newest version of the secret is deleted")
    return data


def _not_there(answer: HttpAnswer) -> VaultFailed:
    """What a 404 means: with facts about a version, that it is deleted; with an error, that the path is nobody's; with
    a warning, that the path is none of an engine of version 2.
    """  # noqa: D205 - one sentence
    try:
        document = members(answer, _WHAT)
    except VaultFailed:
        return VaultFailed("bad_answer", f"{_WHAT}: status 404, and not from a vault; Host and Path may be wrong")
    data = document.get("data")
    facts = data.get("metadata") if isinstance(data, dict) else None
    if isinstance(facts, dict):
        gone = "destroyed" if facts.get("destroyed") is True else "deleted"
        return VaultFailed("not_found", f"the newest version of the secret is {gone}")
    if errors(answer):
        return VaultFailed("not_found", "no KV engine is there; Path may be wrong")
    if document.get("warnings"):
        return VaultFailed("not_found", "there is no such secret; Path of a KV engine of version 2 must end with data")
    return VaultFailed("not_found", "there is no such secret")
