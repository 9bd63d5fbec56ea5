"""``/PamProviders/Types``: what is installed is listed; other names can be registered, and nothing can ask them."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import ClassVar

import pytest
from pam_kit import GUID, PROVIDERS, TYPES, VAULT, basic, provider, type_named, vault

from complaints import complaint
from keyrelay.pam import providers as keeping
from keyrelay.pam.backend import Parameter
from live import BASIC, V1, V2

TYPE_KEYS = ["Id", "Name", "Parameters"]
PARAMETER_KEYS = ["Id", "Name", "DisplayName", "DataType", "InstanceLevel"]
# As kfutil sends them: names of Go's JSON tags, optional members left out.
ONE_PASSWORD = {
    "Name": "1Password-CLI",
    "Parameters": [
        {"Name": "Vault", "DisplayName": "1Password Secret Vault", "DataType": 1, "InstanceLevel": False},
        {"Name": "Token", "DisplayName": "1Password Service Account Token", "DataType": 2, "InstanceLevel": False},
        {"Name": "Item", "DisplayName": "1Password Item Name", "DataType": 1, "InstanceLevel": True},
        {"Name": "Field", "DisplayName": "Field Name on Item", "DataType": 1, "InstanceLevel": True},
    ],
}


@pytest.mark.parametrize("version", [V1, V2])
def test_types_are_listed_by_name_with_their_parameters(module_server, version):
    kinds = module_server.get(TYPES, headers=version).json()
    assert [kind["Name"] for kind in kinds] == sorted((kind["Name"] for kind in kinds), key=str.casefold)
    for kind in kinds:
        assert list(kind) == TYPE_KEYS
        assert re.fullmatch(GUID, kind["Id"])
        assert all(list(parameter) == PARAMETER_KEYS for parameter in kind["Parameters"])
        assert all(parameter["DataType"] in {1, 2} for parameter in kind["Parameters"])
    numbers = [parameter["Id"] for kind in kinds for parameter in kind["Parameters"]]
    assert len(set(numbers)) == len(numbers)


PUBLISHED = {
    "Hashicorp-Vault": (
        [("Host", "Vault Host", 1), ("Token", "Vault Token", 2), ("Path", "KV Engine Path", 1)],
        [("Secret", "KV Secret Name", 1), ("Key", "KV Secret Key", 1)],
    ),
    "CyberArk-CentralCredentialProvider": (
        [("AppId", "Application ID", 1), ("Host", "CyberArk Host and Port", 1), ("Site", "CyberArk API Site", 1)],
        [("Safe", "Safe", 1), ("Folder", "Folder", 1), ("Object", "Object", 1)],
    ),
    "Delinea-SecretServer": (
        [
            ("Host", "Secret Server URL", 1),
            ("Username", "Secret Server Username", 2),
            ("Password", "Secret Server Password", 2),
        ],
        [("SecretId", "Secret ID", 1), ("SecretFieldName", "Secret Field Name", 1)],
    ),
    "Azure-KeyVault": (
        [("KeyVaultUri", "Key Vault URI", 1), ("AuthorityHost", "Authority Host", 1)],
        [("SecretId", "Secret ID", 1)],
    ),
    "Azure-KeyVault-ServicePrincipal": (
        [
            ("KeyVaultUri", "Key Vault URI", 1),
            ("AuthorityHost", "Authority Host", 1),
            ("TenantId", "Tenant ID", 1),
            ("ClientId", "Client ID", 1),
            ("ClientSecret", "ClientSecret", 2),
        ],
        [("SecretId", "Secret ID", 1)],
    ),
    "Akeyless": (
        [
            ("Url", "Akeyless URL", 1),
            ("AccessId", "Access ID", 2),
            ("AccessKey", "Access Key", 2),
            ("AuthType", "Auth Type", 1),
        ],
        [
            ("SecretName", "Secret Name", 1),
            ("SecretType", "Secret Type", 1),
            ("StaticSecretFieldName", "Static Secret Field Name", 1),
        ],
    ),
    "BeyondTrust-PasswordSafe": (
        [
            ("Host", "BeyondTrust Host", 1),
            ("APIKey", "BeyondTrust API Key", 2),
            ("Username", "BeyondTrust Username", 1),
        ],
        [("SystemId", "BeyondTrust System ID", 1), ("AccountId", "BeyondTrust Account ID", 1)],
    ),
    "GCP-SecretManager": (
        [("projectId", "Unique Google Cloud Project ID", 1)],
        [("secretId", "Secret Name", 1)],
    ),
    "LocalDB": ([], [("SecretName", "Secret name", 1)]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_types_have_the_published_parameters(module_server, name):
    kind = type_named(module_server, name)
    for published, instance in zip(PUBLISHED[name], (False, True), strict=True):
        has = {
            (parameter["Name"], parameter["DisplayName"], parameter["DataType"])
            for parameter in kind["Parameters"]
            if parameter["InstanceLevel"] is instance
        }
        assert set(published) <= has


def test_ids_of_installed_types_are_the_same_on_every_server(module_server, server):
    mine, theirs = ({kind["Name"]: kind["Id"] for kind in each.get(TYPES).json()} for each in (module_server, server))
    assert {name: mine[name] for name in theirs} == theirs


@pytest.mark.parametrize("spell", [str, str.upper, str.lower])
def test_posting_an_installed_type_gives_that_one_back(server, spell):
    before = server.get(TYPES).content
    sent = {"Name": spell(VAULT), "Parameters": [{"Name": "Anything", "DataType": 2}], "Description": "ignored"}
    for version in (V1, V2):
        answer = server.post(TYPES, json=sent, headers=version)
        assert (answer.status_code, answer.json()) == (200, type_named(server, VAULT))
    assert server.get(TYPES).content == before


def test_a_name_that_nothing_here_can_ask_is_registered(server):
    made = server.post(TYPES, json=ONE_PASSWORD, headers=V1)
    assert made.status_code == 200
    kind = made.json()
    assert list(kind) == TYPE_KEYS
    assert re.fullmatch(GUID, kind["Id"])
    assert [{key: one[key] for key in PARAMETER_KEYS[1:]} for one in kind["Parameters"]] == ONE_PASSWORD["Parameters"]
    assert type_named(server, "1Password-CLI") == kind
    again = server.post(TYPES, json=ONE_PASSWORD, headers=V2)
    assert again.json() == kind
    other = {**ONE_PASSWORD, "Parameters": ONE_PASSWORD["Parameters"][1:]}
    assert "1Password-CLI" in complaint(server.post(TYPES, json=other), 400)
    assert type_named(server, "1Password-CLI") == kind


def test_a_provider_of_a_registered_type_is_kept_and_cannot_be_used_in_the_profile(server):
    server.post(TYPES, json=ONE_PASSWORD).raise_for_status()
    number = provider(server, "One", "1Password-CLI", {"Vault": "mail", "Token": "token-of-one"})
    shown = server.get(f"{PROVIDERS}/{number}").json()
    assert [value["Value"] for value in shown["ProviderTypeParamValues"]] == ["mail", None]
    used = {**BASIC, "RelayPassword": {"Provider": number, "Parameters": {"Item": "smtp", "Field": "password"}}}
    message = complaint(server.put_v2(used), 400)
    assert "RelayPassword" in message
    assert "1Password-CLI" in message
    assert server.get_v2()["Host"] is None


def test_a_parameter_without_a_display_name_or_type_is_a_text_named_as_it_is(server):
    made = server.post(TYPES, json={"name": "Plain", "parameters": [{"name": "a"}, {"name": "A", "dataType": "2"}]})
    first, second = made.json()["Parameters"]
    assert {key: first[key] for key in PARAMETER_KEYS[1:]} == {
        "Name": "a",
        "DisplayName": "a",
        "DataType": 1,
        "InstanceLevel": False,
    }
    assert (second["Name"], second["DataType"]) == ("A", 2)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "Name is required"),
        ({"Name": ""}, "Name is required"),
        ({"Name": "  "}, "Name is required"),
        ({"Name": "x" * 256}, "255"),
        ({"Name": "a\nb"}, "control character"),
        ({"Name": "a\ud800b"}, "control character"),
        ({"Name": 5}, "must be text"),
        ({"Name": "x", "Parameters": {}}, "list of objects"),
        ({"Name": "x", "Parameters": [1]}, "list of objects"),
        ({"Name": "x", "Parameters": [{}]}, "Name of a parameter is required"),
        ({"Name": "x", "Parameters": [{"Name": "a"}, {"Name": "a"}]}, "more than once"),
        ({"Name": "x", "Parameters": [{"Name": "a", "name": "b"}]}, "more than once"),
        ({"Name": "x", "Parameters": [{"Name": "a", "DataType": 3}]}, "DataType must be 1"),
        ({"Name": "x", "Parameters": [{"Name": "a", "DataType": -1}]}, "DataType must be 1"),
        ({"Name": "x", "Parameters": [{"Name": "a", "InstanceLevel": "perhaps"}]}, "InstanceLevel must be true"),
        ({"Name": "x", "Parameters": [{"Name": "a", "DisplayName": "\x7f"}]}, "control character"),
        ({"Name": "x", "Parameters": [{"Name": str(n)} for n in range(65)]}, "64"),
        ({"Name": "x", "Parameters": [{"Name": str(n)} for n in range(201)]}, "200"),
        ({"Name": "x", "NAME": "y"}, "more than once"),
    ],
)
def test_what_cannot_be_a_type_is_refused_and_nothing_is_registered(module_server, sent, said):
    before = module_server.get(TYPES).content
    headers = {**V1, "content-type": "application/json"}
    assert said in complaint(module_server.post(TYPES, content=json.dumps(sent), headers=headers), 400)
    assert module_server.get(TYPES).content == before


def test_the_types_of_a_provider_are_a_list_of_one_in_version_2_only(server):
    number = vault(server)
    answer = server.get(f"{TYPES}/{number}", headers=V2)
    assert answer.json() == [type_named(server, VAULT)]
    old = server.get(f"{TYPES}/{number}", headers=V1)
    assert "2.0" in complaint(old, 400)
    assert old.headers["api-supported-versions"] == "2.0"
    for unknown in (number + 1, 0, 2**31, type_named(server, VAULT)["Id"]):
        complaint(server.get(f"{TYPES}/{unknown}", headers=V2), 404)


def test_deleting_a_type_exists_in_version_1_only(module_server):
    number = type_named(module_server, VAULT)["Id"]
    assert "1.0" in complaint(module_server.request("DELETE", f"{TYPES}/{number}", headers=V2), 400)


@pytest.mark.parametrize("spell", [str, str.upper])
def test_a_registered_type_is_gone_after_delete_and_gets_another_id_when_it_comes_back(server, spell):
    first = server.post(TYPES, json=ONE_PASSWORD).json()
    gone = server.request("DELETE", f"{TYPES}/{spell(first['Id'])}", headers=V1)
    assert (gone.status_code, gone.content) == (204, b"")
    assert "1Password-CLI" not in server.get(TYPES).text
    complaint(server.request("DELETE", f"{TYPES}/{first['Id']}"), 404)
    second = server.post(TYPES, json=ONE_PASSWORD).json()
    assert second["Id"] != first["Id"]
    ids = [{parameter["Id"] for parameter in kind["Parameters"]} for kind in (first, second)]
    assert ids[0].isdisjoint(ids[1])


def test_an_installed_type_is_hidden_after_delete_and_back_as_it_was_after_post(server):
    kind = type_named(server, VAULT)
    assert server.request("DELETE", f"{TYPES}/{kind['Id']}").status_code == 204
    assert VAULT not in {each["Name"] for each in server.get(TYPES).json()}
    sent = {"Name": "X", "ProviderType": {"Id": kind["Id"]}, "ProviderTypeParamValues": []}
    assert "ProviderType" in complaint(server.post(PROVIDERS, json=sent), 400)
    complaint(server.request("DELETE", f"{TYPES}/{kind['Id']}"), 404)
    assert server.post(TYPES, json={"Name": VAULT}).json() == kind
    assert type_named(server, VAULT) == kind
    vault(server)


def test_a_type_that_a_provider_has_is_not_deleted(server):
    number = vault(server, "My vault")
    kind = type_named(server, VAULT)
    message = complaint(server.request("DELETE", f"{TYPES}/{kind['Id']}"), 400)
    assert VAULT in message
    assert "My vault" in message
    assert type_named(server, VAULT) == kind
    assert server.request("DELETE", f"{PROVIDERS}/{number}").status_code == 204
    assert server.request("DELETE", f"{TYPES}/{kind['Id']}").status_code == 204


@pytest.mark.parametrize("unknown", ["0", "5", "x", "00000000-0000-0000-0000-000000000000", "%00", "a" * 5000])
def test_an_unknown_type_is_answered_404(module_server, unknown):
    complaint(module_server.request("DELETE", f"{TYPES}/{unknown}"), 404)


class MyVault:
    """A back end that comes with a later version, or as a plug-in, under a name that somebody has registered."""

    name: ClassVar[str] = "My-Vault"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Url", "URL"),
        Parameter("Token", "Token", secret=True, required=False),
        Parameter("Name", "Name", instance=True),
    )

    async def fetch(self, wanted, given, means):
        raise NotImplementedError


@pytest.mark.parametrize("registered", ["My-Vault", "MY-vault"])
def test_a_registered_type_comes_to_life_when_its_back_end_is_installed(fresh_settings, start, monkeypatch, registered):
    server = start(fresh_settings)
    kind = {"Name": registered, "Parameters": [{"Name": "Url"}, {"Name": "Name", "InstanceLevel": True}]}
    server.post(TYPES, json=kind).raise_for_status()
    number = provider(server, "Mine", registered, {"Url": "https://vault.example.org"})
    used = {**BASIC, "RelayPassword": {"Provider": number, "Parameters": {"Name": "smtp"}}}
    complaint(server.put_v2(used), 400)
    server.node.providers._backends = _with(server.node.providers._backends, MyVault())
    server.node.providers._mark = -1
    now = type_named(server, registered)
    assert [parameter["Name"] for parameter in now["Parameters"]] == ["Url", "Name", "Token"]
    assert server.get(TYPES).json() == server.get(TYPES).json()
    assert server.put_v2(used).status_code == 200


def _with(backends, more):
    installed = MappingProxyType({**backends(), more.name: more})
    return lambda: installed


def test_there_are_only_so_many_types(sqlite_server, monkeypatch):
    monkeypatch.setattr(keeping, "_MOST_TYPES", len(sqlite_server.get(TYPES).json()) + 1)
    sqlite_server.post(TYPES, json={"Name": "One"}).raise_for_status()
    assert "already" in complaint(sqlite_server.post(TYPES, json={"Name": "Two"}), 400)


def test_types_are_not_touched_by_profiles_that_use_their_providers(server):
    number = provider(server)
    before = server.get(TYPES).content
    server.put_v2(basic(number)).raise_for_status()
    assert server.get(TYPES).content == before
