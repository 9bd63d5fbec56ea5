"""What a look at something finds: a verdict, and a sentence or two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

# Before an end, for so long it is warned of.
SOON = timedelta(days=60)

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
