"""Draws the panels of the Grafana dashboard as an SVG for the guide, from what a Prometheus answers to their queries.

P=http://127.0.0.1:9090
python -m docs.tooling.dashboard_picture $P 2026-11-27T21:55 2026-11-27T22:05 docs/images/serving_panels.svg
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from docs.tooling.dashboard_queries import Panel, Series, TimeRange, read_panels

DASHBOARD = Path("platform/dashboards/serving.json")
COLUMNS, PANEL_WIDTH, PANEL_GAP = 2, 348, 28
LEFT, RIGHT, TOP, BOTTOM = 56, PANEL_WIDTH - 20, 34, 160
LEGEND_TOP, LINE_HEIGHT, KEY_WIDTH, CHARACTER_WIDTH, ENTRY_GAP = BOTTOM + 46, 19, 20, 7.2, 14
"""A legend's first baseline and line height; the widths of an entry's line and of a character, and between entries."""

VALUES = 130
"""Values of each series over the whole range."""

COLOURS = ("#0f9488", "#d97706", "#4f86d9", "#8f6ad8", "#d8574a", "#7c8f2a", "#c4569c")
STYLE = """\
text { font: 12.5px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6b7a89 }
.title { font-size: 14px; font-weight: 600 }
.axis { stroke: #8a99a8; stroke-width: 1 }
.grid { stroke: #8a99a8; stroke-width: 1; opacity: .25 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }"""
"""Colours that read on a light and on a dark page."""


def render_dashboard(panels: Sequence[Panel], time_range: TimeRange) -> str:
    """The SVG: the panels in two columns, each with its legend below. Series that are 0 all the time are left out."""
    rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    parts: list[str] = []
    top = 0
    for row in rows:
        heights = []
        for column, panel in enumerate(row):
            shown = [series for series in panel.series if any(value for _, value in series.points)]
            legend, height = _render_legend([series.legend for series in shown])
            plot = _render_plot(panel, shown, time_range)
            x = column * (PANEL_WIDTH + PANEL_GAP)
            parts += [f'<g transform="translate({x} {top})">', *plot, *legend, "</g>"]
            heights.append(height)
        top += max(heights) + PANEL_GAP
    width = COLUMNS * PANEL_WIDTH + (COLUMNS - 1) * PANEL_GAP
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - PANEL_GAP}" role="img">',
        "<title>Panels of the serving dashboard</title>",
        f"<style>{STYLE}</style>",
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _render_plot(panel: Panel, shown: Sequence[Series], time_range: TimeRange) -> Iterator[str]:
    ticks = axis_ticks(max((value for series in shown for _, value in series.points), default=0.0))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        share = (point[0] - time_range.start) / (time_range.end - time_range.start)
        return LEFT + (RIGHT - LEFT) * share, BOTTOM - (BOTTOM - TOP) * point[1] / ticks[-1]

    yield f'<text class="title" x="0" y="14">{escape(panel.title)}</text>'
    for tick in ticks:
        _, y = place((time_range.start, tick))
        yield f'<path class="{"grid" if tick else "axis"}" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{format_value(tick, panel.unit)}</text>'
    for minute in _minute_ticks(time_range):
        x, _ = place((minute, 0.0))
        label = datetime.fromtimestamp(minute, UTC).strftime("%H:%M")
        yield f'<text x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{label}</text>'
    for number, series in enumerate(shown):
        for piece in _without_gaps(series, time_range.step):
            points = [place(point) for point in piece]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            area = f"{points[0][0]:.1f},{BOTTOM} {line} {points[-1][0]:.1f},{BOTTOM}"
            yield f'<polygon points="{area}" fill="{_colour(number)}" opacity="{panel.fill_opacity}"/>'
            yield f'<polyline class="line" points="{line}" stroke="{_colour(number)}"/>'


def _render_legend(names: Sequence[str]) -> tuple[list[str], int]:
    """The legend, in lines as wide as the panel, and the y of its end."""
    parts = []
    x, y = 0.0, LEGEND_TOP
    for number, name in enumerate(names):
        width = KEY_WIDTH + CHARACTER_WIDTH * len(name)
        if x and x + width > PANEL_WIDTH:
            x, y = 0.0, y + LINE_HEIGHT
        parts.append(f'<path class="line" d="M{x:.0f} {y - 4}h14" stroke="{_colour(number)}"/>')
        parts.append(f'<text x="{x + KEY_WIDTH:.0f}" y="{y}">{escape(name)}</text>')
        x += width + ENTRY_GAP
    return parts, y + 4


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def axis_ticks(highest: float) -> list[float]:
    """Four to six round values from 0 to at least `highest`."""
    highest = highest or 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    step = next(size for size in (0.2 * power, 0.5 * power, power, 2 * power) if highest / size <= 5)
    return [round(step * number, 9) for number in range(math.ceil(round(highest / step, 6)) + 1)]


def format_value(value: float, unit: str) -> str:
    """A value of an axis with its unit, as Grafana names it: `s`, `percentunit`, `reqps` or `short`."""
    if value == 0:
        return "0"
    match unit:
        case "s":
            return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"
        case "percentunit":
            return f"{100 * value:g} %"
        case "reqps":
            return f"{value:g}/s"
        case "short":
            return f"{value:g}"
        case _:
            raise ValueError(f"a panel has the unit {unit!r}, which is not drawn; add it to format_value")


def _minute_ticks(time_range: TimeRange) -> Iterator[float]:
    """Whole minutes, at most seven."""
    minutes = (time_range.end - time_range.start) / 60
    step = 60 * max(1, math.ceil(minutes / 6))
    first = math.ceil(time_range.start / step) * step
    return (float(when) for when in range(first, int(time_range.end) + 1, step))


def _without_gaps(series: Series, step: float) -> Iterator[list[tuple[float, float]]]:
    """The series in pieces in which no value is missing."""
    piece: list[tuple[float, float]] = []
    for point in series.points:
        if piece and point[0] - piece[-1][0] > 1.5 * step:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 when Prometheus does not answer, or has no data for a query."""
    parser = argparse.ArgumentParser(prog="python -m docs.tooling.dashboard_picture", description="Draw the dashboard.")
    parser.add_argument("prometheus", help="URL of a Prometheus that scraped a deployment with a gateway")
    for name in ("start", "end"):
        parser.add_argument(name, type=datetime.fromisoformat, metavar=name.upper(), help="a time in UTC, ISO 8601")
    parser.add_argument("output", type=Path, metavar="SVG", help="where to write the picture")
    arguments = parser.parse_args(argv)
    start, end = (when.replace(tzinfo=UTC).timestamp() for when in (arguments.start, arguments.end))
    time_range = TimeRange(start, end, (end - start) / VALUES)
    try:
        panels = read_panels(DASHBOARD, arguments.prometheus, time_range)
    except OSError as e:
        print(f"error: {arguments.prometheus}: {e}", file=sys.stderr)
        return 1
    empty = [query for panel in panels for query, answer in panel.answers.items() if not answer]
    for query in empty:
        print(f"error: no data for {query}", file=sys.stderr)
    if not empty:
        arguments.output.write_text(render_dashboard(panels, time_range), encoding="utf-8")
        print(f"wrote {arguments.output}: {len(panels)} panels, {sum(len(panel.series) for panel in panels)} series")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
