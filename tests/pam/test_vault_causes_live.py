"""Every cause of the stage vault, provoked over real TLS and explained by the test of a stored profile."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from double import Answered, page
from vault_double import VaultDouble, refused
from vaulted import basic_profile, hashicorp, node_of, reference, trusting

from keyrelay.api.diagnoses import report_document
from keyrelay.pam.backend import VaultFailed
from keyrelay.relay.causes.vault import VAULT
from keyrelay.relay.diagnosis import Order
from keyrelay.secrets.model import FromPam
from relaying import running

CANARY = "canary-" + secrets.token_hex(12)
USER = "mailer@example.org"


@dataclass(frozen=True)
class Scene:
    """What is the matter. ``trouble``: what the vault answers to everything; ``values``: of the provider, instead."""

    cause: str
    trouble: Answered | None = None
    values: dict[str, str] = field(default_factory=dict)
    secret: str = "smtp"
    key: str = "password"
    content: str = CANARY

    def __str__(self) -> str:
        return f"{self.cause}-{self.key}"


SCENES = [
    Scene("vault-not-found", secret="nothing-here"),
    Scene("vault-not-found", key="no-such-key"),
    Scene("vault-denied", values={"Token": "hvs.TheTokenOfSomebodyElse-0001"}),
    Scene("vault-denied", trouble=refused(403, "permission denied")),
    Scene("vault-sealed", trouble=refused(503, "Vault is sealed")),
    Scene("vault-unreachable", trouble=Answered(hang_up=True)),
    Scene("vault-timeout", trouble=Answered(wait=30)),
    Scene("vault-bad-answer", trouble=page()),
    Scene("vault-bad-answer", trouble=Answered(huge=100_000_000)),
    Scene("vault-bad-answer", trouble=Answered(307, headers={"location": "https://localhost:1/"})),
    Scene("vault-bad-answer", content=CANARY + "\n"),
    Scene("vault-bad-parameter", values={"Host": "vault.example.org"}),
]


@pytest.fixture
def vault(tmp_path):
    with VaultDouble(tmp_path) as vault:
        yield vault


@pytest.fixture
def settings(sqlite_settings, tmp_path, vault):
    return trusting(sqlite_settings, tmp_path, vault.authority, pam_seconds=1, log_level="debug")


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_what_is_the_matter_with_the_vault_is_explained(scene, vault, settings, caplog):
    vault.put("secret/smtp", {"username": USER, "password": scene.content})
    vault.trouble = scene.trouble
    document = diagnosed(vault, settings, scene)
    shown = json.dumps(document)
    assert (document["failed_stage"], document["cause"]["id"]) == ("vault", scene.cause), shown
    assert [stage["verdict"] for stage in document["stages"][1:]] == ["skipped"] * 10
    field = "relay_username" if scene.trouble else "relay_password"
    assert document["stages"][0]["learned"]["field"] == field
    assert CANARY not in shown + caplog.text
    assert scene.values.get("Token", "hvs.") == "hvs." or scene.values["Token"] not in shown + caplog.text


def test_a_library_that_is_missing_is_named_with_its_command(vault, settings, monkeypatch):
    async def fetch(*_: Any) -> None:
        raise VaultFailed("extra_missing", "pip install keyrelay[aws]")

    monkeypatch.setattr("keyrelay.pam.backends.hashicorp_vault.HashicorpVault.fetch", fetch)
    cause = diagnosed(vault, settings, Scene("vault-extra-missing"))["cause"]
    assert cause["id"] == "vault-extra-missing"
    assert "pip install keyrelay[aws]" in cause["sentence"]


def test_a_parameter_that_a_type_has_come_to_need_is_named(vault, settings):
    # What was stored was complete then: a later version of a plug-in may ask for more.
    vault.put("secret/smtp", {"username": USER, "password": CANARY})
    document = diagnosed(vault, settings, Scene(""), lambda found: FromPam(found.provider, {"Secret": "smtp"}))
    assert document["cause"]["id"] == "vault-parameter-missing"
    assert "Key" in document["cause"]["sentence"]


def test_every_cause_of_a_vault_is_provoked_here():
    provoked = {scene.cause for scene in SCENES} | {"vault-extra-missing", "vault-parameter-missing"}
    assert provoked == {cause.id for cause in VAULT}


def test_a_fetch_that_works_is_a_stage_that_shows_no_value(vault, settings, caplog):
    vault.put("secret/smtp", {"username": USER, "password": CANARY})
    with running(starttls=True, users={USER: CANARY}) as relay:
        document = diagnosed(vault, settings, Scene(""), port=relay.port)
    stage = document["stages"][0]
    assert (stage["stage"], stage["verdict"]) == ("vault", "ok")
    assert [one["field"] for one in stage["learned"]["fetched"]] == ["relay_username", "relay_password"]
    assert stage["learned"]["fetched"][0]["type"] == "Hashicorp-Vault"
    assert CANARY not in json.dumps(document) + caplog.text


def diagnosed(
    vault: VaultDouble,
    settings: Any,
    scene: Scene,
    alter: Callable[[FromPam], FromPam] = lambda found: found,
    *,
    port: int = 2525,
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with node_of(settings) as node:
            there = await hashicorp(node, vault)
            troubled = await hashicorp(node, vault, "another", **scene.values) if scene.values else there
            password = alter(reference(troubled, scene.secret, scene.key))
            username = reference(there, "smtp", "username")
            profile = basic_profile("localhost", port, username, password)
            return report_document(await node.diagnoses.run(Order(profile, "connect"), advise=False))

    return asyncio.run(main())
