"""Fetching a secret at the moment it is used: kept for a short while, asked for once however many want it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy

from keyrelay import traces
from keyrelay.errors import KeyrelayError
from keyrelay.pam.backend import Means, VaultFailed
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.guard import guarded
from keyrelay.pam.memory import Fetched, Key, Memory, Patience
from keyrelay.pam.model import LOCAL_TYPE, Provider
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.secrets.model import FromPam, SecretText

__all__ = ["Fetched", "Patience", "Vaults"]

_VALUE_CHARACTERS = 4096


class Vaults:
    """Fetches for this process, in one event loop. What is kept of a provider is gone when that changes."""

    def __init__(
        self,
        providers: ProviderKeeper,
        means: Means,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._providers = providers
        self._means = means
        self._memory = Memory(patience or Patience(), clock)
        self._catalogue = Catalogue({}, {})
        self._asking: dict[Key, tuple[float, asyncio.Task[Fetched | BaseException]]] = {}
        self._tasks: set[asyncio.Task[Fetched | BaseException]] = set()

    async def fetch(self, reference: FromPam, *, not_before: float | None = None) -> Fetched:
        """The secret a reference names.

        ``not_before``: a moment on ``clock``; a value that was asked for earlier will not do, nor a stale one. Raises
        VaultFailed, and for the local type what the store raises.
        """
        provider, key = await self._provider(reference)
        now = self.clock()
        kept = self._memory.value(key, not_before)
        if kept is not None:
            return kept
        failure = self._memory.failure(key) if not_before is None else None
        outcome = failure or await self._shared(key, provider, now, not_before)
        if isinstance(outcome, VaultFailed) and not_before is None:
            outcome = self._memory.stale(key, outcome) or outcome
        if isinstance(outcome, Fetched):
            return outcome
        raise _anew(outcome)

    def refused(self, reference: FromPam, asked_at: float) -> None:
        """The relay does not take the value that was asked for at that moment: it is not used again, stale or not."""
        provider = self._catalogue.providers.get(reference.provider)
        if provider is not None:
            with suppress(VaultFailed):  # the type takes other parameters by now, and nothing is kept for these
                self._memory.refused(_key(provider, reference), asked_at)

    async def close(self) -> None:
        """End the requests that are under way, and forget everything."""
        while self._tasks:  # whoever waited for one may have asked again
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        self._memory.close()

    async def _provider(self, reference: FromPam) -> tuple[Provider, Key]:
        catalogue = await self._providers.catalogue()
        if catalogue is not self._catalogue:
            self._renew(catalogue)
        provider = catalogue.providers.get(reference.provider)
        if provider is None or provider.remote or provider.type.backend is None:
            raise VaultFailed("bad_parameter", f"PAM provider {reference.provider} does not exist or cannot be asked")
        return provider, _key(provider, reference)

    def _renew(self, catalogue: Catalogue) -> None:
        """Forget what is known of providers that are not what they were; of others it stays, for bad times."""
        old, self._catalogue = self._catalogue.providers, catalogue
        known = self._memory.providers() | {key[0] for key in self._asking}
        changed = {one for one in known if not _is_unchanged(old.get(one), catalogue.providers.get(one))}
        self._memory.drop(changed)
        for key in [key for key in self._asking if key[0] in changed]:
            del self._asking[key]  # whoever waits for it still gets it

    async def _shared(
        self, key: Key, provider: Provider, now: float, not_before: float | None
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

    async def _ask(self, key: Key, provider: Provider, now: float, catalogue: Catalogue) -> Fetched | BaseException:
        """What the vault gives, or why it does not; an error is no exception here, since several callers raise it."""
        outcome: Fetched | VaultFailed | KeyrelayError
        try:
            with traces.span("vault fetch"):
                traces.note(keyrelay__provider=provider.id, keyrelay__provider_type=provider.type.name)
                try:
                    text = await self._from_backend(provider, dict(key[1]))
                    outcome = Fetched(text, provider, now, self.clock() - now)
                except (VaultFailed, KeyrelayError) as problem:
                    outcome = problem
                traces.note(keyrelay__outcome=_outcome(outcome))
        finally:
            if self._asking.get(key, (0, None))[1] is asyncio.current_task():
                del self._asking[key]
        same = catalogue is self._catalogue or _is_unchanged(provider, self._catalogue.providers.get(provider.id))
        if same and isinstance(outcome, Fetched | VaultFailed):
            self._memory.note(key, now, outcome)
        return outcome

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


def _is_unchanged(old: Provider | None, new: Provider | None) -> bool:
    """Whether a provider still gives what it gave. One of the local type does not show a change of its entries."""
    return old is not None and old == new and old.type.name != LOCAL_TYPE


def _key(provider: Provider, reference: FromPam) -> Key:
    return provider.id, tuple(sorted(_wanted(provider, reference).items()))


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


def _outcome(outcome: Fetched | VaultFailed | KeyrelayError) -> str:
    """In one word of ours."""
    if isinstance(outcome, Fetched):
        return "fetched"
    return outcome.problem if isinstance(outcome, VaultFailed) else outcome.code


def _anew(problem: BaseException) -> BaseException:
    """An error that several callers raise, each with a traceback of its own."""
    if isinstance(problem, VaultFailed):
        return VaultFailed(problem.problem, problem.detail)
    return copy(problem)
