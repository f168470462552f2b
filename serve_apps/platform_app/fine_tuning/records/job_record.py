"""JobRecord: a fine-tuning job as the store has it, and as clients see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Row

from serve_apps.platform_app.fine_tuning.records.states import Execution, JobState
from tuneyard.api.wire.platform_api.fine_tuning import (
    DpoHyperparameters,
    FineTuningJob,
    FineTuningJobEvent,
    JobError,
    JobStatus,
    SupervisedHyperparameters,
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job. Times are Unix seconds; see tables.JOBS."""

    id: str
    owner: str
    created_at: float
    state: JobState
    base: str
    requested_model: str
    parent: str | None
    method: str
    training_file: str
    validation_file: str | None
    requested_hyperparameters: dict[str, Any]
    hyperparameters: dict[str, Any] | None
    suffix: str | None
    seed: int
    integrations: list[dict[str, Any]] | None
    config: str | None
    error: JobError | None
    fine_tuned_model: str | None
    result_file: str | None
    last_step: int
    trained_tokens: int | None
    estimated_finish: float | None
    finished_at: float | None
    retry_at: float | None
    retries: int
    metadata: dict[str, str] | None

    @property
    def run_id(self) -> str:
        """The runner's id of the current attempt. It is never used for another attempt."""
        return f"{self.id}-{self.state.attempt}"

    def requested(self) -> SupervisedHyperparameters | DpoHyperparameters:
        """The hyperparameters as they were requested."""
        kind = DpoHyperparameters if self.method == "dpo" else SupervisedHyperparameters
        return kind.model_validate(self.requested_hyperparameters)

    def as_object(self, organization: str) -> FineTuningJob:
        """The job as clients see it."""
        values = self.hyperparameters or self.requested_hyperparameters
        is_running = self.state.status == "running"
        has_succeeded = self.state.status == "succeeded"
        return FineTuningJob(
            id=self.id,
            created_at=int(self.created_at),
            error=self.error,
            fine_tuned_model=self.fine_tuned_model if has_succeeded else None,
            finished_at=int(self.finished_at) if self.finished_at is not None else None,
            hyperparameters={name: value for name, value in values.items() if name != "beta"},
            model=self.parent or self.base,
            organization_id=organization,
            result_files=[self.result_file] if has_succeeded and self.result_file is not None else [],
            seed=self.seed,
            status=self.state.status,
            trained_tokens=self.trained_tokens if has_succeeded else None,
            training_file=self.training_file,
            validation_file=self.validation_file,
            estimated_finish=int(self.estimated_finish) if is_running and self.estimated_finish is not None else None,
            integrations=self._shown_integrations(),
            metadata=self.metadata,
            method={"type": self.method, self.method: {"hyperparameters": values}},
            user_provided_suffix=self.suffix,
        )

    def _shown_integrations(self) -> list[dict[str, Any]] | None:
        """The integrations as OpenAI shows them: the run there has the job's id."""
        if self.integrations is None:
            return None
        return [{"type": item["type"], "wandb": item["wandb"] | {"run_id": self.id}} for item in self.integrations]


def job_record(row: Row[Any], metadata: Mapping[str, str]) -> JobRecord:
    """The record of a row of tables.JOBS and the job's metadata."""
    return JobRecord(
        id=row.id,
        owner=row.owner,
        created_at=row.created_at,
        state=JobState(
            cast(JobStatus, row.status),
            cast(Execution, row.execution),
            row.attempt,
            row.interruptions,
            row.is_validated,
        ),
        base=row.base,
        requested_model=row.requested_model,
        parent=row.parent,
        method=row.method,
        training_file=row.training_file,
        validation_file=row.validation_file,
        requested_hyperparameters=json.loads(row.requested_hyperparameters),
        hyperparameters=json.loads(row.hyperparameters) if row.hyperparameters is not None else None,
        suffix=row.suffix,
        seed=row.seed,
        integrations=json.loads(row.integrations) if row.integrations is not None else None,
        config=row.config,
        error=JobError.model_validate_json(row.error) if row.error is not None else None,
        fine_tuned_model=row.fine_tuned_model,
        result_file=row.result_file,
        last_step=row.last_step,
        trained_tokens=row.trained_tokens,
        estimated_finish=row.estimated_finish,
        finished_at=row.finished_at,
        retry_at=row.retry_at,
        retries=row.retries,
        metadata=dict(metadata) or None,
    )


def event_object(row: Row[Any]) -> FineTuningJobEvent:
    """An event as clients see it, of a row of tables.JOB_EVENTS."""
    return FineTuningJobEvent(
        id=row.id,
        created_at=int(row.created_at),
        level=row.level,
        message=row.message,
        type=row.type,
        data=json.loads(row.data),
    )
