"""ModelPublication: serves what a run made, the model at its end and its earlier checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve_apps.platform_app.fine_tuning.execution.metric_events import checkpoint_metrics
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, TrainedModel
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import EventText
from serve_apps.platform_app.tuned_models.model_host import ModelHost, ServedFacts
from serve_apps.platform_app.tuned_models.model_record import (
    ModelRecord,
    checkpoint_model_id,
    checkpoint_name,
    model_name,
)
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.tables import PREPARING
from tuneyard.api.wire.platform_api.fine_tuning import CheckpointMetrics
from tuneyard.core.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedCheckpoint:
    """A checkpoint whose model answers, and what was measured at its step."""

    model: ModelRecord
    facts: ServedFacts
    metrics: CheckpointMetrics


class ModelPublication:
    """Registers each model in the store before its application starts, so whatever runs has a record that says so."""

    def __init__(self, models: ModelStore, host: ModelHost, organization: str, now: Callable[[], float]) -> None:
        self._models = models
        self._host = host
        self._organization = organization
        self._now = now

    async def serve(
        self, job: JobRecord, trained: TrainedModel, folder: str, points: Sequence[MetricPoint]
    ) -> tuple[list[ServedCheckpoint], list[EventText]]:
        """The checkpoints that are served, oldest first, of which the last one is the job's model; and events of them.

        `folder` holds everything of the run. An earlier checkpoint that cannot be served is left out, which an event
        says. May be repeated. Raises what ModelHost.start raises, for the job's model.
        """
        served: list[ServedCheckpoint] = []
        events: list[EventText] = []
        for earlier in trained.earlier:
            model = self._earlier_model(job, earlier)
            try:
                served.append(await self._serve(model, earlier, points))
            except (CheckpointError, ConfigError) as e:
                logger.warning("%s is not served: %s", model.name, e)
                await self._host.remove(model.id)
                await self._models.database.run(self._models.forget, model.id)
                message = f"The checkpoint of step {earlier.step} cannot be used: {e}"
                events.append(EventText(message, "warn", {"code": "checkpoint_not_servable"}))
            else:
                events.append(EventText(f"Checkpoint created at step {earlier.step}: {model.name}"))
        served.append(await self._serve(self._model(job, trained, folder), trained, points))
        return served, events

    async def _serve(
        self, model: ModelRecord, trained: TrainedModel, points: Sequence[MetricPoint]
    ) -> ServedCheckpoint:
        await self._models.database.run(self._models.prepare, model)
        facts = await self._host.start(model)
        return ServedCheckpoint(model, facts, checkpoint_metrics(points, trained.step))

    def _model(self, job: JobRecord, trained: TrainedModel, folder: str) -> ModelRecord:
        return ModelRecord(
            id=job.id,
            owner=job.owner,
            created_at=self._now(),
            name=model_name(job.base, self._organization, job.suffix, job.id),
            state=PREPARING,
            base=job.base,
            version=trained.version,
            checkpoint=trained.checkpoint,
            folder=folder,
        )

    def _earlier_model(self, job: JobRecord, trained: TrainedModel) -> ModelRecord:
        assert trained.step is not None
        return ModelRecord(
            id=checkpoint_model_id(job.id, trained.step),
            owner=job.owner,
            created_at=self._now(),
            name=checkpoint_name(model_name(job.base, self._organization, job.suffix, job.id), trained.step),
            state=PREPARING,
            base=job.base,
            version=trained.version,
            checkpoint=trained.checkpoint,
            folder=trained.checkpoint,
            checkpoint_of=job.id,
        )
