"""The contract suite passes a back end that keeps the contract, and catches one that breaks any rule of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import posixpath
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar
from urllib.parse import quote, unquote

import pytest

from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.secrets.model import SecretText, has_control
from keyrelay.testing import pam
from keyrelay.testing.pam import Case, PamContract

PASSWORD = "password-of-the-vault"
TOKEN = "token-of-the-sign-in"


class Vault:
    """One in memory, with the habits of HTTP servers."""

    def __init__(self) -> None:
        self.value = "value-of-the-secret"

    async def sign_in(self, host: str, password: str) -> str:
        await asyncio.sleep(0.002)
        if host != "vault.test":
            raise ConnectionRefusedError(f"nobody at {host} for {password}")
        if password != PASSWORD:
            raise PermissionError(f"wrong: {password}")
        return TOKEN

    async def read(self, token: str, path: str) -> dict[str, str]:
        await asyncio.sleep(0.002)
        assert token == TOKEN
        name = unquote(posixpath.normpath("/" + re.split(r"[?#;&\r\n\0]", path)[0])).strip("/")
        return {"smtp": {"password": self.value}}[name]


class Good:
    """Keeps the contract. The others here break one rule of it each."""

    name: ClassVar[str] = "Good"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "Host"),
        Parameter("Password", "Password", secret=True),
        Parameter("Secret", "Secret", instance=True),
        Parameter("Field", "Field", instance=True, required=False, default="password"),
    )

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.signed_in: dict[str, str] = {}

    async def fetch(self, wanted, given, means):
        return SecretText(await self.read(await self.token(given), wanted))

    async def token(self, given):
        key = str(hash((given["Host"], given["Password"].reveal())))
        if key not in self.signed_in:
            self.signed_in[key] = await self.sign_in(given)
        return self.signed_in[key]

    async def sign_in(self, given):
        if has_control(given["Password"].reveal()):
            raise VaultFailed("bad_parameter", "Password has control characters")
        try:
            return await self.vault.sign_in(given["Host"], given["Password"].reveal())
        except OSError as problem:
            failure = self.meaning(problem)
        raise failure

    def meaning(self, problem):
        away = isinstance(problem, ConnectionError)
        return VaultFailed("unreachable", "nobody listens there") if away else VaultFailed("denied")

    def encoded(self, name):
        try:
            return quote(name, safe="")
        except UnicodeEncodeError:
            failure = VaultFailed("bad_parameter", "Secret is no name")
        raise failure

    async def read(self, token, wanted):
        read = await self.look_up(token, self.encoded(wanted["Secret"]))
        if read is None or wanted["Field"] not in read:
            raise VaultFailed("not_found")
        return read[wanted["Field"]]

    async def look_up(self, token, path):
        try:
            return await self.vault.read(token, path)
        except KeyError:
            return None


def case_of(kind: type[Good]) -> Case:
    vault = Vault()

    def rotate() -> str:
        vault.value += "-rotated"
        return vault.value

    return Case(
        backend=kind(vault),
        means=Means(ssl.create_default_context, ssl.create_default_context),
        given={"Host": "vault.test", "Password": SecretText(PASSWORD)},
        wanted={"Secret": "smtp", "Field": "password"},
        value=vault.value,
        missing={"Secret": "none", "Field": "password"},
        refused={"Host": "vault.test", "Password": SecretText("another-password")},
        away={"Host": "nowhere.test", "Password": SecretText(PASSWORD)},
        rotate=rotate,
        handed_out=[TOKEN],
    )


class TestOneThatKeepsTheContract(PamContract):
    @pytest.fixture
    def case(self):
        return case_of(Good)


# --- Back ends that break it ---------------------------------------------------------------------------------


class WithoutName(Good):
    name = ""


class TellsText(Good):
    async def fetch(self, wanted, given, means):
        return (await super().fetch(wanted, given, means)).reveal()


class TellsSomethingElse(Good):
    async def read(self, token, wanted):
        return await super().read(token, wanted) + "\n"


class OneAtATime(Good):
    busy = False

    async def fetch(self, wanted, given, means):
        if self.busy:
            raise VaultFailed("sealed", "busy")
        self.busy = True
        try:
            return await super().fetch(wanted, given, means)
        finally:
            self.busy = False


class MixesCallers(Good):
    asked = 0

    async def read(self, token, wanted):
        self.asked += 1
        number = self.asked
        value = await super().read(token, wanted)
        return value if number == self.asked else f"{value}{number}"


class BoundToALoop(Good):
    loop = None

    async def fetch(self, wanted, given, means):
        self.loop = self.loop or asyncio.get_running_loop()
        self.loop.call_soon(str)
        return await super().fetch(wanted, given, means)


class EmptyForNothing(Good):
    async def look_up(self, token, path):
        return await super().look_up(token, path) or {"password": ""}


class KeyErrorForNothing(Good):
    async def look_up(self, token, path):
        return await self.vault.read(token, path)


class ProblemOfItsOwn(Good):
    async def look_up(self, token, path):
        read = await super().look_up(token, path)
        if read is None:
            raise VaultFailed("no_such_thing")
        return read


class DetailOfManyLines(Good):
    async def look_up(self, token, path):
        read = await super().look_up(token, path)
        if read is None:
            raise VaultFailed("not_found", "first\nsecond")
        return read


class DetailOfAPage(DetailOfManyLines):
    async def look_up(self, token, path):
        read = await Good.look_up(self, token, path)
        if read is None:
            raise VaultFailed("not_found", "<html>" * 100)
        return read


class UnreachableForDenied(Good):
    def meaning(self, problem):
        return VaultFailed("unreachable")


class DeniedForUnreachable(Good):
    def meaning(self, problem):
        return VaultFailed("denied")


class LetsErrorsThrough(Good):
    async def sign_in(self, given):
        return await self.vault.sign_in(given["Host"], given["Password"].reveal())


class OneSignInForAll(Good):
    async def token(self, given):
        if not self.signed_in:
            self.signed_in["all"] = await self.sign_in(given)
        return self.signed_in["all"]


class OneSignInForAHost(Good):
    async def token(self, given):
        if given["Host"] not in self.signed_in:
            self.signed_in[given["Host"]] = await self.sign_in(given)
        return self.signed_in[given["Host"]]


class NeverForgives(Good):
    failed = False

    async def fetch(self, wanted, given, means):
        if self.failed:
            raise VaultFailed("denied")
        try:
            return await super().fetch(wanted, given, means)
        except VaultFailed:
            self.failed = True
            raise


class KeepsValues(Good):
    kept = None

    async def fetch(self, wanted, given, means):
        self.kept = self.kept or await super().fetch(wanted, given, means)
        return self.kept


class CannotBeCancelled(Good):
    async def fetch(self, wanted, given, means):
        try:
            return await super().fetch(wanted, given, means)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)


class FailsWhenCancelled(Good):
    async def fetch(self, wanted, given, means):
        try:
            return await super().fetch(wanted, given, means)
        except asyncio.CancelledError:
            raise VaultFailed("timeout") from None


class WaitsForOneWhoHasGone(Good):
    signing = None

    async def token(self, given):
        if self.signing is not None:
            await self.signing.wait()
        elif not self.signed_in:
            self.signing = asyncio.Event()
            await super().token(given)
            self.signing.set()
            self.signing = None
        return TOKEN


class SharesAnUnshieldedTask(Good):
    task = None

    async def token(self, given):
        if self.task is None:
            self.task = asyncio.create_task(super().token(given))
        return await self.task


class Unencoded(Good):
    def encoded(self, name):
        return name


class EncodedWithoutSlashes(Good):
    def encoded(self, name):
        return quote(name, safe="/", errors="replace")


class DotsForgotten(Good):
    def encoded(self, name):
        return re.sub(r"[^\w./]", "-", name)


class CrashesOnHalfACharacter(Good):
    def encoded(self, name):
        return quote(name, safe="")


class RepeatsWhatIsOdd(Good):
    async def read(self, token, wanted):
        if "#" in wanted["Secret"]:
            raise VaultFailed("bad_parameter", f"Secret {wanted['Secret']} is odd")
        return await super().read(token, wanted)


class AnyFieldLeadsToASecret(Good):
    async def read(self, token, wanted):
        return "of another" if ".." in wanted["Field"] else await super().read(token, wanted | {"Field": "password"})


class CrashesOnOddCredentials(Good):
    async def sign_in(self, given):
        given["Password"].reveal().encode()
        return await super().sign_in(given)


class ChangesWhatItIsGiven(Good):
    async def fetch(self, wanted, given, means):
        wanted["Field"] = "password"
        return await super().fetch(wanted, given, means)


class LogsTheValue(Good):
    async def read(self, token, wanted):
        value = await super().read(token, wanted)
        logging.getLogger("vault").debug("got %s", value)
        return value


class LogsTheTokenBesideTheSentence(Good):
    async def token(self, given):
        token = await super().token(given)
        logging.getLogger("vault").debug("signed in", extra={"facts": {"token": token}})
        return token


class PrintsThePassword(Good):
    async def token(self, given):
        print(given["Password"].reveal())
        return await super().token(given)


class TellsTheRefusedPassword(Good):
    def meaning(self, problem):
        return VaultFailed(super().meaning(problem).problem, str(problem))


class ChainsTheLibrarysError(Good):
    async def sign_in(self, given):
        try:
            return await self.vault.sign_in(given["Host"], given["Password"].reveal())
        except OSError as problem:
            raise self.meaning(problem) from None


class ShowsItsSignIns(Good):
    def __repr__(self):
        return f"ShowsItsSignIns({self.signed_in})"


BREAKS: dict[str, list[type[Good]]] = {
    "test_its_types_parameters_are_described": [WithoutName],
    "test_a_secret_that_is_there_comes_as_secret_text": [TellsText, TellsSomethingElse, ChangesWhatItIsGiven],
    "test_many_at_once_get_the_same": [OneAtATime, MixesCallers],
    "test_it_works_in_one_event_loop_after_another": [BoundToALoop],
    "test_one_that_is_not_there_is_not_found": [
        EmptyForNothing,
        KeyErrorForNothing,
        ProblemOfItsOwn,
        DetailOfManyLines,
        DetailOfAPage,
    ],
    "test_wrong_credentials_are_denied": [UnreachableForDenied, LetsErrorsThrough],
    "test_the_sign_in_of_one_provider_serves_no_other": [OneSignInForAll, OneSignInForAHost],
    "test_a_vault_that_is_away_is_unreachable": [DeniedForUnreachable, LetsErrorsThrough],
    "test_after_a_failure_the_next_fetch_works": [NeverForgives],
    "test_a_value_is_asked_for_each_time": [KeepsValues],
    "test_a_fetch_may_be_cancelled": [CannotBeCancelled, FailsWhenCancelled, WaitsForOneWhoHasGone],
    "test_one_that_is_cancelled_takes_no_other_along": [SharesAnUnshieldedTask, WaitsForOneWhoHasGone],
    "test_odd_names_lead_nowhere_else": [
        Unencoded,
        EncodedWithoutSlashes,
        DotsForgotten,
        CrashesOnHalfACharacter,
        RepeatsWhatIsOdd,
        AnyFieldLeadsToASecret,
    ],
    "test_odd_values_of_a_provider_are_no_crash": [CrashesOnOddCredentials],
    "test_nothing_that_is_logged_printed_or_raised_holds_a_secret": [
        LogsTheValue,
        LogsTheTokenBesideTheSentence,
        PrintsThePassword,
        TellsTheRefusedPassword,
        ChainsTheLibrarysError,
        ShowsItsSignIns,
    ],
}
BAD_CASES: list[Callable[[Case], Case]] = [
    lambda case: replace(case, given={**case.given, "Port": "443"}),
    lambda case: replace(case, given={"Host": "vault.test"}),
    lambda case: replace(case, given={"Host": "vault.test", "Password": PASSWORD}),
    lambda case: replace(case, given={"Host": SecretText("vault.test"), "Password": SecretText(PASSWORD)}),
    lambda case: replace(case, wanted={"Field": "password"}),
    lambda case: replace(case, wanted={"Secret": ""}),
    lambda case: replace(case, missing={"Secret": "none", "Host": "vault.test"}),
    lambda case: replace(case, refused={"Password": SecretText("another-password")}),
    lambda case: replace(case, refused=None),
    lambda case: replace(case, away={}),
]


def passes(test: str, kind: type[Good], request: pytest.FixtureRequest) -> bool:
    """Whether a back end passes a test of the suite, at whatever moment."""
    method = getattr(PamContract(), test)
    needs = inspect.signature(method).parameters
    fixtures = {name: request.getfixturevalue(name) for name in ("caplog", "capfd") if name in needs}
    moments = [{"moment": moment} for moment in pam.MOMENTS] if "moment" in needs else [{}]
    try:
        for moment in moments:
            method(case_of(kind), **moment, **fixtures)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a test fails in one way or another
        return False
    return True


@pytest.mark.parametrize(("test", "kind"), [(test, kind) for test, kinds in BREAKS.items() for kind in kinds])
def test_a_back_end_that_breaks_a_rule_fails_the_test_of_it(test, kind, request, monkeypatch):
    assert passes(test, Good, request)
    monkeypatch.setattr(pam, "PATIENCE", 0.5)
    assert not passes(test, kind, request)


@pytest.mark.parametrize("spoilt", BAD_CASES)
def test_a_case_that_no_provider_could_be_fails(spoilt):
    with pytest.raises(AssertionError):
        PamContract().test_the_case_gives_what_the_type_says(spoilt(case_of(Good)))


def test_a_rotation_that_rotates_nothing_fails():
    case = case_of(Good)
    with pytest.raises(AssertionError):
        PamContract().test_a_value_is_asked_for_each_time(replace(case, rotate=lambda: case.value))


def test_every_test_of_the_suite_has_been_seen_to_fail():
    tests = {name for name in vars(PamContract) if name.startswith("test_")}
    assert tests == BREAKS.keys() | {"test_the_case_gives_what_the_type_says"}


def test_a_case_shows_neither_its_value_nor_what_was_handed_out():
    shown = repr(case_of(Good))
    assert [secret for secret in (PASSWORD, TOKEN, Vault().value) if secret in shown] == []
