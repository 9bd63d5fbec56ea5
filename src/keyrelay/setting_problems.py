"""What is wrong with settings: each with its variable, and some only beside others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from keyrelay.setting_values import PREFIX, is_loopback


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a variable cannot be used; ``words`` follow its name."""

    name: str
    words: str

    def __str__(self) -> str:
        return f"{self.name} {self.words}"


def contradictions(given: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with settings that each are right."""
    for one, other in (("tls_cert", "tls_key"), ("oidc_authority", "oidc_audience")):
        if (given.get(one) is None) != (given.get(other) is None):
            yield Problem(PREFIX + one.upper(), f"and {PREFIX}{other.upper()} belong together")
    for key, certificate in (("relay_client_key", "relay_client_cert"), ("vault_client_key", "vault_client_cert")):
        if given.get(key) is not None and given.get(certificate) is None:
            yield Problem(PREFIX + key.upper(), f"needs {PREFIX}{certificate.upper()}")
    for one, other in (("oidc_client_id", "oidc_authority"), ("oidc_client_secret", "oidc_client_id")):
        if given.get(one) is not None and given.get(other) is None:
            yield Problem(PREFIX + one.upper(), f"needs {PREFIX}{other.upper()}")
    if given.get("self_signed") and given.get("tls_cert") is not None:
        yield Problem("KEYRELAY_SELF_SIGNED", "and KEYRELAY_TLS_CERT exclude each other")
    endpoint = urlsplit(given.get("otlp_endpoint") or "https:")
    readable = endpoint.scheme == "http" and not is_loopback(endpoint.hostname or "")
    if readable and not given.get("allow_plain_http"):
        yield Problem("KEYRELAY_OTLP_ENDPOINT", "must begin with https:// for another machine than this")
