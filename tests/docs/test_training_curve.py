from __future__ import annotations

import re
from xml.etree import ElementTree

from docs.tooling.training_curve import BOTTOM, LEFT, RIGHT, TOP, render_curve


def test_every_step_and_evaluation_is_drawn_inside_the_axes() -> None:
    losses = [(1, 5.9), (2, 4.1), (3, 2.2), (4, 1.8)]
    picture = ElementTree.fromstring(render_curve(losses, [(2, 3.9), (4, 2.0)]))
    names = [element.tag.rpartition("}")[2] for element in picture.iter()]
    assert names.count("circle") == 2
    (line,) = [element for element in picture.iter() if element.tag.endswith("polyline")]
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert len(points) == len(losses)
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_ticks_are_whole_losses() -> None:
    text = render_curve([(1, 3.2), (2, 2.5)], [])
    assert re.findall(r'text-anchor="end">(\d)</text>', text) == ["1", "2", "3"]
