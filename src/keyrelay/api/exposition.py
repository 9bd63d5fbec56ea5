"""Figures as Prometheus reads them: its text format 0.0.4, or OpenMetrics 1.0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from keyrelay.histogram import Histogram

PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
OPEN = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram", "info"]
Labels = Mapping[str, str]

_SUFFIX: Mapping[Kind, str] = {"counter": "_total", "info": "_info"}


@dataclass(slots=True)
class Family:
    """What is told under one name, which has none of the suffixes that stand for its kind."""

    name: str
    kind: Kind
    meaning: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> Family:
        self.samples.append((_SUFFIX.get(self.kind, ""), labels, value))
        return self

    def add_histogram(self, histogram: Histogram, **labels: str) -> Family:
        counts = histogram.counts
        for bound, count in zip((*map(float, histogram.bounds), "+Inf"), counts, strict=True):
            self.samples.append(("_bucket", {**labels, "le": str(bound)}, count))
        self.samples += [("_count", labels, counts[-1]), ("_sum", labels, histogram.sum)]
        return self


def wants_open(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics."""
    return any(each.partition(";")[0].strip().lower() == "application/openmetrics-text" for each in accept.split(","))


def written(families: Iterable[Family], *, open_metrics: bool) -> bytes:
    """The whole document, in one format or the other."""
    lines = [line for family in families for line in _lines(family, open_metrics=open_metrics)]
    if open_metrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(family: Family, *, open_metrics: bool) -> Iterator[str]:
    # The older format knows no suffix that belongs to a kind, and no kind "info".
    name = family.name if open_metrics else family.name + _SUFFIX.get(family.kind, "")
    kind = "gauge" if family.kind == "info" and not open_metrics else family.kind
    # There, quotation marks are escaped in labels alone.
    meaning = _escaped(family.meaning) if open_metrics else _escaped(family.meaning).replace(r"\"", '"')
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in family.samples:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{family.name}{suffix}{{{told}}} {value!r}" if told else f"{family.name}{suffix} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
