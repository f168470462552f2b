"""JobService: what clients ask for: jobs are created, listed, cancelled, paused and resumed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from serve_apps.keys.model_scope import may_use, owner_digest
from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.fine_tuning.records import states
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import EventText, JobChange, JobStore
from serve_apps.platform_app.fine_tuning.records.states import JobState
from serve_apps.platform_app.fine_tuning.settings.bases import Bases
from serve_apps.platform_app.fine_tuning.settings.hyperparameters import check_batch_size
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.wire.platform_api.fine_tuning import CreateJobRequest
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.errors import RequestError

SCOPE = "fine_tuning.jobs"


class JobService:
    """Writes what clients ask for into the store; the reconciler does it."""

    def __init__(self, jobs: JobStore, files: FileService, bases: Bases, config: PlatformConfig) -> None:
        self.jobs = jobs
        self._models = ModelStore(jobs.database)
        self._files = files
        self._bases = bases
        self._config = config

    async def create(self, key: ApiKey | None, request: CreateJobRequest, idempotency_key: str) -> JobRecord:
        """A new job. Raises ModelNotFoundError, ObjectNotFoundError, QuotaError; RequestError for what is refused."""
        owner = owner_digest(key)
        parent = await self.jobs.database.run(self._models.find, owner, request.model)
        base = self._bases.find(parent.base if parent else request.model, lambda name: may_use(key, name))
        in_method = f"method.{request.method_type}.hyperparameters" if request.method is not None else "hyperparameters"
        check_batch_size(request.requested_hyperparameters, base, f"{in_method}.batch_size")
        if request.method_type == "dpo" and base.template.training.backend == "nemo":
            raise RequestError(
                f"The base {base.name} is trained with NeMo here, which does not support the method 'dpo'.",
                param="method.type",
                code="unsupported",
            )
        self._check_integrations(request)
        for param, file_id in (("training_file", request.training_file), ("validation_file", request.validation_file)):
            if file_id is not None:
                await self._check_file(owner, param, file_id)
        seed = request.seed if request.seed is not None else secrets.randbelow(2**31)
        repeated = IdempotentRequest(owner, SCOPE, idempotency_key, request.model_dump(mode="json"))
        limit = self._config.max_active_jobs_per_key
        parent_name = parent.name if parent is not None else None
        return await self._run(self.jobs.create, owner, request, base.name, parent_name, seed, repeated, limit)

    async def cancel(self, owner: str, job_id: str) -> JobRecord:
        """The job, cancelled. Raises WrongStateError if it has ended."""
        return await self._change(owner, job_id, states.cancel, "Job cancelled")

    async def pause(self, owner: str, job_id: str) -> JobRecord:
        """The job, paused: its run ends and keeps its last checkpoint. Raises WrongStateError where there is no run."""
        return await self._change(owner, job_id, states.pause, "Job paused; it can go on from its last checkpoint")

    async def resume(self, owner: str, job_id: str) -> JobRecord:
        """The job, queued again. Raises WrongStateError if it is not paused."""
        return await self._change(owner, job_id, states.resume, "Job resumed")

    async def _change(self, owner: str, job_id: str, decide: Callable[[JobState], JobState], event: str) -> JobRecord:
        def change(job: JobRecord) -> JobChange:
            values: dict[str, Any] = {"retries": 0, "retry_at": None, "estimated_finish": None}
            return JobChange(decide(job.state), [EventText(event)], values)

        return await self._run(self.jobs.change, job_id, change, owner)

    def _check_integrations(self, request: CreateJobRequest) -> None:
        """Raises RequestError for what this deployment does not send metrics to."""
        requested = request.integrations or []
        if requested and self._config.wandb is None:
            raise RequestError(
                "The integration 'wandb' is not supported by this server: its config has no platform.wandb. The "
                "metrics of every job are in its MLflow, in the events of the job and in its result file.",
                param="integrations",
                code="unsupported",
            )
        if len(requested) > 1:
            raise RequestError(
                f"'integrations' has {len(requested)} entries, and this server supports one for each job. Remove the "
                "others.",
                param="integrations",
                code="unsupported",
            )

    async def _check_file(self, owner: str, param: str, file_id: str) -> None:
        """Raises ObjectNotFoundError, or RequestError for a file of another purpose or with a known fault."""
        file = await self._files.find(owner, file_id)
        if file.purpose != "fine-tune":
            raise RequestError(
                f"Invalid value for {param!r}: {file_id} has the purpose {file.purpose!r}. Upload the file with the "
                "purpose 'fine-tune'.",
                param=param,
                code="invalid_file_purpose",
            )
        if file.details is not None:
            raise RequestError(
                f"Invalid value for {param!r}: {file_id} cannot be trained on: {file.details}",
                param=param,
                code=f"invalid_{param}",
            )

    async def _run(self, call: Callable[..., JobRecord], *args: Any) -> JobRecord:
        return await self.jobs.database.run(call, *args)
