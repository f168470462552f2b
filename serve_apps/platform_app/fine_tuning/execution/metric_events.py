"""What clients are told of a run's metrics: events, the estimated end, the file of results, a checkpoint."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, TrainingRecord
from serve_apps.platform_app.fine_tuning.records.job_store import EventText
from tuneyard.api.wire.platform_api.fine_tuning import CheckpointMetrics

OPENAI_NAMES = {
    "loss": "train_loss",
    "eval_loss": "valid_loss",
    "preference_accuracy": "train_preference_accuracy",
    "reward_margin": "train_reward_margin",
    "eval_preference_accuracy": "valid_preference_accuracy",
    "eval_reward_margin": "valid_reward_margin",
}
"""Metrics that clients see, by the run's names: the first two in OpenAI's names, those of dpo in the same style."""

MAX_STEP_EVENTS = 1000
"""Steps of a run that get an event, about; of a longer run, every n-th step does, and every one with a measurement on
the validation file."""


def step_events(points: Sequence[MetricPoint], total_steps: int | None) -> list[EventText]:
    """An event for each step that is told."""
    every = max(1, (total_steps or 0) // MAX_STEP_EVENTS)
    told = [
        point
        for point in points
        if point.step % every == 0 or "eval_loss" in point.values or point.step in (1, total_steps)
    ]
    return [_step_event(point, total_steps) for point in told if _shown(point)]


def awaits_validation(point: MetricPoint, total_steps: int | None, config: Mapping[str, Any]) -> bool:
    """Whether a run may still measure this step, its last one so far, on its held-out rows. `config` is the run's.

    A run does so every eval_every_steps steps, or after each epoch. Where that is not certain, it may.
    """
    if config["data"]["heldout"] is None or "eval_loss" in point.values:
        return False
    every, epoch = config["training"]["eval_every_steps"], point.values.get("epoch", 0.0)
    if total_steps is None or epoch <= 0 or point.step >= total_steps:
        return True
    if every is not None:
        return bool(point.step % every == 0)
    return abs(epoch - round(epoch)) < 0.5 * epoch / point.step  # half of what a step adds


def total_steps(point: MetricPoint, n_epochs: float) -> int | None:
    """All steps of the run, by how far it has come at a step; None if that is not known."""
    epoch = point.values.get("epoch", 0.0)
    steps = point.step * (n_epochs / epoch) if epoch > 0 else math.inf
    return max(point.step, round(steps)) if math.isfinite(steps) else None


def estimated_finish(first: MetricPoint, last: MetricPoint, n_epochs: float) -> float | None:
    """When the run ends, at its pace from one point to the other, as Unix time; None if there is no pace yet."""
    done = last.values.get("epoch", 0.0) - first.values.get("epoch", 0.0)
    if done <= 0 or last.measured_at <= first.measured_at:
        return None
    left = max(0.0, n_epochs - last.values["epoch"])
    return last.measured_at + left / done * (last.measured_at - first.measured_at)


def trained_tokens(record: TrainingRecord) -> int | None:
    """Tokens that were trained on, over all epochs; None if it is not known."""
    epochs = max((point.values.get("epoch", 0.0) for point in record.points), default=0.0)
    return round(record.train_tokens * epochs) if record.train_tokens is not None and epochs else None


def results_csv(points: Sequence[MetricPoint]) -> bytes:
    """OpenAI's file of results: a row for each step, with the metrics that were measured; others have no column."""
    names = [name for name in OPENAI_NAMES if any(name in point.values for point in points)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["step", *(OPENAI_NAMES[name] for name in names)])
    for point in points:
        if _shown(point):
            rows.writerow([point.step, *(_number(point.values.get(name)) for name in names)])
    return text.getvalue().encode()


def checkpoint_metrics(points: Sequence[MetricPoint], step: int | None) -> CheckpointMetrics:
    """The last value of each metric up to the checkpoint's step; None is the step of the last point."""
    if step is None and points:
        step = points[-1].step
    last: dict[str, float] = {}
    for point in points:
        if step is not None and point.step <= step:
            last |= point.values
    return CheckpointMetrics(
        step=float(step) if step is not None else None,
        train_loss=last.get("loss"),
        full_valid_loss=last.get("eval_loss"),
    )


def _step_event(point: MetricPoint, total: int | None) -> EventText:
    data: dict[str, Any] = {"step": point.step} | _shown(point)
    if total is not None:
        data["total_steps"] = total
    texts = {"train_loss": "training loss", "valid_loss": "validation loss"}
    shown = [f"{texts.get(name, name)}={value:.4g}" for name, value in _shown(point).items()]
    place = f"Step {point.step}/{total}" if total is not None else f"Step {point.step}"
    return EventText(f"{place}: {', '.join(shown)}", data=data, is_metrics=True)


def _shown(point: MetricPoint) -> dict[str, float]:
    return {OPENAI_NAMES[name]: value for name, value in point.values.items() if name in OPENAI_NAMES}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
