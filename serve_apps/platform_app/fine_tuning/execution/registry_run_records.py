"""RegistryRunRecords: what runs wrote into the model registry (MLflow)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from serve_apps.platform_app.fine_tuning.execution.metric_events import OPENAI_NAMES
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, TrainedModel, TrainingRecord
from tuneyard.checkpoints.registry import (
    NEWEST,
    TRAIN_TOKENS,
    LoggedPoint,
    ModelRegistry,
    ModelVersion,
)
from tuneyard.core.errors import RegistryError

NAMES = (*OPENAI_NAMES, "epoch")
"""The metrics that are read; the others of a run are for its operators."""


class RegistryRunRecords:
    """See RunRecords. `open_registry` gives the registry of this process, which takes seconds with its first call."""

    def __init__(self, open_registry: Callable[[], Awaitable[ModelRegistry]]) -> None:
        self._open_registry = open_registry

    async def training(self, job_id: str, after_step: int) -> TrainingRecord | None:
        """See RunRecords."""
        registry = await self._open_registry()
        return await asyncio.to_thread(_read_training, registry, job_id, after_step)

    async def tags(self, job_id: str) -> Mapping[str, str]:
        """See RunRecords."""
        registry = await self._open_registry()
        return await asyncio.to_thread(_read_tags, registry, job_id)

    async def result(self, job_id: str) -> TrainedModel | None:
        """See RunRecords."""
        registry = await self._open_registry()
        return await asyncio.to_thread(_read_result, registry, job_id)


def _read_training(registry: ModelRegistry, job_id: str, after_step: int) -> TrainingRecord | None:
    try:
        run = registry.newest_run(job_id)
        if run is None:
            return None
        # The run may log steps while its metrics are read one after another. Those up to this one are there as a whole.
        last = max((point.step for name, point in run.latest.items() if name in NAMES), default=0)
        logged = [
            point
            for name in NAMES
            if last > after_step and name in run.latest
            for point in registry.points(run.run_id, name)
            if after_step < point.step <= last
        ]
    except Exception as e:  # MLflow raises whatever its store or its connection raises
        raise RegistryError(f"The registry {registry.uri} does not answer: {e}") from e
    tokens = run.params.get(TRAIN_TOKENS)
    return TrainingRecord(points_by_step(logged), int(tokens) if tokens is not None else None)


def _read_tags(registry: ModelRegistry, job_id: str) -> Mapping[str, str]:
    try:
        run = registry.newest_run(job_id)
        return registry.run_tags(run.run_id) if run is not None else {}
    except Exception as e:  # see above
        raise RegistryError(f"The registry {registry.uri} does not answer: {e}") from e


def points_by_step(logged: Iterable[LoggedPoint]) -> list[MetricPoint]:
    """Values of any metrics as one point for each step. Of a step that was repeated, the later value holds."""
    by_step: dict[int, dict[str, float]] = {}
    times: dict[int, float] = {}
    for point in sorted(logged, key=lambda point: point.logged_at):
        by_step.setdefault(point.step, {})[point.name] = point.value
        times[point.step] = point.logged_at
    return [MetricPoint(step, by_step[step], times[step]) for step in sorted(by_step)]


def _read_result(registry: ModelRegistry, job_id: str) -> TrainedModel | None:
    try:
        versions = registry.versions(job_id)
    except Exception as e:  # see above
        raise RegistryError(f"The registry {registry.uri} does not answer: {e}") from e
    if not versions:
        return None
    version = registry.find(f"{job_id}@{NEWEST}")
    last = _trained(version)
    steps = {found.step: found for found in map(_trained, (each for each in versions if each.run_id == version.run_id))}
    before = sorted(step for step in steps if step is not None and last.step is not None and 0 < step < last.step)
    return replace(last, earlier=tuple(steps[step] for step in before))


def _trained(version: ModelVersion) -> TrainedModel:
    return TrainedModel(f"{version.name}/{version.version}", version.checkpoint, version.step)
