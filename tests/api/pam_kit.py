"""Types, providers and local entries as the tests of the PAM API make them, and profiles that use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from live import BASIC, OAUTH, V1, LiveServer

PROVIDERS = "/KeyfactorAPI/PamProviders"
TYPES = PROVIDERS + "/Types"
VAULT = "Hashicorp-Vault"
VAULT_VALUES = {"Host": "https://vault.example.org:8200", "Token": "token-1", "Path": "v1/secret/data"}
GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SETTINGS = ("/system_settings/read/", "/system_settings/modify/")


def entries(provider: int) -> str:
    """The path of a local provider's entries."""
    return f"{PROVIDERS}/Local/{provider}/Entries"


def type_named(server: LiveServer, name: str) -> dict[str, Any]:
    """The type as the list of types shows it."""
    (found,) = [kind for kind in server.get(TYPES).raise_for_status().json() if kind["Name"] == name]
    return found


def values(given: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Parameter values, by name."""
    return [{"Value": value, "ProviderTypeParam": {"Name": name}} for name, value in given.items()]


def body(server: LiveServer, name: str, kind: str = "LocalDB", given: Mapping[str, str | None] = {}) -> dict[str, Any]:
    """The body of a POST that makes a provider."""
    chosen = {"Id": type_named(server, kind)["Id"]}
    return {"Name": name, "ProviderType": chosen, "ProviderTypeParamValues": values(given)}


def provider(
    server: LiveServer, name: str = "Local secrets", kind: str = "LocalDB", given: Mapping[str, str | None] = {}
) -> int:
    """Make a provider, and give its id."""
    made = server.post(PROVIDERS, json=body(server, name, kind, given), headers=V1)
    assert made.status_code == 200, made.text
    return int(made.json()["Id"])


def vault(server: LiveServer, name: str = "Vault", **given: str) -> int:
    """Make a provider of a type that has a secret parameter."""
    return provider(server, name, VAULT, {**VAULT_VALUES, **given})


def entry(server: LiveServer, number: int, name: str, secret: str = "entry-secret", **more: Any) -> None:
    """Keep a local entry."""
    made = server.post(entries(number), json={"SecretName": name, "SecretValue": secret, **more}, headers=V1)
    assert made.status_code == 200, made.text


def local(number: int, name: str = "smtp-pass") -> dict[str, Any]:
    """A secret object that refers to a local entry."""
    return {"Provider": number, "Parameters": {"SecretName": name}}


def basic(number: int, **more: Any) -> dict[str, Any]:
    """A profile whose user name and password are local entries."""
    return {**BASIC, "RelayUsername": local(number, "smtp-user"), "RelayPassword": local(number), **more}


def oauth(number: int, **more: Any) -> dict[str, Any]:
    """A profile whose client id and client secret are local entries."""
    return {**OAUTH, "ClientId": local(number, "client"), "ClientSecret": local(number, "client-secret"), **more}
