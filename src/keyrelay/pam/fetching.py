"""Fetching a secret at the moment it is used: kept for a short while, asked for once however many want it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace

from keyrelay.errors import KeyrelayError
from keyrelay.pam.backend import Means, VaultFailed
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.guard import guarded
from keyrelay.pam.model import Provider
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.secrets.model import FromPam, SecretText

_log = logging.getLogger(__name__)
_MOST_KEPT = 1000
_VALUE_CHARACTERS = 4096
_PASSING = frozenset({"unreachable", "timeout", "sealed"})
# The vault itself says that the secret is not for us any more: an old value is not used after that, come what may.
_FINAL = frozenset({"not_found", "denied"})
_Key = tuple[int, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A secret from a vault. ``asked_at``: when the vault was asked, on ``clock``; ``seconds``: how long that took.

    ``kept``: it was fetched for somebody else before. ``stale``: the vault could not be asked again, and the operator
    allows an old value meanwhile.
    """

    text: SecretText
    provider: Provider
    asked_at: float
    seconds: float
    kept: bool = False
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long what is known is believed, in seconds.

    ``fresh``: a value is used without asking again. ``stale``: how much longer it is used while the vault is down; 0
    for not at all. ``failed``: a failure is told again without asking.
    """

    fresh: float = 30.0
    stale: float = 0.0
    failed: float = 3.0


@dataclass(frozen=True, slots=True)
class _Failure:
    problem: VaultFailed
    at: float


class Vaults:
    """Fetches for this process, in one event loop. What is kept is gone whenever anything about providers changes."""

    def __init__(
        self,
        providers: ProviderKeeper,
        means: Means,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._providers = providers
        self._means = means
        self._patience = patience
        self._catalogue = Catalogue({}, {})
        self._kept: dict[_Key, Fetched] = {}
        self._failed: dict[_Key, _Failure] = {}
        self._asking: dict[_Key, tuple[float, asyncio.Task[Fetched | BaseException]]] = {}
        self._tasks: set[asyncio.Task[Fetched | BaseException]] = set()

    async def fetch(self, reference: FromPam, *, not_before: float | None = None) -> Fetched:
        """The secret a reference names.

        ``not_before``: a moment on ``clock``; a value that was asked for earlier will not do, nor a stale one. Raises
        VaultFailed, and for the local type what the store raises.
        """
        provider, key = await self._provider(reference)
        now = self.clock()
        kept = self._kept.get(key)
        if kept is not None and self._will_do(kept, now, not_before):
            return replace(kept, kept=True)
        failure = self._failed.get(key)
        if failure is not None and not_before is None and now < failure.at + self._patience.failed:
            return self._stale_or(key, failure.problem)
        outcome = await self._shared(key, provider, now, not_before)
        if isinstance(outcome, Fetched):
            return outcome
        if isinstance(outcome, VaultFailed) and not_before is None:
            return self._stale_or(key, outcome)
        raise _anew(outcome)

    async def close(self) -> None:
        """End the requests that are under way."""
        while self._tasks:  # whoever waited for one may have asked again
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _will_do(self, kept: Fetched, now: float, not_before: float | None) -> bool:
        if not_before is not None:
            return kept.asked_at >= not_before
        return now < kept.asked_at + self._patience.fresh

    def _stale_or(self, key: _Key, problem: VaultFailed) -> Fetched:
        kept, now = self._kept.get(key), self.clock()
        usable = kept is not None and now < kept.asked_at + self._patience.fresh + self._patience.stale
        if kept is None or not usable or problem.problem not in _PASSING or not self._patience.stale:
            raise _anew(problem)
        facts = {"provider": kept.provider.id, "problem": problem.problem, "seconds_old": round(now - kept.asked_at)}
        _log.warning("A vault does not answer; an old value of a secret is used", extra={"facts": facts})
        return replace(kept, kept=True, stale=True)

    async def _provider(self, reference: FromPam) -> tuple[Provider, _Key]:
        catalogue = await self._providers.catalogue()
        if catalogue is not self._catalogue:
            self._catalogue = catalogue
            self._kept.clear()
            self._failed.clear()
            self._asking.clear()  # whoever waits for one of these still gets it
        provider = catalogue.providers.get(reference.provider)
        if provider is None or provider.remote or provider.type.backend is None:
            raise VaultFailed("bad_parameter", f"PAM provider {reference.provider} does not exist or cannot be asked")
        return provider, (provider.id, tuple(sorted(_wanted(provider, reference).items())))

    async def _shared(
        self, key: _Key, provider: Provider, now: float, not_before: float | None
    ) -> Fetched | BaseException:
        began, task = self._asking.get(key, (0.0, None))
        if task is None or (not_before is not None and began < not_before):
            task = asyncio.create_task(self._ask(key, provider, now, self._catalogue), name="keyrelay-vault")
            self._asking[key] = now, task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Unlike awaiting the task itself, a caller that is cancelled here leaves it to the others.
        await asyncio.wait([task])
        return VaultFailed("unreachable", "keyrelay is stopping") if task.cancelled() else task.result()

    async def _ask(self, key: _Key, provider: Provider, now: float, catalogue: Catalogue) -> Fetched | BaseException:
        """What the vault gives, or why it does not; an error is no exception here, since several callers raise it."""
        try:
            text = await self._from_backend(provider, dict(key[1]))
            outcome: Fetched | BaseException = Fetched(text, provider, now, self.clock() - now)
        except (VaultFailed, KeyrelayError) as problem:
            outcome = problem
        finally:
            if self._asking.get(key, (0, None))[1] is asyncio.current_task():
                del self._asking[key]
        if catalogue is self._catalogue:
            self._note(key, now, outcome)
        return outcome

    def _note(self, key: _Key, asked_at: float, outcome: Fetched | BaseException) -> None:
        newest = self._kept.get(key)
        if newest is not None and newest.asked_at > asked_at:
            return  # it took longer than one that was asked for later
        if isinstance(outcome, VaultFailed):
            self._failed[key] = _Failure(outcome, self.clock())
            if outcome.problem in _FINAL:
                self._kept.pop(key, None)
        elif isinstance(outcome, Fetched):
            self._failed.pop(key, None)
            self._kept.pop(key, None)
            self._kept[key] = outcome
        for kept in (self._kept, self._failed):
            while len(kept) > _MOST_KEPT:
                kept.pop(next(iter(kept)))

    async def _from_backend(self, provider: Provider, wanted: Mapping[str, str]) -> SecretText:
        given = _defaults(provider) | await self._providers.open_values(provider)
        for name, parameter in provider.type.levels(instance=False).items():
            if parameter.required and name not in given:  # a plug-in's, and newer than the provider
                raise VaultFailed("parameter_missing", f"{name} of the provider has no value")
        return await guarded(provider.type, wanted, given, self._means)


def _defaults(provider: Provider) -> dict[str, SecretText | str]:
    return {
        name: SecretText(one.default) if one.secret else one.default
        for name, one in provider.type.levels(instance=False).items()
        if one.default
    }


def _wanted(provider: Provider, reference: FromPam) -> dict[str, str]:
    """The instance-level values, with what stands in for those not given. Raises VaultFailed."""
    wanted: dict[str, str] = {}
    for name, parameter in provider.type.levels(instance=True).items():
        value = reference.parameters.get(name) or parameter.default
        if value and len(value) > _VALUE_CHARACTERS:
            raise VaultFailed("bad_parameter", f"{name} has more than {_VALUE_CHARACTERS} characters")
        if value:
            wanted[name] = value
        elif parameter.required:
            raise VaultFailed("parameter_missing", f"{name} has no value")
    return wanted


def _anew(problem: BaseException) -> BaseException:
    """An error that several callers raise, each with a traceback of its own."""
    if isinstance(problem, VaultFailed):
        return VaultFailed(problem.problem, problem.detail)
    return copy(problem)
