"""Many rounds become few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

Round = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several measurements, and the smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def text(self, form: str) -> str:
        """For a cell of a table; ``form`` writes one number."""
        return f"{form}\n{form} to {form}".format(self.median, self.low, self.high)


def spread(rounds: Sequence[Round], name: str, figure: str) -> Spread:
    return Spread.of([each[name][figure] for each in rounds])


def ratio(rounds: Sequence[Round], name: str, other: str, figure: str = "requests_per_second") -> Spread:
    """How often the figure of ``other`` goes into that of ``name``.

    Each round gives one ratio, of two measurements seconds apart: what slows the whole machine for a while slows
    both.
    """
    return Spread.of([each[name][figure] / each[other][figure] for each in rounds])
