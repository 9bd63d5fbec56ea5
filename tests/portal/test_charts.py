"""Charts: every point where it belongs, axes that people can read, and the same as a table."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.portal.charts import HEIGHT, WIDTH, Series, amount_text, chart, top_of
from keyrelay.portal.rendering import _environment

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def moments(number: int) -> list[datetime]:
    return [NOON + timedelta(minutes=at) for at in range(number)]


def made(*values: int, **more: tuple[int, ...]):
    series = [Series("first", values), *(Series(name, those) for name, those in more.items())]
    return chart("made", "What was made", "messages a minute", moments(len(values)), series)


def points(line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.points.split())]


def drawn(picture) -> str:
    return str(_environment().get_template("chart.html").module.drawn(picture))


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 4), (1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (13, 16), (41, 60), (99, 100), (100, 100), (101, 120)],
)
def test_the_axis_ends_at_a_number_that_divides_well(most, top):
    assert top_of(most) == top


@given(st.integers(0, 10**9))
def test_the_axis_holds_everything_and_its_ticks_are_whole(most):
    top = top_of(most)
    assert top >= most
    assert top % 4 == 0
    assert top <= max(4, 2 * most)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1500, "1.5k"), (120_000, "120k"), (2_500_000, "2.5M"), (10**9, "1G")]
)
def test_amounts_are_short(number, text):
    assert amount_text(number) == text


def test_nothing_is_a_line_along_the_bottom():
    picture = made(0, 0, 0)
    assert {y for _, y in points(picture.lines[0])} == {picture.bottom}
    assert [tick.text for tick in picture.upright] == ["0", "1", "2", "3", "4"]


def test_the_most_is_at_the_top_and_half_of_it_in_the_middle():
    picture = made(0, 50, 100)
    (_, low), (_, middle), (_, high) = points(picture.lines[0])
    assert (low, high) == (picture.bottom, picture.top)
    assert middle == pytest.approx((low + high) / 2, abs=0.1)


def test_time_goes_from_left_to_right_from_edge_to_edge():
    across = [x for x, _ in points(made(*range(60)).lines[0])]
    assert across == sorted(across)
    assert (across[0], across[-1]) == (46, WIDTH - 8)
    assert [tick.text for tick in made(*range(60)).along] == ["12:00", "12:20", "12:39", "12:59"]


def test_one_moment_is_enough():
    assert len(points(made(3).lines[0])) == 1


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60), st.integers(0, 10**7))
def test_every_point_is_within_the_picture(values, other):
    picture = made(*values, second=(other,) * len(values))
    for line in picture.lines:
        for x, y in points(line):
            assert picture.left <= x <= picture.right < WIDTH
            assert 0 < picture.top <= y <= picture.bottom < HEIGHT


def test_it_says_in_a_sentence_what_it_shows():
    told = "From 12:00 to 12:02 UTC. first: 2 at the end, 1,003 at the most; second: 1 at the end, 1 at the most."
    assert made(1, 1003, 2, second=(0, 0, 1)).told == told


def test_the_table_has_all_of_it_the_newest_first():
    text = drawn(made(1, 1003, second=(0, 7)))
    body = text[text.index("<tbody>") :]
    assert re.findall(r'<time datetime="2026-03-01T(.{5}):00Z">(.{5})</time>', body) == [("12:01",) * 2, ("12:00",) * 2]
    assert re.findall(r'<td class="number">([\d,]+)</td>', body) == ["1,003", "7", "1", "0"]
    assert re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', text) == ["Minute (UTC)", "first", "second"]


def test_the_picture_has_words_for_who_cannot_see_it_and_no_style_of_its_own():
    text = drawn(made(1, 2, second=(2, 1)))
    assert 'role="img" aria-labelledby="made-title made-told"' in text
    assert '<title id="made-title">What was made</title>' in text
    assert '<desc id="made-told">From 12:00' in text
    assert not re.search(r"style=|<style|<script|\son\w+=", text)
    assert text.count("line-1") == text.count("line-2") == 2  # in the picture, and beside its name


def test_every_line_has_a_pattern_of_its_own():
    from keyrelay.portal.assets import STATIC

    rules = re.findall(
        r"^\.line-(\d) \{ stroke: var\((--series-\d)\);(.*)\}$", (STATIC / "outbox.css").read_text(), re.MULTILINE
    )
    assert [number for number, _, _ in rules] == ["1", "2", "3", "4"]
    assert len({colour for _, colour, _ in rules}) == len({pattern.strip() for _, _, pattern in rules}) == 4


def test_names_are_text():
    picture = chart("x", "<b>t</b>", "<u>", moments(1), [Series("<img src=x>", (1,))])
    text = drawn(picture)
    assert "<b>t" not in text
    assert "<img" not in text
    assert "<u>" not in text
    assert "&lt;img src=x&gt;" in text
