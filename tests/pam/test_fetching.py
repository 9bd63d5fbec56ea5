"""Fetching secrets: asked for once however many want them, and believed for a while."""

from __future__ import annotations

import asyncio

import pytest
from fetching_kit import TOKEN, VALUES, Kit, draft, type_id, worked

from keyrelay.pam import fetching, memory
from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.fetching import Patience, Vaults
from keyrelay.pam.local import EntryDraft, LocalDb
from keyrelay.pam.model import Provider, ProviderType
from keyrelay.secrets.model import FromPam, SecretText

# --- One fetch for many --------------------------------------------------------------------------------------


def test_a_hundred_who_wait_cost_one_fetch(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        waiting = [kit.start() for _ in range(100)]
        await kit.asked(1)
        await kit.settle()
        kit.backend.opened.set()
        found = await asyncio.gather(*waiting)
        assert {one.text.reveal() for one in found} == {"first"}
        assert len(kit.backend.asked) == 1

    run(work)


def test_one_who_goes_away_takes_it_from_no_other(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        first, *others = [kit.start() for _ in range(5)]
        await kit.asked(1)
        first.cancel()
        await kit.settle()
        assert first.cancelled()
        kit.backend.opened.set()
        assert {one.text.reveal() for one in await asyncio.gather(*others)} == {"first"}
        assert (len(kit.backend.asked), kit.backend.cancelled) == (1, 0)

    run(work)


def test_when_all_have_gone_away_the_value_is_there_for_the_next(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        waiting = [kit.start() for _ in range(5)]
        await kit.asked(1)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        kit.backend.opened.set()
        await kit.settle()
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept, len(kit.backend.asked)) == ("first", True, 1)

    run(work)


def test_other_parameters_and_other_providers_are_other_secrets(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = lambda wanted, given: f"{given['Host']} {wanted['Secret']} {wanted['Version']}"
        values = VALUES | {"Host": "https://other.example.org"}
        other = await kit.providers.add(draft(await type_id(kit.providers), "Other", values))
        references = [
            kit.reference(),
            kit.reference("imap"),
            kit.reference(Version="2"),
            FromPam(other.id, {"Secret": "smtp"}),
        ]
        found = await asyncio.gather(*(kit.vaults.fetch(one) for one in references * 2))
        texts = [one.text.reveal() for one in found]
        assert texts[:4] == texts[4:]
        assert texts[:4] == [
            "https://vault.example.org smtp latest",
            "https://vault.example.org imap latest",
            "https://vault.example.org smtp 2",
            "https://other.example.org smtp latest",
        ]
        assert len(kit.backend.asked) == 4
        await kit.fetch(Version="latest")  # what stands in for a parameter is the same as the parameter
        assert len(kit.backend.asked) == 4

    run(work)


# --- For how long a value is believed ------------------------------------------------------------------------


def test_a_value_is_used_for_its_time_and_not_longer(run):
    async def work(kit: Kit) -> None:
        assert (await kit.fetch()).kept is False
        kit.backend.gives = "second"
        kit.clock.now += 29.9
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept, found.stale) == ("first", True, False)
        kit.clock.now += 0.1
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept, found.stale) == ("second", False, False)

    run(work, fresh=30)


def test_its_time_begins_when_it_was_asked_for(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        task = kit.start()
        await kit.asked(1)
        kit.clock.now += 20
        kit.backend.opened.set()
        found = await task
        assert (found.asked_at, found.seconds) == (1000, 20)
        kit.clock.now += 11
        assert (await kit.fetch()).kept is False

    run(work, fresh=30)


def test_without_a_time_the_vault_is_asked_each_time(run):
    async def work(kit: Kit) -> None:
        for times in (1, 2, 3):
            assert (await kit.fetch()).kept is False
            assert len(kit.backend.asked) == times

    run(work, fresh=0)


def test_a_value_asked_for_earlier_than_a_moment_will_not_do(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = "second"
        assert await kit.text(not_before=1000.0) == "first"
        kit.clock.now += 1
        assert await kit.text(not_before=1000.5) == "second"
        assert await kit.text(not_before=1000.5) == "second"
        assert await kit.text() == "second"
        assert len(kit.backend.asked) == 2

    run(work)


def test_a_fetch_that_began_earlier_than_a_moment_is_not_waited_for(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        early = kit.start()
        await kit.asked(1)
        kit.clock.now += 1
        kit.backend.gives = "second"
        late = [kit.start(not_before=1000.5) for _ in range(10)]
        await kit.asked(2)
        late.append(kit.start())  # whoever wants any value gets the newer one
        await kit.settle()
        kit.backend.opened.set()
        assert (await early).text.reveal() == "first"
        assert {one.text.reveal() for one in await asyncio.gather(*late)} == {"second"}
        assert len(kit.backend.asked) == 2

    run(work)


@pytest.mark.parametrize("gives", ["old", VaultFailed("denied")], ids=["value", "failure"])
def test_an_answer_that_took_longer_does_not_replace_one_asked_for_later(run, gives):
    async def work(kit: Kit) -> None:
        slow = kit.backend.opened = asyncio.Event()
        kit.backend.gives = gives
        early = kit.start()
        await kit.asked(1)
        kit.clock.now += 1
        kit.backend.opened, kit.backend.gives = None, "new"
        assert await kit.text(not_before=1001.0) == "new"
        slow.set()
        await asyncio.wait([early])
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept) == ("new", True)

    run(work)


def test_a_denial_is_not_undone_by_a_value_that_was_asked_for_earlier(run):
    async def work(kit: Kit) -> None:
        slow = kit.backend.opened = asyncio.Event()
        early = kit.start()
        await kit.asked(1)
        kit.clock.now += 1
        kit.backend.opened, kit.backend.gives = None, VaultFailed("denied")
        assert (await kit.failure(not_before=1001.0)).problem == "denied"
        slow.set()
        assert (await early).text.reveal() == "first"
        assert (await kit.failure()).problem == "denied"
        kit.clock.now += 5
        kit.backend.gives = VaultFailed("unreachable")
        assert (await kit.failure()).problem == "unreachable"

    run(work, stale=3600)


# --- Changes -------------------------------------------------------------------------------------------------


async def replaced(kit: Kit, **values: str) -> Provider:
    return await kit.providers.replace(kit.provider, draft(await type_id(kit.providers), values=VALUES | values))


def test_a_change_of_the_provider_is_effective_at_once(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = lambda _, given: given["Token"].reveal()
        assert await kit.text() == TOKEN
        await replaced(kit, Token="another token")
        assert await kit.text() == "another token"

    run(work)


def test_a_failure_is_not_believed_after_the_provider_was_mended(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = VaultFailed("denied")
        await kit.failure()
        await replaced(kit, Token="the right one")
        kit.backend.gives = "first"
        assert await kit.text() == "first"

    run(work, failed=3)


def test_what_was_asked_with_old_values_is_neither_shared_nor_kept(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = lambda _, given: given["Token"].reveal()
        old = kit.backend.opened = asyncio.Event()
        early = kit.start()
        await kit.asked(1)
        await replaced(kit, Token="another token")
        kit.backend.opened = None
        assert await kit.text() == "another token"
        old.set()
        assert (await early).text.reveal() == TOKEN
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept) == ("another token", True)

    run(work)


def test_a_provider_that_was_removed_gives_nothing_any_more(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        await kit.providers.remove(kit.provider)
        assert (await kit.failure()).problem == "bad_parameter"

    run(work, stale=3600)


def test_a_change_of_another_provider_takes_no_value_away(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.opened = asyncio.Event()
        waiting = [kit.start("imap")]
        await kit.asked(2)
        await kit.providers.add(draft(await type_id(kit.providers), "Other"))
        assert (await kit.fetch()).kept
        waiting.append(kit.start("imap"))
        await kit.settle()
        kit.backend.opened.set()
        await asyncio.gather(*waiting)
        assert (await kit.fetch("imap")).kept
        assert len(kit.backend.asked) == 2
        kit.backend.opened, kit.backend.gives = None, VaultFailed("unreachable")
        kit.clock.now += 31
        assert (await kit.fetch()).stale
        await kit.providers.add(draft(await type_id(kit.providers), "Another"))
        assert (await kit.fetch()).stale

    run(work, stale=3600)


def test_a_provider_of_the_local_type_counts_as_changed_whatever_it_looks_like():
    def of(kind: str) -> Provider:
        return Provider(1, "one", ProviderType("id", kind, ()), {})

    assert fetching._is_unchanged(of("Fake"), of("Fake"))
    assert not fetching._is_unchanged(of(LocalDb.name), of(LocalDb.name))


def test_a_change_of_an_entry_is_effective_at_once(fresh_settings):
    def entry(secret: str) -> EntryDraft:
        return EntryDraft(name="smtp", description=None, secret=SecretText(secret))

    async def work(kit: Kit) -> None:
        local = await kit.providers.add(draft(await type_id(kit.providers, "LocalDB"), "Local", {}))
        reference = FromPam(local.id, {"SecretName": "smtp"})

        async def text() -> str:
            return (await kit.vaults.fetch(reference)).text.reveal()

        await kit.providers.add_entry(local.id, entry("first"))
        assert await text() == "first"
        await kit.providers.replace_entry(local.id, entry("second"))
        assert await text() == "second"
        await kit.providers.remove_entry(local.id, "smtp")
        with pytest.raises(VaultFailed, match="not_found"):
            await text()

    asyncio.run(worked(fresh_settings, work))


# --- The end, and bounds -------------------------------------------------------------------------------------


def test_close_ends_every_request_and_tells_those_who_wait(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        waiting = [kit.start(f"secret {number}") for number in range(5)]

        async def stubborn() -> None:
            for _ in range(3):
                await kit.failure("stubborn")
                kit.clock.now += 10

        again = asyncio.create_task(stubborn())
        await kit.asked(6)
        await kit.vaults.close()
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert {(one.problem, one.detail) for one in failures} == {("unreachable", "keyrelay is stopping")}
        again.cancel()
        await asyncio.wait([again])
        await kit.vaults.close()
        assert [task for task in asyncio.all_tasks() if task.get_name() == "keyrelay-vault"] == []
        assert kit.backend.cancelled == len(kit.backend.asked)

    run(work)


def test_what_is_kept_is_bounded(run, monkeypatch):
    monkeypatch.setattr(memory, "_MOST_KEPT", 10)

    async def work(kit: Kit) -> None:
        for number in range(30):
            await kit.fetch(f"secret {number}")
        kit.backend.gives = VaultFailed("denied")
        for number in range(30):
            await kit.failure(f"nothing {number}")
        assert [len(known) for known in kit.vaults._memory._all()] == [10, 10, 10, 0]
        assert (kit.vaults._asking, kit.vaults._tasks) == ({}, set())
        assert (await kit.fetch("secret 29")).kept  # the newest stay
        kit.backend.gives = "again"
        assert await kit.text("secret 0") == "again"

    run(work)


def test_a_value_leaves_the_memory_when_nobody_may_use_it_any_more(run, monkeypatch):
    monkeypatch.setattr(memory, "_AT_LEAST", 0.0)

    async def work(kit: Kit) -> None:
        vaults = Vaults(kit.providers, kit.vaults._means, Patience(fresh=0.05, stale=0.05))
        for secret in ("smtp", "imap"):
            await vaults.fetch(kit.reference(secret))
        assert len(vaults._memory._values) == 2
        async with asyncio.timeout(20):
            while vaults._memory._values:  # noqa: ASYNC110 - nobody asks, so nobody is told
                await asyncio.sleep(0.01)
        await vaults.close()

    run(work)


def test_an_old_value_stays_in_memory_for_as_long_as_it_may_be_used(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.clock.now += 89
        await kit.fetch("imap")
        assert len(kit.vaults._memory._values) == 2
        kit.clock.now += 1
        await kit.fetch("imap", not_before=kit.clock.now)
        assert [dict(wanted)["Secret"] for _, wanted in kit.vaults._memory._values] == ["imap"]
        await kit.vaults.close()
        assert kit.vaults._memory._values == {}

    run(work, fresh=30, stale=60)
