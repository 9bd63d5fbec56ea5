"""A report as text for people, and as a document for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keyrelay import __version__
from keyrelay.doctor.model import Report, Result
from keyrelay.health.finding import Verdict

MARKS: Mapping[Verdict, str] = {"ok": "✓", "warning": "!", "failure": "✗", "skipped": "·"}
_WORDS: Mapping[Verdict, tuple[str, str]] = {
    "failure": ("failure", "failures"),
    "warning": ("warning", "warnings"),
    "ok": ("ok", "ok"),
    "skipped": ("skipped", "skipped"),
}
_INDENT = " " * 25  # to where what was found begins


def lines(result: Result) -> Iterator[tuple[str, str]]:
    """What is printed of a result: each line's beginning, and the rest of it. Nothing of what was skipped."""
    finding = result.finding
    if finding.verdict == "skipped":
        return
    yield f" {MARKS[finding.verdict]} {result.check.id:<21}", f" {_plain(finding.found)}"
    if finding.advice is not None:
        yield _INDENT, _plain(finding.advice)


def summary(report: Report) -> Iterator[str]:
    """What was not looked at, and why; how many there are of each; and what to begin with."""
    skipped: dict[str, list[str]] = {}
    for result in report.results:
        if result.finding.verdict == "skipped":
            skipped.setdefault(result.finding.found, []).append(result.check.id)
    yield from (f"Not looked at: {', '.join(ids)}. {_plain(why)}" for why, ids in skipped.items())
    told = ", ".join(
        f"{number} {words[number != 1]}" for verdict, words in _WORDS.items() if (number := report.count(verdict))
    )
    worst = next((one for one in report.results if one.finding.verdict == report.verdict != "ok"), None)
    yield f"{told}." if worst is None else f"{told}. Begin with {worst.check.id}."


def text(report: Report) -> str:
    """The whole report."""
    told = ["".join(line).rstrip() for result in report.results for line in lines(result)]
    return "\n".join([*told, "", *summary(report), ""])


def document(report: Report) -> dict[str, Any]:
    return {
        "version": __version__,
        "at": report.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "verdict": report.verdict,
        "counts": {verdict: report.count(verdict) for verdict in MARKS},
        "checks": [_result(result) for result in report.results],
    }


def _result(result: Result) -> dict[str, Any]:
    finding = result.finding
    return {
        "id": result.check.id,
        "verdict": finding.verdict,
        "found": finding.found,
        "advice": finding.advice,
        "seconds": result.seconds,
    }


def _plain(text: str) -> str:
    """One line that no terminal takes as a command."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
