"""The words of this room: checks, and what they find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from keyrelay.doctor.case import Case, Need

Verdict = Literal["ok", "warning", "failure", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found, in one sentence, and what to do about it, in another.

    Neither holds a secret, the words of another server, or the name of a person.
    """

    verdict: Verdict
    found: str
    advice: str | None = None


def ok(found: str) -> Finding:
    return Finding("ok", found)


def warning(found: str, advice: str) -> Finding:
    """Mail goes out, and something will want attention."""
    return Finding("warning", found, advice)


def failure(found: str, advice: str) -> Finding:
    """Something does not start, mail does not go out, or what was promised does not hold."""
    return Finding("failure", found, advice)


def skipped(why: str) -> Finding:
    return Finding("skipped", why)


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
