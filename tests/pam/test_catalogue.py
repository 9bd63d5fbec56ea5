"""Types and providers as they are kept: read while others write, and with a back end that came later than its type."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from vaulted import node_of

from canary import new_canary
from keyrelay.errors import SecretRequired
from keyrelay.pam import catalogue
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.local import LocalDb
from keyrelay.pam.model import GivenValue, Provider, ProviderDraft
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.server import Node
from keyrelay.store.model import Row

TOKEN = new_canary()
HOST = "https://vault.example.org"
VALUES = {"Host": HOST, "Token": TOKEN, "Pin": "0" + TOKEN}


class MyVault:
    """A back end that is installed after somebody has registered its type."""

    name: ClassVar[str] = "My-Vault"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "Host"),
        Parameter("Token", "Token", secret=True),
        Parameter("Pin", "Pin", secret=True, required=False),
        Parameter("Name", "Name", instance=True),
    )

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, Any], means: Means) -> SecretText:
        raise NotImplementedError


class Disagreeing(MyVault):
    """Another version of it, to which no parameter is secret."""

    parameters = tuple(replace(parameter, secret=False) for parameter in MyVault.parameters)


def keeper(node: Node, *backends: Any) -> ProviderKeeper:
    installed = {backend.name: backend for backend in (LocalDb(node.store, node.keyring), *backends)}
    return ProviderKeeper(node.store, node.keyring, lambda: installed, node.journal)


def draft(kind: str | None, values: Mapping[str, str | None], **more: Any) -> ProviderDraft:
    given = tuple(GivenValue(None, name, value) for name, value in values.items())
    return ProviderDraft(name="ours", type_id=kind, values=given, **more)


async def made(providers: ProviderKeeper, values: Mapping[str, str | None], **more: Any) -> Provider:
    kind = (await providers.catalogue()).type_named(MyVault.name)
    assert kind is not None
    return await providers.add(draft(kind.id, values, **more))


async def registered(node: Node, *secret: str) -> ProviderKeeper:
    """A keeper that knows the type from its registration alone; ``secret``: the parameters registered as that."""
    providers = keeper(node)
    await providers.add_type(MyVault.name, tuple(replace(one, secret=one.name in secret) for one in MyVault.parameters))
    return providers


async def texts(providers: ProviderKeeper, number: int) -> dict[str, str | SecretText]:
    return await providers.open_values(await providers.provider(number))


async def documents(node: Node) -> str:
    rows = [*await node.store.rows("SELECT document FROM pam_provider")]
    rows += await node.store.rows("SELECT destination FROM stored_secret")
    return "".join(text for (text,) in rows)


@pytest.fixture
def run(fresh_settings) -> Callable[..., None]:
    """Run a test with two nodes on one database."""

    def run(work: Callable[[Node, Node], Any]) -> None:
        async def both() -> None:
            async with node_of(fresh_settings) as node, node_of(fresh_settings) as other:
                await work(node, other)

        asyncio.run(both())

    return run


# --- Read while others write -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["a type with a provider comes", "a provider goes with its type"])
def test_the_catalogue_can_be_read_at_every_moment_of_a_change(run, change):
    async def work(node: Node, other: Node) -> None:
        providers = keeper(other, MyVault())
        if change == "a provider goes with its type":
            providers = keeper(other)
            await registered(other)
            old = await made(providers, VALUES)

        class Between:
            done = False

            async def rows(self, sql: str, *values: Any) -> list[Row]:
                rows = list(await node.store.rows(sql, *values))
                if not self.done:
                    self.done = True
                    if change == "a provider goes with its type":
                        await providers.remove(old.id)
                        await providers.remove_type(old.type.id)
                    else:
                        await made(providers, {"Host": HOST, "Token": TOKEN})
                return rows

        found = await catalogue.read(Between(), {})
        assert found.providers == {}

    run(work)


def test_a_node_that_has_not_heard_of_a_replacement_opens_the_new_secret(run):
    async def work(node: Node, other: Node) -> None:
        providers = keeper(other, MyVault())
        old = await made(providers, {"Host": HOST, "Token": "first"})
        await providers.replace(old.id, draft(None, {"Host": HOST + "/new", "Token": "second"}))
        opened = await keeper(node, MyVault()).open_values(old)
        assert opened == {"Host": HOST + "/new", "Token": SecretText("second")}

    run(work)


@pytest.mark.parametrize(
    ("change", "problem"), [("removed", "bad_parameter"), ("remote", "bad_parameter"), ("erased", "unreachable")]
)
def test_a_secret_that_is_gone_is_a_failure_of_the_provider(run, change, problem):
    async def work(node: Node, other: Node) -> None:
        providers = keeper(other, MyVault())
        old = await made(providers, {"Host": HOST, "Token": TOKEN})
        if change == "removed":
            await providers.remove(old.id)
        elif change == "remote":
            await providers.replace(old.id, draft(None, {}, remote=True))
        else:
            async with other.store.change("keys") as changing:
                await changing.run("DELETE FROM stored_secret")
        with pytest.raises(VaultFailed) as failed:
            await keeper(node, MyVault()).open_values(old)
        assert failed.value.problem == problem
        assert TOKEN not in str(failed.value)

    run(work)


# --- A back end that came later than its type ------------------------------------------------------------------


@pytest.mark.parametrize("secret", [(), ("Pin",), ("Token", "Pin")])
def test_a_value_that_has_become_secret_is_sealed_and_opens(run, secret):
    async def work(node: Node, other: Node) -> None:
        old = await made(await registered(node, *secret), VALUES)
        providers = keeper(node, MyVault())
        shown = await providers.provider(old.id)
        assert shown.values["Host"] == HOST
        assert {type(shown.values[name]) for name in ("Token", "Pin")} == {Stored}
        assert {name for name, one in shown.type.levels(instance=False).items() if one.secret} == {"Token", "Pin"}
        opened = {"Host": HOST, "Token": SecretText(TOKEN), "Pin": SecretText("0" + TOKEN)}
        assert await texts(providers, old.id) == opened
        assert await texts(keeper(other, MyVault()), old.id) == opened
        assert TOKEN not in await documents(node)
        assert len(await node.store.rows("SELECT id FROM stored_secret")) == 2
        marks = dict(node.store.marks)
        assert await texts(keeper(node, MyVault()), old.id) == opened  # and it is done once
        assert dict(node.store.marks) == marks

    run(work)


def test_a_type_stays_as_its_back_end_said_when_that_is_taken_away(run):
    async def work(node: Node, _: Node) -> None:
        await registered(node)
        await keeper(node, MyVault()).catalogue()
        old = await made(keeper(node), VALUES)
        assert isinstance(old.values["Token"], Stored)

    run(work)


def test_a_value_that_is_secret_no_more_comes_to_the_back_end_as_it_takes_it(run):
    async def work(node: Node, _: Node) -> None:
        old = await made(await registered(node, "Host", "Token", "Pin"), VALUES)
        providers = keeper(node, MyVault())
        opened = {"Host": HOST, "Token": SecretText(TOKEN), "Pin": SecretText("0" + TOKEN)}
        assert await texts(providers, old.id) == opened
        with pytest.raises(SecretRequired, match="Token must be given again"):
            await providers.replace(old.id, draft(None, {"Host": "https://other.example.org"}))

    run(work)


def test_a_parameter_is_given_where_the_back_end_says_and_not_where_it_was_registered(run):
    async def work(node: Node, _: Node) -> None:
        parameters = tuple(replace(one, instance=not one.instance) for one in MyVault.parameters)
        await keeper(node).add_type(MyVault.name, parameters)
        kind = (await keeper(node, MyVault()).catalogue()).type_named(MyVault.name)
        assert list(kind.levels(instance=True)) == ["Name"]
        assert list(kind.levels(instance=False)) == ["Host", "Token", "Pin"]

    run(work)


def test_two_nodes_whose_back_ends_disagree_come_to_rest(run):
    async def work(node: Node, other: Node) -> None:
        old = await made(await registered(node), VALUES)
        one, two = keeper(node, MyVault()), keeper(node, Disagreeing())
        for providers in (one, two, one, two):
            await providers.catalogue()
        marks = dict(node.store.marks)
        for providers in (one, two):
            assert isinstance((await providers.provider(old.id)).values["Token"], Stored)
        assert dict(node.store.marks) == marks

    run(work)


def test_a_secret_that_does_not_open_keeps_no_other_value_in_clear(run):
    async def work(node: Node, _: Node) -> None:
        old = await made(await registered(node, "Pin"), VALUES)
        async with node.store.change("pam") as change:
            await change.run("UPDATE stored_secret SET sealed = $1", bytes(40))
        shown = await keeper(node, MyVault()).provider(old.id)
        assert isinstance(shown.values["Token"], Stored)
        assert shown.values["Pin"] == old.values["Pin"]

    run(work)


# --- What a replacement keeps ----------------------------------------------------------------------------------


def test_a_replacement_that_says_nothing_of_types_keeps_the_areas(run):
    async def work(node: Node, _: Node) -> None:
        providers = keeper(node, MyVault())
        values = {"Host": HOST, "Token": TOKEN}
        old = await made(providers, values, area=7, secured_area_id=9)
        new = await providers.replace(old.id, draft(None, values))
        assert (new.area, new.secured_area_id) == (7, 9)
        new = await providers.replace(old.id, draft(None, values, area=8))
        assert (new.area, new.secured_area_id) == (8, 9)
        new = await providers.replace(old.id, draft(old.type.id, values))
        assert (new.area, new.secured_area_id) == (1, None)
        assert (await providers.provider(old.id)).area == 1

    run(work)


def test_an_empty_text_takes_an_optional_secret_away_and_nothing_else_does(run):
    async def work(node: Node, _: Node) -> None:
        providers = keeper(node, MyVault())
        old = await made(providers, {"Host": HOST, "Token": TOKEN, "Pin": "0000"})
        for keeps in ({}, {"Pin": None, "Token": None}, {"Token": ""}):
            new = await providers.replace(old.id, draft(None, {"Host": HOST, **keeps}))
            assert new.values == old.values
        new = await providers.replace(old.id, draft(None, {"Host": HOST, "Pin": ""}))
        assert new.values == {"Host": HOST, "Token": old.values["Token"]}
        assert await texts(providers, old.id) == {"Host": HOST, "Token": SecretText(TOKEN)}
        assert len(await node.store.rows("SELECT id FROM stored_secret")) == 1

    run(work)


def test_an_optional_secret_that_is_taken_away_need_not_be_given_again(run):
    async def work(node: Node, _: Node) -> None:
        providers = keeper(node, MyVault())
        old = await made(providers, {"Host": HOST, "Token": TOKEN, "Pin": "0000"})
        moved = {"Host": "https://other.example.org", "Token": TOKEN}
        with pytest.raises(SecretRequired, match="Pin must be given again"):
            await providers.replace(old.id, draft(None, moved))
        new = await providers.replace(old.id, draft(None, {**moved, "Pin": ""}))
        assert set(new.values) == {"Host", "Token"}

    run(work)
