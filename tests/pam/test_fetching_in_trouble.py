"""Fetching when a vault is down, denies, or gives what the relay refuses."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fetching_kit import LASTING, PASSING, Kit

from keyrelay.errors import KeyUnknown
from keyrelay.pam.backend import VaultFailed
from keyrelay.secrets.model import FromPam

# --- What the relay refuses ----------------------------------------------------------------------------------


def test_a_value_that_the_relay_refuses_is_not_used_again(run):
    async def work(kit: Kit) -> None:
        found = await kit.fetch()
        kit.vaults.refused(kit.reference(), found.asked_at)
        kit.backend.gives = "second"
        assert await kit.text() == "second"

    run(work)


def test_a_value_that_the_relay_refuses_is_no_old_value_to_fall_back_on(run):
    async def work(kit: Kit) -> None:
        found = await kit.fetch()
        kit.backend.gives = VaultFailed("unreachable")
        kit.clock.now += 31
        assert (await kit.fetch()).stale
        kit.vaults.refused(kit.reference(), found.asked_at)
        assert (await kit.failure()).problem == "unreachable"
        kit.clock.now += 31
        assert (await kit.failure()).problem == "unreachable"

    run(work, stale=3600)


def test_a_refusal_says_nothing_of_other_secrets_nor_of_a_newer_value(run):
    async def work(kit: Kit) -> None:
        early = await kit.fetch()
        await kit.fetch("imap")
        kit.clock.now += 1
        await kit.fetch(not_before=kit.clock.now)
        kit.vaults.refused(kit.reference(), early.asked_at)
        assert (await kit.fetch()).kept
        assert (await kit.fetch("imap")).kept
        kit.vaults.refused(FromPam(99, {"Secret": "smtp"}), 2000.0)
        kit.vaults.refused(FromPam(kit.provider, {}), 2000.0)
        assert (await kit.fetch()).kept

    run(work)


def test_a_refused_value_does_not_come_back_with_a_slow_answer(run):
    async def work(kit: Kit) -> None:
        slow = kit.backend.opened = asyncio.Event()
        early = kit.start()
        await kit.asked(1)
        kit.clock.now += 1
        kit.backend.opened = None
        found = await kit.fetch(not_before=kit.clock.now)
        kit.vaults.refused(kit.reference(), found.asked_at)
        slow.set()
        await early
        kit.backend.gives = "second"
        assert await kit.text() == "second"

    run(work)


# --- While the vault is down ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PASSING)
def test_an_old_value_is_used_while_the_vault_is_down_if_that_is_allowed(run, caplog, problem):
    async def work(kit: Kit) -> None:
        first = await kit.fetch()
        kit.backend.gives = VaultFailed(problem)
        kit.clock.now += 89
        with caplog.at_level(logging.WARNING):
            found = await kit.fetch()
        assert (found.text.reveal(), found.kept, found.stale, found.asked_at) == ("first", True, True, first.asked_at)
        (record,) = [record for record in caplog.records if "old value" in record.getMessage()]
        assert record.facts == {"provider": kit.provider, "problem": problem, "seconds_old": 89}
        kit.clock.now += 1
        assert (await kit.failure()).problem == problem

    run(work, fresh=30, stale=60, failed=0)


def test_the_log_tells_of_an_old_value_once_a_minute_for_each_secret(run, caplog):
    async def work(kit: Kit) -> list[int]:
        for secret in ("smtp", "imap"):
            await kit.fetch(secret)
        kit.backend.gives = VaultFailed("sealed")
        told = []
        for seconds in (31, 59.9, 0.1, 59.9):
            kit.clock.now += seconds
            for _ in range(20):
                for secret in ("smtp", "imap"):
                    assert (await kit.fetch(secret)).stale
            told.append(sum("old value" in record.getMessage() for record in caplog.records))
        return told

    assert run(work, fresh=30, stale=3600) == [2, 2, 4, 4]


def test_how_old_a_value_may_be_is_asked_when_the_vault_has_failed(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.opened, kit.backend.gives = asyncio.Event(), VaultFailed("timeout")
        kit.clock.now += 85
        task = kit.start()
        await kit.asked(2)
        kit.clock.now += 10
        kit.backend.opened.set()
        await asyncio.wait([task])
        assert isinstance(task.exception(), VaultFailed)

    run(work, fresh=30, stale=60)


@pytest.mark.parametrize("problem", LASTING)
def test_an_old_value_is_not_used_when_the_vault_answers(run, problem):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = VaultFailed(problem)
        kit.clock.now += 31
        assert (await kit.failure()).problem == problem

    run(work, fresh=30, stale=3600)


@pytest.mark.parametrize("problem", PASSING)
def test_an_old_value_is_not_used_unless_the_operator_allows_it(run, problem):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = VaultFailed(problem)
        kit.clock.now += 31
        assert (await kit.failure()).problem == problem

    run(work, fresh=30)


def test_an_old_value_is_not_used_where_a_new_one_is_needed(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = VaultFailed("unreachable")
        kit.clock.now += 1
        assert (await kit.failure(not_before=kit.clock.now)).problem == "unreachable"
        assert await kit.text() == "first"  # it is fresh, for whoever has no reason to doubt it

    run(work, stale=3600)


@pytest.mark.parametrize("problem", ["denied", "not_found"])
def test_what_the_vault_has_taken_away_does_not_come_back_while_it_is_down(run, problem):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.clock.now += 31
        kit.backend.gives = VaultFailed(problem)
        await kit.failure()
        kit.clock.now += 5
        kit.backend.gives = VaultFailed("unreachable")
        assert (await kit.failure()).problem == "unreachable"

    run(work, stale=3600)


def test_a_vault_that_is_back_is_asked_and_its_value_is_no_old_one(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = VaultFailed("sealed")
        kit.clock.now += 31
        assert (await kit.fetch()).stale
        kit.backend.gives = "second"
        kit.clock.now += 3
        found = await kit.fetch()
        assert (found.text.reveal(), found.kept, found.stale) == ("second", False, False)

    run(work, stale=3600, failed=3)


# --- Failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [*PASSING, *LASTING])
def test_a_failure_is_believed_for_a_short_time_and_the_vault_left_alone(run, problem):
    async def work(kit: Kit) -> None:
        kit.backend.gives = VaultFailed(problem, "a detail")
        for _ in range(50):
            failure = await kit.failure()
            assert (failure.problem, failure.detail) == (problem, "a detail")
            kit.clock.now += 0.05
        assert len(kit.backend.asked) == 1
        kit.clock.now += 0.6
        kit.backend.gives = "first"
        assert await kit.text() == "first"

    run(work, failed=3)


def test_a_failure_with_an_old_value_beside_it_leaves_the_vault_alone_too(run):
    async def work(kit: Kit) -> None:
        await kit.fetch()
        kit.backend.gives = VaultFailed("unreachable")
        kit.clock.now += 31
        for _ in range(50):
            assert (await kit.fetch()).stale
        assert len(kit.backend.asked) == 2

    run(work, stale=3600, failed=3)


def test_whoever_needs_a_value_of_now_is_not_told_an_earlier_failure(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = VaultFailed("sealed")
        await kit.failure()
        kit.backend.gives = "first"
        assert await kit.text(not_before=kit.clock.now) == "first"
        assert await kit.text() == "first"  # and the failure is forgotten

    run(work, failed=3)


def test_each_who_waits_for_a_failure_gets_one_of_his_own(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened, kit.backend.gives = asyncio.Event(), VaultFailed("denied", "reading the secret")
        waiting = [kit.start() for _ in range(100)]
        await kit.asked(1)
        kit.backend.opened.set()
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert {(type(one), one.problem, one.detail) for one in failures} == {
            (VaultFailed, "denied", "reading the secret")
        }
        assert len({id(one) for one in failures}) == 100
        assert len(kit.backend.asked) == 1

    run(work)


def test_what_the_store_says_is_no_failure_of_the_vault(run):
    async def work(kit: Kit) -> None:
        await kit.providers.catalogue()
        async with kit.node.store.change("keys") as change:
            await change.run("UPDATE stored_secret SET sealed = $1", bytes(40))
        failures = await asyncio.gather(*(kit.fetch() for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in failures] == [KeyUnknown] * 3
        assert len({id(one) for one in failures}) == 3  # what is added to one for its caller is added to no other
        assert kit.backend.asked == []

    run(work)
