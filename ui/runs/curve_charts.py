"""A run's metrics as charts in SVG, in the page's colours. runs.js shows the values under the pointer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tuneyard.api.wire.platform_api.runs import Curve, RunCurves
from ui.runs.wording import number

WIDTH, HEIGHT = 440, 200
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 26
MAX_TICKS = 5


@dataclass(frozen=True, slots=True)
class Chart:
    """What one chart shows: the names of metrics, each with its label."""

    title: str
    lines: Mapping[str, str]


CHARTS = (
    Chart("Loss", {"loss": "training", "eval_loss": "held-out"}),
    Chart("Learning rate", {"learning_rate": "learning rate"}),
    Chart("Tokens per second", {"tokens_per_s": "tokens/s"}),
    Chart(
        "Preferred answer is more likely", {"preference_accuracy": "training", "eval_preference_accuracy": "held-out"}
    ),
    Chart("Reward margin", {"reward_margin": "training", "eval_reward_margin": "held-out"}),
    Chart("Gradient norm", {"grad_norm": "gradient norm"}),
)


def charts_html(curves: RunCurves) -> str:
    """A chart for each kind of metric that the run has measured."""
    by_name = {curve.name: curve for curve in curves.curves}
    charts = "".join(_chart_html(chart, by_name) for chart in CHARTS if any(name in by_name for name in chart.lines))
    if not charts:
        return '<p class="run-note">No step is measured yet. The curves begin with the first one.</p>'
    return f'<div class="run-charts">{charts}</div>'


def _chart_html(chart: Chart, by_name: Mapping[str, Curve]) -> str:
    lines = [(label, by_name[name]) for name, label in chart.lines.items() if name in by_name]
    axes = Axes.of([curve for _, curve in lines])
    if axes is None:
        return ""
    legend = "".join(
        f'<li class="run-line-{place}"><i aria-hidden="true"></i>{label} <b>{_last_text(curve)}</b></li>'
        for place, (label, curve) in enumerate(lines)
    )
    paths = "".join(_line_svg(curve, axes, place) for place, (_, curve) in enumerate(lines))
    points = [{"label": label, "steps": curve.steps, "values": curve.values} for label, curve in lines]
    frame = {"left": LEFT, "right": WIDTH - RIGHT, "first": axes.first_step, "last": axes.last_step, "lines": points}
    return (
        f'<figure class="run-chart" data-chart="{escape(json.dumps(frame))}"><figcaption>{chart.title}</figcaption>'
        f'<ul class="run-legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_description(chart, lines))}">'
        f'{axes.svg()}{paths}<line class="run-cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/></svg>'
        '<output class="run-values" aria-hidden="true"></output></figure>'
    )


def _description(chart: Chart, lines: Sequence[tuple[str, Curve]]) -> str:
    texts = []
    for label, curve in lines:
        finite = [value for value in curve.values if value is not None]
        if finite:
            texts.append(f"{label} from {number(finite[0])} to {number(finite[-1])} at step {curve.steps[-1]:,}")
    return f"{chart.title}: {'; '.join(texts)}"


def _last_text(curve: Curve) -> str:
    finite = [value for value in curve.values if value is not None]
    return number(finite[-1]) if finite else "–"


@dataclass(frozen=True, slots=True)
class Axes:
    """Where steps and values lie in the drawing."""

    first_step: int
    last_step: int
    ticks: tuple[float, ...]
    """Values on the vertical axis, the lowest first; the curve lies between the first and the last."""

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Axes | None:
        """The axes that hold all curves; None if they have no value."""
        values = [value for curve in curves for value in curve.values if value is not None]
        if not values:
            return None
        steps = [step for curve in curves for step in curve.steps]
        return cls(min(steps), max(steps), nice_ticks(min(values), max(values)))

    def x(self, step: int) -> float:
        """Distance from the left."""
        span = max(1, self.last_step - self.first_step)
        return LEFT + (step - self.first_step) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Distance from the top."""
        low, high = self.ticks[0], self.ticks[-1]
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def svg(self) -> str:
        """Lines and labels of both axes."""
        rows = "".join(
            f'<line class="run-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}"/>'
            f'<text class="run-tick" x="{LEFT - 8}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            for tick in self.ticks
        )
        ends = {self.first_step: "start", self.last_step: "end"}
        columns = "".join(
            f'<text class="run-tick" x="{self.x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">'
            f"{'step ' if anchor == 'start' else ''}{step:,}</text>"
            for step, anchor in ends.items()
        )
        return rows + columns


def nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """At most MAX_TICKS + 1 round numbers, at least two, that enclose both values."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        span = abs(high) or 1.0
        low, high = low - span / 2, high + span / 2
        span = high - low
    size = 10.0 ** math.floor(math.log10(span / MAX_TICKS)) if span / MAX_TICKS > 0 else 1.0
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if span / (size * factor) <= MAX_TICKS - 1)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = tuple(number_ * step for number_ in range(first, max(last, first + 1) + 1))
    return ticks


def _line_svg(curve: Curve, axes: Axes, place: int) -> str:
    paths: list[str] = []
    dots: list[str] = []
    for piece in _pieces(curve):
        points = " ".join(f"{axes.x(step):.1f},{axes.y(value):.1f}" for step, value in piece)
        if len(piece) > 1:
            paths.append(f'<polyline class="run-line run-line-{place}" points="{points}"/>')
        if len(piece) == 1 or len(curve.steps) <= 24:
            dots += [
                f'<circle class="run-dot run-line-{place}" r="3" cx="{axes.x(step):.1f}" cy="{axes.y(value):.1f}"/>'
                for step, value in piece
            ]
    return "".join(paths + dots)


def _pieces(curve: Curve) -> Iterator[list[tuple[int, float]]]:
    """The points, cut where a value was not finite."""
    piece: list[tuple[int, float]] = []
    for step, value in zip(curve.steps, curve.values, strict=True):
        if value is not None:
            piece.append((step, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece
