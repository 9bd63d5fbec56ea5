"""The local type on both databases, held to the contract of every back end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from vaulted import node_of, provider

from keyrelay.errors import InUse, SecretGone
from keyrelay.pam import local, providers
from keyrelay.pam.backend import Means, VaultFailed
from keyrelay.pam.local import EntryDraft, LocalDb
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import FromPam, SecretText
from keyrelay.server import Node
from keyrelay.settings import Settings
from keyrelay.store.model import Reader, Row
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


# --- What goes on at the same time -----------------------------------------------------------------------------


def entry(name: str, secret: str = VALUE) -> EntryDraft:
    return EntryDraft(name=name, description=None, secret=SecretText(secret))


class After:
    """A reader of the node's store that lets something happen after each of its statements."""

    def __init__(self, node: Node, happens: Callable[[], Awaitable[Any]]) -> None:
        self._store = node.store
        self._happens = happens
        self.statements: list[str] = []

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        rows = await self._store.rows(sql, *values)
        self.statements.append(sql)
        await self._happens()
        return list(rows)


def test_an_entry_that_is_replaced_at_every_moment_of_a_fetch_gives_a_value_it_had(fresh_settings):
    async def work() -> None:
        async with node_of(fresh_settings) as node:
            made = await provider(node, LocalDb.name, {}, "ours")
            await node.providers.add_entry(made.id, entry("smtp"))
            reader = After(node, lambda: node.providers.replace_entry(made.id, entry("smtp")))
            means = Means(trust=None, client_trust=None)
            found = await LocalDb(reader, node.keyring, made.id).fetch({"SecretName": "smtp"}, {}, means)
            assert found == SecretText(VALUE)

    asyncio.run(work())


def test_an_entry_that_is_replaced_all_the_time_never_fails_to_be_fetched(fresh_settings):
    async def work() -> None:
        async with node_of(fresh_settings) as node, node_of(fresh_settings) as other:
            made = await provider(other, LocalDb.name, {}, "ours")
            await other.providers.add_entry(made.id, entry("smtp"))

            async def replace() -> None:
                for number in range(30):
                    await other.providers.replace_entry(made.id, entry("smtp", f"value {number}"))

            replacing = asyncio.create_task(replace())
            backend = LocalDb(node.store, node.keyring, made.id)
            while not replacing.done():
                await backend.fetch({"SecretName": "smtp"}, {}, Means(trust=None, client_trust=None))
                await asyncio.sleep(0)
            await replacing

    asyncio.run(work())


def test_a_secret_that_is_erased_while_its_key_is_looked_for_is_gone(sqlite_settings):
    async def work() -> None:
        async with node_of(sqlite_settings) as node:
            async with node.store.change("keys") as change:
                kept = await stored.keep(change, node.keyring, SecretText(VALUE), field="a", destination="b")

            async def erase() -> None:
                async with node.store.change("keys") as change:
                    await stored.erase(change, [kept.id])

            # Its key is looked for, and not found, between the two reads of the row.
            reader, keyring = After(node, erase), Forgetful()
            with pytest.raises(SecretGone):
                await stored.reveal(reader, keyring, kept, field="a", destination="b")
            assert len(reader.statements) == 2

    asyncio.run(work())


class Forgetful(Keyring):
    """A keyring that never finds a key."""

    def __init__(self) -> None:
        super().__init__(())

    async def reload(self, reader: Reader) -> None: ...


@pytest.mark.parametrize("name", ["\0", "smtp\n", "\ud800", "SMTP", ""])
def test_a_name_that_no_entry_can_have_is_not_found(fresh_settings, name):
    async def work() -> None:
        async with node_of(fresh_settings) as node:
            made = await provider(node, LocalDb.name, {}, "ours")
            await node.providers.add_entry(made.id, entry("smtp"))
            with pytest.raises(VaultFailed, match="not_found"):
                await LocalDb(node.store, node.keyring, made.id).fetch({"SecretName": name}, {}, Means(None, None))

    asyncio.run(work())


# --- Bounds ----------------------------------------------------------------------------------------------------


def test_there_are_only_so_many_entries(sqlite_settings, monkeypatch):
    async def work() -> None:
        monkeypatch.setattr(providers, "_MOST_ENTRIES", 2)
        async with node_of(sqlite_settings) as node:
            one, two = [await provider(node, LocalDb.name, {}, name) for name in ("one", "two")]
            await node.providers.add_entry(one.id, entry("a"))
            await node.providers.add_entry(two.id, entry("a"))
            with pytest.raises(InUse, match="There are 2 entries already") as refused:
                await node.providers.add_entry(one.id, entry("b"))
            assert "Delete" in refused.value.advice
            await node.providers.replace_entry(one.id, entry("a"))
            await node.providers.remove_entry(two.id, "a")
            await node.providers.add_entry(one.id, entry("b"))

    asyncio.run(work())


def test_a_provider_goes_with_all_its_entries_in_a_few_statements(fresh_settings, monkeypatch):
    async def work() -> None:
        async with node_of(fresh_settings) as node:
            one, two = [await provider(node, LocalDb.name, {}, name) for name in ("one", "two")]
            async with node.store.change("pam") as change:
                for number in range(1100):
                    await local.insert(change, node.keyring, one.id, entry(f"n{number}"))
                await local.insert(change, node.keyring, two.id, entry("n1"))
            run = type(change).run
            statements = []

            async def counted(self: Any, sql: str, *values: Any) -> int:
                statements.append(sql)
                return await run(self, sql, *values)

            monkeypatch.setattr(type(change), "run", counted)
            await node.providers.remove(one.id)
            assert len(statements) < 12
            ((secret,),) = await node.store.rows("SELECT id FROM stored_secret")
            assert list(await node.store.rows("SELECT provider, secret FROM pam_entry")) == [(two.id, secret)]
            fetched = await node.vaults.fetch(FromPam(two.id, {"SecretName": "n1"}))
            assert fetched.text == SecretText(VALUE)

    asyncio.run(work())


def test_the_history_of_the_profile_and_a_new_profile_read_no_ids_of_entries(fresh_settings, monkeypatch):
    async def work() -> None:
        async with node_of(fresh_settings) as node:
            made = await provider(node, LocalDb.name, {}, "ours")
            await node.providers.add_entry(made.id, entry("smtp"))
            ((kept,),) = await node.store.rows("SELECT id FROM stored_secret")
            seen: list[Any] = []

            class Seen:
                async def rows(self, sql: str, *values: Any) -> list[Row]:
                    rows = await node.store.rows(sql, *values)
                    seen.extend(rows)
                    return list(rows)

                async def run(self, sql: str, *values: Any) -> int:
                    raise AssertionError("nothing is to be erased")

            await stored.erase_all_but(Seen(), set(), fields=("relay_username", "client_secret"))
            monkeypatch.setattr(node.keeper, "_store", Seen())
            assert await node.keeper.history() == []
            assert seen == []
            assert await stored.kept(node.store, fields=("relay_username", "pam_entry")) == {kept}

    asyncio.run(work())
