"""Fetching secrets: asked for once however many want them, believed for a while, and never told to a log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from canary import leaks, new_canary
from keyrelay.errors import KeyUnknown
from keyrelay.pam import fetching, memory
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.fetching import Fetched, Patience, Vaults
from keyrelay.pam.local import EntryDraft, LocalDb
from keyrelay.pam.model import GivenValue, Provider, ProviderDraft, ProviderType
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.secrets.model import FromPam, SecretText
from keyrelay.server import Node

PASSING = ["unreachable", "timeout", "sealed"]
LASTING = ["not_found", "denied", "bad_answer", "parameter_missing", "bad_parameter", "extra_missing"]
TOKEN = new_canary()


class Fake:
    """A back end that does what a test says, and counts."""

    name: ClassVar[str] = "Fake"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "Host"),
        Parameter("Token", "Token", secret=True),
        Parameter("Region", "Region", required=False, default="eu"),
        Parameter("Pin", "Pin", secret=True, required=False, default="0000"),
        Parameter("Namespace", "Namespace", required=False),
        Parameter("Secret", "Secret", instance=True),
        Parameter("Version", "Version", instance=True, required=False, default="latest"),
        Parameter("Field", "Field", instance=True, required=False),
    )

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, SecretText | str]]] = []
        self.gives: Any = "first"
        self.opened: asyncio.Event | None = None
        self.cancelled = 0

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, Any], means: Means) -> Any:
        self.asked.append((dict(wanted), dict(given)))
        gives = self.gives
        if self.opened is not None:
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(gives, BaseException):
            raise gives
        if callable(gives):
            gives = gives(wanted, given)
        return SecretText(gives) if type(gives) is str else gives


class Newer(Fake):
    parameters = (*Fake.parameters, Parameter("Account", "Account"))


class Clock:
    """A clock that a test turns on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kit:
    """What a test works with: a real store, a provider of the fake type in it, and what fetches."""

    node: Node
    providers: ProviderKeeper
    vaults: Vaults
    backend: Fake
    clock: Clock
    provider: int
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def reference(self, secret: str = "smtp", **more: str | None) -> FromPam:
        return FromPam(self.provider, {"Secret": secret, **more})

    async def fetch(self, secret: str = "smtp", not_before: float | None = None, **more: str | None) -> Fetched:
        return await self.vaults.fetch(self.reference(secret, **more), not_before=not_before)

    async def text(self, secret: str = "smtp", **more: Any) -> str:
        return (await self.fetch(secret, **more)).text.reveal()

    async def failure(self, secret: str = "smtp", **more: Any) -> VaultFailed:
        with pytest.raises(VaultFailed) as failed:
            await self.fetch(secret, **more)
        return failed.value

    def start(self, secret: str = "smtp", **more: Any) -> asyncio.Task[Fetched]:
        self.tasks.append(asyncio.create_task(self.fetch(secret, **more)))
        return self.tasks[-1]

    async def asked(self, times: int) -> None:
        """Wait until the back end has been asked so often."""
        async with asyncio.timeout(20):
            while len(self.backend.asked) < times:  # noqa: ASYNC110 - it is the test's own back end
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Let everything that can go on go on."""
        for _ in range(20):
            await asyncio.sleep(0)


Work = Callable[[Kit], Awaitable[Any]]
VALUES = {"Host": "https://vault.example.org", "Token": TOKEN}


def draft(kind: str, name: str = "Vault", values: Mapping[str, str] = VALUES, **more: Any) -> ProviderDraft:
    given = tuple(GivenValue(None, each, value) for each, value in values.items())
    return ProviderDraft(name=name, type_id=kind, values=given, **more)


async def type_id(providers: ProviderKeeper, name: str = "Fake") -> str:
    kind = (await providers.catalogue()).type_named(name)
    assert kind is not None
    return kind.id


@pytest.fixture
def run(sqlite_settings) -> Callable[..., Any]:
    return lambda work, **more: asyncio.run(worked(sqlite_settings, work, **more))


async def worked(settings, work: Work, seconds: float = 30.0, backend: Fake | None = None, **patience: float) -> Any:
    node = await Node.open(settings)
    backend, clock = backend or Fake(), Clock()
    backends = {backend.name: backend, LocalDb.name: LocalDb(node.store, node.keyring)}
    providers = ProviderKeeper(node.store, node.keyring, lambda: backends)

    def no_tls() -> Any:
        raise AssertionError("nothing is connected to")

    vaults = Vaults(providers, Means(no_tls, no_tls, seconds), Patience(**patience), clock)
    try:
        known = (await providers.catalogue()).providers
        made = next(iter(known.values()), None) or await providers.add(draft(await type_id(providers)))
        kit = Kit(node, providers, vaults, backend, clock, made.id)
        return await work(kit)
    finally:
        await vaults.close()
        await node.close()


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


def logged(caplog) -> bytes:
    return "\n".join([caplog.text, *(repr(vars(record)) for record in caplog.records)]).encode()


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
