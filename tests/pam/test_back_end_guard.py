"""What a back end is given, one that does what it should not, and what nobody is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from fetching_kit import TOKEN, Fake, Kit, Newer, draft, logged, type_id

from canary import leaks, new_canary
from keyrelay.pam.backend import Parameter, VaultFailed
from keyrelay.secrets.model import FromPam, SecretText

# --- Back ends that do what they should not ------------------------------------------------------------------


def test_a_back_end_that_hangs_is_ended_in_time(run):
    async def work(kit: Kit) -> None:
        kit.backend.opened = asyncio.Event()
        failure = await kit.failure()
        assert (failure.problem, failure.detail) == ("timeout", "no answer within 0.05 seconds")
        assert kit.backend.cancelled == 1

    run(work, seconds=0.05)


def chained(secret: str) -> VaultFailed:
    failure = VaultFailed("denied", "reading the secret")
    failure.__cause__ = ValueError(secret)
    return failure


CANARY = new_canary()
BREAKS = {
    "ValueError": ValueError(CANARY),
    "KeyError": KeyError(CANARY),
    "SystemExit": SystemExit(CANARY),
    "CancelledError": asyncio.CancelledError(CANARY),
    "ExceptionGroup": ExceptionGroup(CANARY, [ValueError(CANARY)]),
    "RecursionError": RecursionError(),
    "VaultFailed, with a problem that is none": VaultFailed(CANARY),
}


@pytest.mark.parametrize("error", BREAKS)
def test_whatever_a_back_end_raises_is_a_bad_answer_and_its_words_are_told_to_nobody(run, caplog, error):
    async def work(kit: Kit) -> None:
        kit.backend.gives = BREAKS[error]
        with caplog.at_level(logging.DEBUG):
            failure = await kit.failure()
        assert (failure.problem, failure.detail) == ("bad_answer", f"the back end of Fake failed ({error})")
        assert (failure.__cause__, failure.__context__) == (None, None)
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.facts == {"type": "Fake", "error": error}
        assert leaks({"words": CANARY, "token": TOKEN}, logged(caplog)) == []
        kit.clock.now += 10
        kit.backend.gives = "first"
        assert await kit.text() == "first"

    run(work)


def test_what_stands_behind_a_failure_is_cut_off(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = chained(CANARY)
        failure = await kit.failure()
        assert (failure.problem, failure.__cause__, failure.__context__) == ("denied", None, None)

    run(work)


def test_a_detail_is_one_line_of_a_length_to_read(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = VaultFailed("denied", "a\r\n\x1b[31mb\ud800" + "c" * 1000)
        detail = (await kit.failure()).detail
        assert detail.startswith("a   [31mb c")
        assert len(detail) <= 300

    run(work)


@pytest.mark.parametrize("gives", [b"bytes", 7, None, ["first"], SecretText(b"bytes"), SecretText(None)], ids=repr)
def test_what_is_no_secret_is_a_bad_answer(run, gives):
    async def work(kit: Kit) -> None:
        kit.backend.gives = lambda *_: gives
        failure = await kit.failure()
        assert (failure.problem, failure.detail) == (
            "bad_answer",
            "the back end of Fake gave something else than a secret",
        )

    run(work)


def test_a_str_is_no_secret(run):
    class Careless(Fake):
        async def fetch(self, wanted, given, means):
            return CANARY

    async def work(kit: Kit) -> None:
        failure = await kit.failure()
        assert failure.problem == "bad_answer"
        assert CANARY not in str(failure)

    run(work, backend=Careless())


def test_an_empty_secret_is_not_found_and_an_endless_one_is_a_bad_answer(run):
    async def work(kit: Kit) -> None:
        kit.backend.gives = SecretText("")
        assert (await kit.failure()).problem == "not_found"
        kit.backend.gives = "x" * 65_537
        assert (await kit.failure("another")).problem == "bad_answer"
        kit.backend.gives = "x" * 65_536
        assert len(await kit.text("a third")) == 65_536

    run(work)


# --- What a back end is given --------------------------------------------------------------------------------


def test_defaults_stand_in_and_secret_values_come_as_secret_text(run):
    async def work(kit: Kit) -> None:
        await kit.fetch(Version=None, Field="", Unknown="x")
        ((wanted, given),) = kit.backend.asked
        assert wanted == {"Secret": "smtp", "Version": "latest"}
        assert given == {
            "Host": "https://vault.example.org",
            "Token": SecretText(TOKEN),
            "Region": "eu",
            "Pin": SecretText("0000"),
        }
        await kit.fetch(Version="2", Field="password")
        assert kit.backend.asked[1][0] == {"Secret": "smtp", "Version": "2", "Field": "password"}

    run(work)


@pytest.mark.parametrize("parameters", [{}, {"Secret": ""}, {"Secret": None}, {"secret": "smtp"}], ids=repr)
def test_a_required_parameter_without_a_value_is_missing_and_nobody_is_asked(run, parameters):
    async def work(kit: Kit) -> None:
        with pytest.raises(VaultFailed) as failed:
            await kit.vaults.fetch(FromPam(kit.provider, parameters))
        assert (failed.value.problem, failed.value.detail) == ("parameter_missing", "Secret has no value")
        assert kit.backend.asked == []

    run(work)


def test_a_parameter_longer_than_any_name_is_refused_and_not_repeated(run):
    async def work(kit: Kit) -> None:
        failure = await kit.failure("x" * 4097)
        assert (failure.problem, failure.detail) == ("bad_parameter", "Secret has more than 4096 characters")
        assert await kit.text("x" * 4096) == "first"

    run(work)


def test_a_parameter_that_a_plug_in_needs_since_its_update_is_told_to_be_missing(run):
    async def nothing(_: Kit) -> None: ...

    async def work(kit: Kit) -> None:
        failure = await kit.failure()
        assert (failure.problem, failure.detail) == ("parameter_missing", "Account of the provider has no value")
        assert kit.backend.asked == []

    run(nothing)
    run(work, backend=Newer())


@pytest.mark.parametrize("what", ["unknown", "remote", "without a back end"])
def test_a_provider_that_cannot_be_asked_is_told_without_asking(run, what):
    async def work(kit: Kit) -> None:
        number = 99
        if what == "remote":
            number = (await kit.providers.add(draft(await type_id(kit.providers), "Far", {}, remote=True))).id
        if what == "without a back end":
            kind = await kit.providers.add_type("Strange", (Parameter("Secret", "Secret", instance=True),))
            number = (await kit.providers.add(draft(kind.id, "Strange", {}))).id
        with pytest.raises(VaultFailed) as failed:
            await kit.vaults.fetch(FromPam(number, {"Secret": "smtp"}))
        assert failed.value.problem == "bad_parameter"
        assert str(number) in failed.value.detail
        assert kit.backend.asked == []

    run(work)


# --- Secrets -------------------------------------------------------------------------------------------------


def test_no_log_and_no_representation_holds_a_secret(run, caplog):
    value = new_canary()

    async def work(kit: Kit) -> str:
        kit.backend.gives = value
        found = await kit.fetch()
        told = [repr(found), repr(kit.vaults), repr(vars(kit.vaults)), repr(replace(found, stale=True))]
        kit.backend.gives = VaultFailed("unreachable", "nobody listens there")
        kit.clock.now += 31
        told.append(repr(await kit.fetch()))
        kit.clock.now += 3600
        told.append(repr(await kit.failure()))
        return "\n".join(told)

    with caplog.at_level(logging.DEBUG):
        told = run(work, stale=60)
    assert leaks({"value": value, "token": TOKEN}, told.encode() + logged(caplog)) == []
