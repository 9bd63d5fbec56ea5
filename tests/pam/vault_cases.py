"""Providers of the types for HashiCorp Vault and OpenBao, at a double or at a real server."""

from __future__ import annotations

from dataclasses import replace

from vault_double import ROLE, ROLE_ID, ROOT, SECRET_ID

from canary import new_canary
from keyrelay.pam.backends.hashicorp_vault import HashicorpVault, HashicorpVaultAppRole, HashicorpVaultKubernetes
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case

AWAY = "https://127.0.0.1:1"


class Clock:
    """A clock that a test turns on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def of_token(vault, value="", clock=None, **more) -> Case:
    given = {"Host": vault.url, "Token": SecretText(ROOT), "Path": "v1/secret/data"} | more
    return Case(
        backend=HashicorpVault(clock) if clock else HashicorpVault(),
        means=vault.means(),
        given=given,
        wanted={"Secret": "mail/smtp relay", "Key": "password"},
        value=value,
        missing={"Secret": "mail/nothing", "Key": "password"},
        refused=given | {"Token": SecretText("hvs." + new_canary())},
        away=given | {"Host": AWAY},
    )


def of_app_role(vault, value="", clock=None, **more) -> Case:
    given = {"Host": vault.url, "RoleId": ROLE_ID, "SecretId": SecretText(SECRET_ID), "AuthPath": "approle"} | {
        "Path": "v1/secret/data",
        **more,
    }
    return replace(
        of_token(vault, value),
        backend=HashicorpVaultAppRole(clock) if clock else HashicorpVaultAppRole(),
        given=given,
        refused=given | {"SecretId": SecretText(new_canary())},
        away=given | {"Host": AWAY},
    )


def of_kubernetes(vault, value="", clock=None, **more) -> Case:
    files = vault.directory / "mounted"
    files.mkdir(exist_ok=True)
    (files / "token").write_text(vault.service_account() + "\n")
    given = {"Host": vault.url, "Role": ROLE, "TokenFile": "token", "AuthPath": "kubernetes"} | {
        "Path": "v1/secret/data",
        **more,
    }
    return replace(
        of_token(vault, value),
        backend=HashicorpVaultKubernetes(clock) if clock else HashicorpVaultKubernetes(),
        means=vault.means(secret_files=files),
        given=given,
        refused=given | {"Role": "another"},
        away=given | {"Host": AWAY},
    )
