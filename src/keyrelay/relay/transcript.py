"""The dialogue with the relay, redacted by construction, and the stages it went through.

Credentials and message bodies are never handed to the transcript: the session says ``hidden`` instead. What the
relay says back may repeat what it was sent, so its words go through a ``Redactor`` as well.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, quote_plus

from keyrelay.relay.model import Evidence, Reply, Stage, StageFailed
from keyrelay.secrets.model import SecretText

_PIECE = 6
_SHORTEST = 3
_MOST_LINES = 200
_LONGEST_LINE = 1000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Verdict = Literal["ok", "failed", "skipped"]


class Redactor:
    """Blackens every piece of a secret in a text: six characters in a row are enough, in any of its usual codings."""

    def __init__(self, secrets: Iterable[SecretText] = ()) -> None:
        self._secrets: list[SecretText] = []
        self._pieces: set[str] = set()
        self._open: set[str] = set()
        self._short: set[str] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: SecretText) -> None:
        if secret in self._secrets:
            return  # a token takes milliseconds
        self._secrets.append(secret)
        for form in _forms(secret.reveal()):
            if len(form) < _PIECE:
                self._short |= {form} if len(form) >= _SHORTEST else set()
            else:
                self._pieces.update(form[start : start + _PIECE] for start in range(len(form) - _PIECE + 1))

    def spare(self, text: str) -> None:
        """Something was said openly, and may be repeated.

        Else whoever may test could find a stored secret out: by trying words, and looking which are blackened.
        """
        folded = text.casefold()
        self._open.update(folded[start : start + _PIECE] for start in range(len(folded) - _PIECE + 1))
        self._open.update(short for short in self._short if short in folded)

    def clean(self, text: str) -> str:
        """The text on one line, with the pieces replaced by an ellipsis."""
        text = _UNPRINTABLE.sub(" ", text)
        folds = [letter.casefold() for letter in text]
        folded = "".join(folds)
        black = [False] * len(folded)
        for start in range(len(folded) - _PIECE + 1 if self._pieces else 0):
            piece = folded[start : start + _PIECE]
            if piece in self._pieces and piece not in self._open:
                black[start : start + _PIECE] = [True] * _PIECE
        for short in self._short - self._open:
            for found in re.finditer(re.escape(short), folded):
                black[found.start() : found.end()] = [True] * len(short)
        if not any(black):
            return text
        places = [place for place, fold in enumerate(folds) for _ in fold]  # a few letters fold to two
        hidden = {place for place, hide in zip(places, black, strict=True) if hide}
        kept = "".join("\0" if place in hidden else letter for place, letter in enumerate(text))
        return re.sub("\0+", "…", kept)

    def reply(self, reply: Reply) -> Reply:
        if not (self._pieces or self._short) and not any(map(_UNPRINTABLE.search, reply.lines)):
            return reply
        return Reply(reply.code, tuple(self.clean(line) for line in reply.lines))


def _forms(text: str) -> set[str]:
    octets = text.encode("utf-8", "surrogatepass")
    codings = {base64.b64encode(b"\0" * lead + octets).decode() for lead in range(3)}
    # What stands beside a secret in a coded text changes the characters at its ends.
    inner = {coding[4:-4] if len(coding) > 2 * _PIECE + 8 else coding for coding in codings}
    quoted = {octets.hex()}
    for safe in ("", "/"):
        quoted |= {quote(text, safe=safe, errors="replace"), quote_plus(text, safe=safe, errors="replace")}
    return {form.casefold() for form in {text, base64.b64encode(octets).decode(), *inner, *quoted} if form}


@dataclass(frozen=True, slots=True)
class StageReport:
    """How one stage went. ``learned`` and ``dialogue`` may be shown to anybody who may test."""

    stage: Stage
    verdict: Verdict
    milliseconds: float
    learned: Mapping[str, Any] = field(default_factory=dict)
    dialogue: tuple[str, ...] = ()
    evidence: Evidence | None = None


class Transcript:
    """Records the stages of one session as they happen; ``finished`` is told of each."""

    def __init__(self, redactor: Redactor, finished: Callable[[StageReport], None] = lambda _: None) -> None:
        self.redactor = redactor
        self.stages: list[StageReport] = []
        self.learned: dict[str, Any] = {}
        self._finished = finished
        self._lines: list[str] = []
        self._stage: Stage | None = None
        self._first_began: float | None = None
        self._began = 0.0

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[dict[str, Any]]:
        """One stage; what is put into the mapping is what was learned. What goes wrong passes through, recorded."""
        self.enter(stage)
        with self.failures():
            yield self.learned
        self.leave()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Record what ends the stage that is under way."""
        try:
            yield
        except StageFailed as failure:
            self.leave(failure.evidence)
            raise
        except asyncio.CancelledError:  # the whole test may only take so long
            if self._stage is not None:
                # The stages before have had their part of it.
                self.leave(Evidence(self._stage, "timeout", facts={"whole_test": self._seconds()}))
            raise

    @contextmanager
    def again(self, stage: Stage) -> Iterator[None]:
        """Within another stage, one that went well is gone through once more, and told of only if it fails now.

        That other stage has then gone well itself.
        """
        began, before = time.perf_counter(), len(self._lines)
        try:
            yield
        except (StageFailed, asyncio.CancelledError) as problem:
            if isinstance(problem, asyncio.CancelledError) or problem.evidence.stage == stage:
                said = self._lines[before:]
                del self._lines[before:]
                self.leave()
                self.enter(stage)
                self._began, self._lines = began, said
            raise

    def enter(self, stage: Stage) -> None:
        self._stage, self._began = stage, time.perf_counter()
        if self._first_began is None:
            self._first_began = self._began
        self.learned, self._lines = {}, []

    def _seconds(self) -> float:
        """How long the whole test has taken by now."""
        return 0.0 if self._first_began is None else round(time.perf_counter() - self._first_began, 1)

    def leave(self, evidence: Evidence | None = None) -> None:
        """The stage under way is over: well, or with this evidence."""
        if self._stage is None:
            return
        milliseconds = (time.perf_counter() - self._began) * 1000
        verdict: Verdict = "ok" if evidence is None else "failed"
        # With the content on its way, what is lost while the relay answers to the sender is the message.
        stage = self._stage if evidence is None else evidence.stage
        report = StageReport(stage, verdict, milliseconds, self.learned, tuple(self._lines), evidence)
        self._stage = None
        self.stages.append(report)
        self._finished(report)

    def skip(self, stage: Stage, why: str) -> None:
        report = StageReport(stage, "skipped", 0.0, {"why": why})
        self.stages.append(report)
        self._finished(report)

    def sent(self, line: str) -> None:
        """A line that holds nothing secret."""
        self.redactor.spare(line)
        self._add("> " + _UNPRINTABLE.sub(" ", line))

    def hidden(self, what: str) -> None:
        """Something was sent that is none of the reader's business; ``what`` says what kind of thing."""
        self._add(f"> ({what})")

    def received(self, reply: Reply) -> Reply:
        """Note a reply of the relay, and give it as people may read it."""
        cleaned = self.redactor.reply(reply)
        last = len(cleaned.lines) - 1
        for number, line in enumerate(cleaned.lines):
            self._add(f"< {cleaned.code}{' ' if number == last else '-'}{line}")
        if not cleaned.lines:
            self._add(f"< {cleaned.code}")
        return cleaned

    def _add(self, line: str) -> None:
        if len(self._lines) < _MOST_LINES:
            self._lines.append(line[:_LONGEST_LINE])
