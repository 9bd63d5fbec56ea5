"""One request to HashiCorp Vault or OpenBao, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import Body, ask, base_url, clear, header_value, members, path_of, require_success
from keyrelay.pam.backend import Means, Problem, VaultFailed
from keyrelay.secrets.model import SecretText

# HTTP API, "HTTP status codes", and /sys/health. What is not here means what it means everywhere.
_STATES: dict[int, tuple[Problem, str]] = {
    405: ("bad_parameter", "what Path names cannot be read"),
    412: ("sealed", "this node has not caught up with its primary"),
    429: ("sealed", "it is a standby, or a quota is used up"),
    472: ("sealed", "it is a secondary for disaster recovery"),
    473: ("sealed", "it is a performance standby"),
    474: ("sealed", "it is a standby that does not reach the active node"),
    501: ("sealed", "it is not initialised"),
    502: ("sealed", "another service that it needs answers with an error"),
    530: ("sealed", "this node was removed from its cluster"),
}


@dataclass(frozen=True, slots=True)
class Vault:
    """A vault, for one fetch: the URL of its API, the KV engine's path below that, encoded, and the namespace."""

    api: str
    engine: str
    namespace: str | None
    means: Means = field(repr=False)

    @classmethod
    def of(cls, given: Mapping[str, SecretText | str], means: Means) -> Self:
        """``Path`` takes the place of any path in ``Host``. Raises VaultFailed for parameters that cannot be used."""
        host = urlsplit(base_url(clear(given["Host"]), "Host", means))
        path = path_of(clear(given["Path"]), "Path", slashes=True)
        before, found, engine = f"/{path}/".partition("/v1/")  # before it may stand what a proxy wants
        if not found:
            raise VaultFailed("bad_parameter", "Path must begin with v1, as in v1/secret/data")
        namespace = given.get("Namespace")
        return cls(
            f"{host.scheme}://{host.netloc}{before}/v1",
            engine.rstrip("/"),
            None if namespace is None else header_value(namespace, "Namespace"),
            means,
        )

    async def ask(
        self, method: str, path: str, *, token: SecretText | None = None, document: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """The answer, whatever its status. ``path`` is encoded already. Raises VaultFailed when there is none."""
        headers = [("X-Vault-Request", "true")]  # a Vault Proxy may demand it
        if token is not None:
            headers.append(("X-Vault-Token", header_value(token, "Token")))
        if self.namespace is not None:
            headers.append(("X-Vault-Namespace", self.namespace))
        body = Body(kind="application/json") if document is None else Body.of_json(document)
        return await ask(method, f"{self.api}/{path}", self.means, headers=headers, body=body)


def require(answer: HttpAnswer, what: str, meanings: Mapping[int, tuple[Problem, str]] | None = None) -> None:
    """Raises VaultFailed for any status but success, in the words of this product.

    ``meanings``: statuses that mean something else in this place.
    """
    told = errors(answer)
    known = {
        **_STATES,
        503: ("sealed", "it is sealed" if "sealed" in (told or "") else "it is sealed or in maintenance"),
    }
    if told is not None:  # a web server in front of it has such an error too, and tells nothing by it
        known[500] = ("sealed", "it has an internal error, or no active node")
    known |= meanings or {}
    if (meaning := known.get(answer.status)) is not None:
        raise VaultFailed(meaning[0], f"{what}: status {answer.status}, {meaning[1]}")
    require_success(answer, what)


def errors(answer: HttpAnswer) -> str | None:
    """What the vault says is wrong, in lower case, for us to search and for nobody to see; None if it says nothing.

    An empty text is an answer of its own: of a path that exists, and has nothing in it.
    """
    try:
        found = members(answer, "").get("errors")
    except VaultFailed:
        return None
    return " ".join(map(str, found)).lower() if isinstance(found, list) else None
