"""The contract of a PAM back end, as tests that anybody runs on a back end of their own.

    class TestMyVault(PamContract):
        @pytest.fixture
        def case(self):
            return Case(backend=MyVault(), means=..., given={...}, wanted={...}, value="...", missing={...})

Needs pytest (``pip install keyrelay[testing]``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import get_args

import pytest

from keyrelay.pam.backend import Backend, Means, Problem, VaultFailed
from keyrelay.pam.registry import mistakes
from keyrelay.secrets.model import SecretText, has_control

Given = Mapping[str, SecretText | str]

PATIENCE = 30.0
"""Seconds after which a fetch counts as one that never ends."""
MOMENTS = (0.0, 0.001, 0.004, 0.016, 0.064)
"""Seconds after which fetches are cancelled."""
_LONGEST_DETAIL = 300
_KEPT_QUIET = ("httpx2", "httpcore2")  # keyrelay lets them log no answers, at whatever level (keyrelay.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A back end that was just made, and a vault to try it on.

    ``wanted`` names a secret that is there, and ``value`` is what it holds; ``missing`` names one that is not.
    ``refused``: provider-level values that the vault refuses, ``away``: those of a vault where nobody listens; None
    where the type has no such thing. ``rotate`` gives the secret another value in the vault, and returns that;
    ``handed_out``: what else nobody may see, such as the token that the vault gives for a sign-in.
    """

    backend: Backend
    means: Means
    given: Given
    wanted: Mapping[str, str]
    value: str = field(repr=False)
    missing: Mapping[str, str]
    refused: Given | None = None
    away: Given | None = None
    rotate: Callable[[], str] | None = None
    handed_out: Sequence[str] = field(default=(), repr=False)


class PamContract:
    """Subclass it, and give it a fixture ``case``."""

    def test_its_types_parameters_are_described(self, case: Case) -> None:
        assert mistakes(case.backend) == []

    def test_the_case_gives_what_the_type_says(self, case: Case) -> None:
        """As keyrelay does: no other names, no empty texts, secrets as SecretText, and all that is required."""
        with_provider = [given for given in (case.given, case.refused, case.away) if given is not None]
        with_use = [case.wanted, case.missing]
        for instance, given in (*((False, one) for one in with_provider), *((True, one) for one in with_use)):
            described = {one.name: one for one in case.backend.parameters if one.instance is instance}
            assert given.keys() <= described.keys(), "values without a parameter"
            needed = {name for name, one in described.items() if one.required}
            assert needed <= given.keys(), "parameters without a value"
            for name, value in given.items():
                assert isinstance(value, SecretText) == described[name].secret, name
                assert _clear(value), name
        if any(isinstance(value, SecretText) for value in case.given.values()):
            assert case.refused is not None, "say which credentials the vault refuses"

    def test_a_secret_that_is_there_comes_as_secret_text(self, case: Case) -> None:
        found = fetch(case)
        assert isinstance(found, SecretText)
        assert found.reveal() == case.value

    def test_many_at_once_get_the_same(self, case: Case) -> None:
        async def many() -> list[SecretText]:
            return list(await asyncio.gather(*(_fetch(case) for _ in range(20))))

        assert {found.reveal() for found in asyncio.run(many())} == {case.value}

    def test_it_works_in_one_event_loop_after_another(self, case: Case) -> None:
        assert [fetch(case).reveal() for _ in range(3)] == [case.value] * 3

    def test_one_that_is_not_there_is_not_found(self, case: Case) -> None:
        assert problem(replace(case, wanted=case.missing)).problem == "not_found"

    def test_wrong_credentials_are_denied(self, case: Case) -> None:
        if case.refused is not None:
            assert problem(replace(case, given=case.refused)).problem == "denied"

    def test_the_sign_in_of_one_provider_serves_no_other(self, case: Case) -> None:
        """One object serves all providers of a type: what it remembers is remembered for the values it was given."""

        async def both() -> list[SecretText | BaseException]:
            await _fetch(case)
            other = replace(case, given=case.refused or case.given)
            return list(await asyncio.gather(_fetch(other), _fetch(case), _fetch(other), return_exceptions=True))

        if case.refused is not None:
            refused, found, again = asyncio.run(both())
            assert isinstance(found, SecretText)
            assert found.reveal() == case.value
            for failure in (refused, again):
                assert isinstance(failure, VaultFailed)
                assert failure.problem == "denied"

    def test_a_vault_that_is_away_is_unreachable(self, case: Case) -> None:
        if case.away is not None:
            assert problem(replace(case, given=case.away)).problem == "unreachable"

    def test_after_a_failure_the_next_fetch_works(self, case: Case) -> None:
        for failing in _failing(case):
            problem(failing)
            assert fetch(case).reveal() == case.value

    def test_a_value_is_asked_for_each_time(self, case: Case) -> None:
        """Values are kept by keyrelay, for as long as it is told to; a back end that did so would hide a rotation."""
        fetch(case)
        if case.rotate is not None:
            rotated = case.rotate()
            assert rotated != case.value, "rotate has to change the value"
            assert fetch(case).reveal() == rotated

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_fetch_may_be_cancelled(self, case: Case, moment: float) -> None:
        """It ends at once, as cancelled (or with its value, when that was there), and the next one works."""

        async def cancelled() -> SecretText:
            task = asyncio.create_task(_fetch(case))
            await asyncio.sleep(moment)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE / 2)
            assert task.done(), "it goes on after it was cancelled"
            assert task.cancelled() or task.result().reveal() == case.value
            return await _fetch(case)

        assert asyncio.run(cancelled()).reveal() == case.value

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_one_that_is_cancelled_takes_no_other_along(self, case: Case, moment: float) -> None:
        async def others() -> list[SecretText]:
            first, *rest = (asyncio.create_task(_fetch(case)) for _ in range(5))
            await asyncio.sleep(moment)
            first.cancel()
            await asyncio.wait([first, *rest], timeout=PATIENCE)
            assert not any(task.cancelled() for task in rest), "one caller's cancellation reached another"
            return [task.result() for task in rest]

        assert {found.reveal() for found in asyncio.run(others())} == {case.value}

    def test_odd_names_lead_nowhere_else(self, case: Case) -> None:
        """What would lead out of a path, into a header, or to another host is encoded or refused; never a crash."""
        for name in (parameter.name for parameter in case.backend.parameters if parameter.instance):
            real = case.wanted.get(name, "a")
            # A parameter may be one that this secret does not need, such as the field of one that has no fields.
            needed = _outcome(replace(case, wanted={**case.wanted, name: "keyrelay-has-no-such-name"})) is None
            for odd in (*ODD, *(form.format(real) for form in DISGUISED)):
                found = _outcome(replace(case, wanted={**case.wanted, name: odd}), odd)
                if needed:
                    assert found is None, f"{name}={odd[:60]!a} is another name, and led to a secret"
                else:
                    assert found in {None, case.value}, f"{name}={odd[:60]!a} led to another secret"

    def test_odd_values_of_a_provider_are_no_crash(self, case: Case) -> None:
        for name, value in case.given.items():
            for odd in (form.format(_clear(value)) for form in BROKEN):
                given = {**case.given, name: SecretText(odd) if isinstance(value, SecretText) else odd}
                _outcome(replace(case, given=given), odd)

    def test_nothing_that_is_logged_printed_or_raised_holds_a_secret(
        self, case: Case, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in _KEPT_QUIET:
            caplog.set_level(logging.WARNING, name)
        caplog.set_level(logging.DEBUG)  # and what is caught, which each of these calls sets
        told: list[str] = []
        for tried in (case, *_failing(case)):
            try:
                fetch(tried)
            except VaultFailed as failure:
                told += (f"{error!r} {vars(error)}" for error in _all(failure))
        told += (f"{record.getMessage()} {vars(record)}" for record in caplog.records)
        said = "\n".join([*told, caplog.text, repr(case.backend), *capfd.readouterr()])
        given = {**case.given, **{f"refused {name}": value for name, value in (case.refused or {}).items()}}
        secrets = {name: value.reveal() for name, value in given.items() if isinstance(value, SecretText)}
        secrets |= {"the value": case.value}
        secrets |= {f"number {number} of what was handed out": text for number, text in enumerate(case.handed_out, 1)}
        assert [name for name, secret in secrets.items() if secret in said] == []


ODD = (
    "../../sys/health",
    "..",
    "%2e%2e%2fsys",
    "a/../../b",
    "a?version=1",
    "a#b",
    "a&b=c;d",
    "a\r\nX-Injected: yes",
    "a\0b",
    "https://other.example/secret",
    "//other.example/secret",
    "\\\\other\\share",
    "odd name",
    "ä",
    "\ud800",
    "{0}",
    "x" * 5000,
)
"""Names of nothing, which a careless back end takes for more than a name."""

DISGUISED = (
    "./{}",
    "a/../{}",
    "{0}/../{0}",
    "%2e/{}",
    "{}?a=b",
    "{}#a",
    "{}&a=b",
    "{};a=b",
    "{}%00",
    "{}\0",
    "{}\r\nX-Injected: yes",
    "https://other.example/{}",
)
"""Other names than the real one, which stands in the braces: a careless back end is led to the same secret by them."""

BROKEN = ("{}\r\nX-Injected: yes", "{}\0", "{}\ud800")
"""What may stand in a provider's values by mistake."""


def fetch(case: Case) -> SecretText:
    """What the back end gives for ``case.wanted``, in an event loop of its own."""
    return asyncio.run(_fetch(case))


def problem(case: Case) -> VaultFailed:
    """How fetching fails."""
    with pytest.raises(VaultFailed) as failed:
        fetch(case)
    assert failed.value.problem in get_args(Problem), "no such problem"
    assert len(failed.value.detail) <= _LONGEST_DETAIL, "a detail is a sentence"
    assert not has_control(failed.value.detail), "a detail is one line"
    return failed.value


async def _fetch(case: Case) -> SecretText:
    async with asyncio.timeout(PATIENCE):
        # What is given is read, and not changed.
        return await case.backend.fetch(MappingProxyType(case.wanted), MappingProxyType(case.given), case.means)


def _outcome(case: Case, odd: str | None = None) -> str | None:
    """The value, or None for a VaultFailed, which must not repeat what was odd."""
    try:
        return fetch(case).reveal()
    except VaultFailed as failure:
        detail = failure.detail
    assert not has_control(detail), "a detail is one line"
    assert len(detail) <= _LONGEST_DETAIL, "a detail is a sentence"
    assert odd is None or len(odd) < len("a#b") or odd not in detail, "a detail repeats what was given"
    return None


def _failing(case: Case) -> Iterator[Case]:
    yield replace(case, wanted=case.missing)
    for given in (case.refused, case.away):
        if given is not None:
            yield replace(case, given=given)


def _clear(value: SecretText | str) -> str:
    return value.reveal() if isinstance(value, SecretText) else value


def _all(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that stand behind it; whoever prints its traceback prints them too."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _all(one)
        error = error.__cause__ or error.__context__
