"""A run's metrics as curves of a bounded number of points."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint
from tuneyard.api.wire.platform_api.runs import Curve


def build_curves(points: Sequence[MetricPoint], max_points: int) -> tuple[Curve, ...]:
    """The curve of each metric in `points`, which are in the order of steps; sorted by name.

    A curve of more than `max_points` points keeps every n-th of them, and the last one.
    """
    names = sorted({name for point in points for name in point.values})
    return tuple(_build_curve(name, points, max_points) for name in names)


def _build_curve(name: str, points: Sequence[MetricPoint], max_points: int) -> Curve:
    measured = [(point.step, point.values[name]) for point in points if name in point.values]
    every = max(1, math.ceil((len(measured) - 1) / (max_points - 1)))
    kept = measured[::every]
    if kept[-1] is not measured[-1]:
        kept.append(measured[-1])
    return Curve(
        name=name,
        steps=tuple(step for step, _ in kept),
        values=tuple(value if math.isfinite(value) else None for _, value in kept),
    )
