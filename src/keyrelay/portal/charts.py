"""Lines over time as a picture: where its points, ticks and words go. The template ``chart.html`` draws it (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

# In units of the picture, which is as wide as there is room. Words stand to the left of the lines, and below them.
WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 24
_TICKS = 4  # on the upright axis, above 0
_MOMENTS = 4  # words on the axis of time


@dataclass(frozen=True, slots=True)
class Series:
    """Something that is counted, once for each moment of a chart."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A series as it is drawn. ``number`` is its place, from 1: each has a colour and a pattern of its own."""

    number: int
    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, and what is written there."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and the same as a table. ``name`` is for ids, ``told`` the picture in one sentence."""

    name: str
    title: str
    told: str
    unit: str
    lines: tuple[Line, ...]
    upright: tuple[Tick, ...]
    along: tuple[Tick, ...]
    rows: tuple[tuple[datetime, tuple[int, ...]], ...]

    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def chart(name: str, title: str, unit: str, moments: Sequence[datetime], series: Sequence[Series]) -> Chart:
    """The picture of some series. There is at least one moment, and each series has a value of 0 or more for each."""
    most = top_of(max((value for one in series for value in one.values), default=0))
    lines = tuple(
        Line(number, one.name, " ".join(_point(at, value, len(moments), most) for at, value in enumerate(one.values)))
        for number, one in enumerate(series, 1)
    )
    upright = tuple(
        Tick(_height(most * part // _TICKS, most), amount_text(most * part // _TICKS), "end")
        for part in range(_TICKS + 1)
    )
    rows = tuple((at, tuple(one.values[place] for one in series)) for place, at in enumerate(moments))
    return Chart(name, title, _told(moments, series), unit, lines, upright, _along(moments), rows)


def top_of(most: int) -> int:
    """Where the upright axis ends: the next number that divides well, so that all ticks are whole."""
    if most <= _TICKS:
        return _TICKS
    power: int = 10 ** (len(str(most)) - 1)
    steps = (power * step // 10 for step in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100, 120))
    return next(step for step in steps if step >= most and step % _TICKS == 0)


def amount_text(number: int) -> str:
    """A number that fits beside an axis, exact in three digits."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _told(moments: Sequence[datetime], series: Sequence[Series]) -> str:
    parts = (f"{one.name}: {one.values[-1]:,} at the end, {max(one.values):,} at the most" for one in series)
    return f"From {_hour(moments[0])} to {_hour(moments[-1])} UTC. " + "; ".join(parts) + "."


def _along(moments: Sequence[datetime]) -> tuple[Tick, ...]:
    last = len(moments) - 1
    places = sorted({round(last * part / (_MOMENTS - 1)) for part in range(_MOMENTS)})
    anchors = {0: "start", last: "end"}
    return tuple(Tick(_across(at, len(moments)), _hour(moments[at]), anchors.get(at, "middle")) for at in places)


def _point(at: int, value: int, number: int, most: int) -> str:
    return f"{_across(at, number):g},{_height(value, most):g}"


def _across(at: int, number: int) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * at / max(number - 1, 1), 1)


def _height(value: int, most: int) -> float:
    return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / most, 1)


def _hour(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M")
