"""A node whose profile has its credentials in a vault, for tests that go all the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vault_double import ROOT, VaultDouble

from keyrelay.network.trust import Trust
from keyrelay.pam.model import GivenValue, Provider, ProviderDraft
from keyrelay.profile.model import Basic, SmtpProfile
from keyrelay.relay.credentials import Opener
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.opening import Terms
from keyrelay.relay.pool import Limits
from keyrelay.relay.token import Tokens
from keyrelay.secrets.model import FromPam
from keyrelay.server import Node
from keyrelay.settings import Settings


def trusting(settings: Settings, directory: Path, *authorities: Path, **more: Any) -> Settings:
    """The settings with a bundle of all these authorities."""
    bundle = directory / "bundle.pem"
    bundle.write_bytes(b"".join(authority.read_bytes() for authority in authorities))
    return replace(settings, ca_bundle=bundle, **more)


@asynccontextmanager
async def node_of(settings: Settings) -> AsyncIterator[Node]:
    node = await Node.open(settings)
    try:
        yield node
    finally:
        await node.close()


async def provider(node: Node, kind: str, values: Mapping[str, str], name: str) -> Provider:
    known = (await node.providers.catalogue()).type_named(kind)
    assert known is not None
    given = tuple(GivenValue(None, parameter, value) for parameter, value in values.items())
    return await node.providers.add(ProviderDraft(name=name, type_id=known.id, values=given))


async def hashicorp(node: Node, vault: VaultDouble, name: str = "our vault", /, **values: str) -> Provider:
    usual = {"Host": vault.url, "Token": ROOT, "Path": "v1/secret/data"}
    return await provider(node, "Hashicorp-Vault", usual | values, name)


def reference(provider: Provider, secret: str, key: str) -> FromPam:
    return FromPam(provider.id, {"Secret": secret, "Key": key})


def basic_profile(host: str, port: int, username: FromPam, password: FromPam) -> SmtpProfile:
    return SmtpProfile(host, port, True, "pki@example.org", "PKI", Basic(username, password))


@asynccontextmanager
async def mailer_of(node: Node, terms: Terms, **limits: Any) -> AsyncIterator[Mailer]:
    opener = Opener(node.store, node.keyring, node.vaults)
    mailer = Mailer(node.keeper.snapshot, opener, terms, Limits(**limits))
    try:
        yield mailer
    finally:
        await mailer.close()
        await terms.tokens.close()


def terms_of(node: Node) -> Terms:
    trust = Trust(authorities=node.settings.ca_bundle)
    return Terms(trust, Tokens(trust.for_http), "client.example.org")
