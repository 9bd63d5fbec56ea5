"""The local type on both databases, held to the contract of every back end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

import pytest
from vaulted import node_of, provider

from keyrelay.pam.backend import Means
from keyrelay.pam.local import EntryDraft, LocalDb
from keyrelay.secrets.model import SecretText
from keyrelay.settings import Settings
from keyrelay.testing.pam import Case, PamContract

VALUE = "local-" + secrets.token_urlsafe(18)


class LocalType:
    """The back end, with a node of its own for each fetch: every test has an event loop of its own."""

    name = LocalDb.name
    parameters = LocalDb.parameters

    def __init__(self, settings: Settings, provider: int) -> None:
        self._settings = settings
        self._provider = provider

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        async with node_of(self._settings) as node:
            return await LocalDb(node.store, node.keyring, self._provider).fetch(wanted, given, means)


async def entry_of(settings: Settings) -> int:
    """The provider that now has an entry."""
    async with node_of(settings) as node:
        made = await provider(node, LocalDb.name, {}, "ours")
        await node.providers.add_entry(made.id, EntryDraft(name="smtp/one", description=None, secret=SecretText(VALUE)))
        return made.id


class TestLocalType(PamContract):
    @pytest.fixture
    def case(self, fresh_settings) -> Case:
        number = asyncio.run(entry_of(fresh_settings))
        return Case(
            backend=LocalType(fresh_settings, number),
            means=Means(trust=None, client_trust=None),
            given={},
            wanted={"SecretName": "smtp/one"},
            value=VALUE,
            missing={"SecretName": "smtp/two"},
        )
