"""The report of a test as lines of text: for a terminal, and for a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keyrelay.api import learned

Line = tuple[tuple[str, str], ...]
"""Pieces of text, each with the style that a terminal gives it."""

_MARKS = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("·", "dim")}
_VERDICTS = {"good": ("✓", "green"), "attention": ("!", "yellow"), "unknown": ("·", "dim")}
_INDENT = " " * 25  # to where the facts of a stage begin


def opening(host: str, port: int, mode: str, recipient: str | None) -> str:
    """What is about to be tested, in one line."""
    whom = {"message": f", and mail {recipient}", "envelope": f", and ask about {recipient}"}.get(mode, "")
    return f"Testing {host}, port {port}{whom}."


def stage(document: Mapping[str, Any], *, dialogue: bool) -> Iterator[Line]:
    """One stage (``diagnoses.finding_document``)."""
    mark, colour = _MARKS[document["verdict"]]
    facts, skipped = document["learned"], document["verdict"] == "skipped"
    time = " " * 10 if skipped else f"{document['milliseconds']:7.1f} ms"
    brief = facts["why"] if skipped else learned.briefly(facts)
    yield (f" {mark} {document['stage']:<9}", colour), (f" {time}  ", "dim"), (brief, "")
    for line in learned.in_detail(facts):
        yield ((_INDENT + line, "dim"),)
    for line in document["dialogue"] if dialogue else ():
        yield ((f"      {line}", "dim"),)


def end(document: Mapping[str, Any]) -> Iterator[Line]:
    """What follows the stages of a report (``diagnoses.report_document``): advice, outcome, cause and remedy."""
    for advice in document["advice"]:
        mark, colour = _VERDICTS[advice["verdict"]]
        yield (f" {mark} {advice['topic']:<9}", colour), (" " * 13 + advice["sentence"], "")
        if advice["remedy"]:
            yield ((_INDENT + advice["remedy"], "dim"),)
    cause = document["cause"]
    if cause is None:
        yield ("It works. ", "bold green"), (success(document), "")
        return
    failed = next(one for one in document["stages"] if one["verdict"] == "failed")
    yield (f"It failed at the stage {failed['stage']}. ", "bold red"), (cause["sentence"], "")
    if (reply := failed["reply"]) is not None:
        first, *more = reply["lines"] or [""]
        yield ("The relay said: ", "bold"), (learned.shown(f"{reply['code']} {first}".rstrip()), "")
        for line in more:
            yield ((" " * len("The relay said: 550 ") + learned.shown(line), ""),)
    yield ("What to do: ", "bold"), (cause["remedy"], "")
    yield ((f"[{cause['id']}]", "dim"),)


def success(document: Mapping[str, Any]) -> str:
    """What the relay has done, where a test went well."""
    done = {
        "message": f"The relay has taken the message {document['message_id']}.",
        "envelope": "The relay would take the message.",
    }
    return done.get(document["mode"], "The relay lets us in.")


def text(document: Mapping[str, Any], heading: str) -> str:
    """The whole report with its dialogue, after a heading; no control characters but line ends."""
    lines = [line for one in document["stages"] for line in stage(one, dialogue=True)]
    written = ["".join(piece for piece, _ in line).rstrip() for line in (*lines, *end(document))]
    return "\n".join([heading, *map(learned.shown, written)]) + "\n"
