"""The words of this room: checks, and their results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from keyrelay.doctor.case import Case, Need
from keyrelay.health.finding import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at. ``id`` never changes; ``about`` says what is looked at, for the page about it.

    ``need``: without what it is skipped. ``seconds``: how long it may take.
    """

    id: str
    about: str
    look: Callable[[Case], Awaitable[Finding]]
    need: Need = "nothing"
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    check: Check
    finding: Finding
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All results, in the order of the checks."""

    at: datetime
    results: Sequence[Result]

    def count(self, verdict: Verdict) -> int:
        return sum(result.finding.verdict == verdict for result in self.results)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return "failure" if self.count("failure") else "warning" if self.count("warning") else "ok"
