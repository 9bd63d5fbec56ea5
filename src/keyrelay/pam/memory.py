"""What is remembered of fetches: values for a while, failures for a moment, and nothing for longer than it is used."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.model import Provider
from keyrelay.secrets.model import SecretText

_log = logging.getLogger(__name__)
_MOST_KEPT = 1000
_AT_LEAST = 5.0  # seconds; those who need a value of the same moment share it, even where none is used twice
_WARN_EVERY = 60.0
_PASSING = frozenset({"unreachable", "timeout", "sealed"})
# The vault itself says that the secret is not for us any more: an old value is not used after that, come what may.
_FINAL = frozenset({"not_found", "denied"})
Key = tuple[int, tuple[tuple[str, str], ...]]
"""The provider's number, and the instance-level values by name."""


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


class Memory:
    """Values and failures by what was asked for, in one event loop."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._clock = clock
        self._values: dict[Key, Fetched] = {}
        self._failures: dict[Key, _Failure] = {}
        self._newest: dict[Key, float] = {}  # an answer that was asked for earlier says nothing any more
        self._warned: dict[Key, float] = {}
        self._forgetting: asyncio.TimerHandle | None = None

    def value(self, key: Key, not_before: float | None) -> Fetched | None:
        """A value that can be used without asking."""
        kept = self._values.get(key)
        if kept is None:
            return None
        if not_before is None:
            will_do = self._clock() < kept.asked_at + self._patience.fresh
        else:
            will_do = kept.asked_at >= not_before
        return replace(kept, kept=True) if will_do else None

    def failure(self, key: Key) -> VaultFailed | None:
        """A failure of a moment ago."""
        failure = self._failures.get(key)
        return failure.problem if failure is not None and self._clock() < failure.at + self._patience.failed else None

    def stale(self, key: Key, problem: VaultFailed) -> Fetched | None:
        """An old value that may be used although the vault has this problem, or because of it."""
        kept, now = self._values.get(key), self._clock()
        if kept is None or not self._patience.stale or problem.problem not in _PASSING:
            return None
        if now >= kept.asked_at + self._patience.fresh + self._patience.stale:
            return None
        if now >= self._warned.get(key, -math.inf) + _WARN_EVERY:
            self._warned[key] = now
            old = round(now - kept.asked_at)
            facts = {"provider": kept.provider.id, "problem": problem.problem, "seconds_old": old}
            _log.warning("A vault does not answer; an old value of a secret is used", extra={"facts": facts})
        return replace(kept, kept=True, stale=True)

    def note(self, key: Key, asked_at: float, outcome: Fetched | VaultFailed) -> None:
        """Remember what came of asking, unless it took longer than something that was asked for later."""
        if asked_at < self._newest.get(key, -math.inf):
            return
        self._settle(key, asked_at)
        if isinstance(outcome, VaultFailed):
            self._failures[key] = _Failure(outcome, self._clock())
            if outcome.problem in _FINAL:
                self._values.pop(key, None)
        else:
            self._failures.pop(key, None)
            self._values.pop(key, None)
            self._values[key] = outcome
            self._forget_in_time()
        for known in self._all():
            while len(known) > _MOST_KEPT:
                known.pop(next(iter(known)))

    def refused(self, key: Key, asked_at: float) -> None:
        """The value of that moment, and any before it, is not taken by the relay."""
        self._settle(key, asked_at)
        if (kept := self._values.get(key)) is not None and kept.asked_at <= asked_at:
            del self._values[key]

    def drop(self, providers: set[int]) -> None:
        """Forget all that is known of these providers."""
        for known in self._all():
            for key in [key for key in known if key[0] in providers]:
                del known[key]

    def providers(self) -> set[int]:
        """Those of which something is known."""
        return {key[0] for known in self._all() for key in known}

    def close(self) -> None:
        """Forget everything."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        for known in self._all():
            known.clear()

    def _all(self) -> tuple[dict[Key, Any], ...]:
        return self._values, self._failures, self._newest, self._warned

    def _settle(self, key: Key, asked_at: float) -> None:
        self._newest[key] = max(self._newest.pop(key, asked_at), asked_at)

    def _forget_in_time(self) -> None:
        """Drop values that nobody may use any more, now and later, even if nobody ever asks again."""
        life = max(self._patience.fresh + self._patience.stale, _AT_LEAST)
        oldest = self._clock() - life
        for key in [key for key, kept in self._values.items() if kept.asked_at <= oldest]:
            del self._values[key]
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        if self._values:
            in_seconds = min(kept.asked_at for kept in self._values.values()) - oldest
            self._forgetting = asyncio.get_running_loop().call_later(in_seconds, self._forget_in_time)
