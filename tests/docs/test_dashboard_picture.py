"""The picture of the dashboard shows all of the data, inside the axes."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from docs.tooling.dashboard_picture import BOTTOM, LEFT, PANEL_WIDTH, RIGHT, TOP, axis_ticks, render_dashboard
from docs.tooling.dashboard_queries import Panel, Series, TimeRange

RANGE = TimeRange(1_800_000_000.0, 1_800_000_600.0, 10.0)
POINTS = [(RANGE.start + 10 * number, float(number)) for number in range(61)]


def elements(picture: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(picture).iter() if element.tag.endswith(tag)]


def panel(*series: Series, unit: str = "short") -> Panel:
    return Panel("Tokens <per> second", unit, 0.08, {"query": list(series)})


def test_a_line_is_interrupted_where_values_are_missing() -> None:
    picture = render_dashboard([panel(Series("out", POINTS[:20] + POINTS[30:]))], RANGE)
    lines = [line.get("points", "").split() for line in elements(picture, "polyline")]
    assert [len(line) for line in lines] == [20, 31]
    points = [tuple(map(float, point.split(","))) for line in lines for point in line]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)


def test_series_that_are_always_0_are_left_out() -> None:
    zeros = Series("refused", [(when, 0.0) for when, _ in POINTS])
    picture = render_dashboard([panel(zeros, Series("stop", POINTS))], RANGE)
    texts = [text.text for text in elements(picture, "text")]
    assert "stop" in texts
    assert "refused" not in texts


def test_titles_are_escaped_and_long_legends_take_more_lines() -> None:
    names = [f"outcome-{number} a-model-with-a-long-name" for number in range(4)]
    picture = render_dashboard([panel(*(Series(name, POINTS) for name in names))] * 3, RANGE)
    texts = elements(picture, "text")
    assert [text.text for text in texts].count("Tokens <per> second") == 3
    rows = [text.get("y") for text in texts if (text.text or "").startswith("outcome-")]
    assert len(set(rows)) == len(names)
    width, height = map(float, elements(picture, "svg")[0].get("viewBox", "").split()[2:])
    assert width >= 2 * PANEL_WIDTH
    assert height > 2 * max(float(row or 0) for row in rows)


def test_values_have_their_unit() -> None:
    for unit, label in (("s", "20 s"), ("percentunit", "2000 %"), ("reqps", "20/s"), ("short", "20")):
        picture = render_dashboard([panel(Series("out", POINTS), unit=unit)], RANGE)
        assert label in [text.text for text in elements(picture, "text")]
    picture = render_dashboard([panel(Series("out", [(when, value / 200) for when, value in POINTS]), unit="s")], RANGE)
    assert "100 ms" in [text.text for text in elements(picture, "text")]


def test_times_are_whole_minutes() -> None:
    picture = render_dashboard([panel(Series("out", POINTS))], RANGE)
    times = [text.text for text in elements(picture, "text") if re.fullmatch(r"\d\d:\d\d", text.text or "")]
    assert times == ["08:00", "08:02", "08:04", "08:06", "08:08", "08:10"]


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_an_axis_has_few_round_ticks_and_holds_the_highest_value(highest: float) -> None:
    ticks = axis_ticks(highest)
    assert ticks[0] == 0
    assert 3 <= len(ticks) <= 6
    assert ticks[-1] >= highest * (1 - 1e-6)
    assert ticks[-1] <= 2 * highest
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)
