"""JobSteps: what the reconciler does about one job. Each step may be repeated, and may end anywhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serve_apps.platform_app.files.file_service import FileService
from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import CapacityReader
from serve_apps.platform_app.fine_tuning.execution.job_runner import JobRunner, RunReport
from serve_apps.platform_app.fine_tuning.execution.metric_events import (
    awaits_validation,
    estimated_finish,
    results_csv,
    step_events,
    total_steps,
    trained_tokens,
)
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint, RunRecords, TrainingRecord
from serve_apps.platform_app.fine_tuning.execution.tracking_events import tracking_events, wandb_fields
from serve_apps.platform_app.fine_tuning.model_publication import ModelPublication
from serve_apps.platform_app.fine_tuning.records import states
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import EventText, JobChange, JobStore
from serve_apps.platform_app.fine_tuning.records.states import JobState, RunState
from serve_apps.platform_app.fine_tuning.settings.bases import Bases
from serve_apps.platform_app.fine_tuning.settings.file_checks import FileChecker, FileToCheck, file_check
from serve_apps.platform_app.fine_tuning.settings.hyperparameters import resolve
from serve_apps.platform_app.fine_tuning.settings.run_config import run_config
from serve_apps.platform_app.fine_tuning.settings.worker_fit import describe_impossibility, fit_workers
from serve_apps.platform_app.retry_delay import retry_delay_s
from serve_apps.platform_app.store.object_ids import FILE, new_id
from serve_apps.platform_app.tuned_models.model_host import ModelFiles, ModelHost
from serve_apps.platform_app.tuned_models.model_store import ModelStore, go_live
from tuneyard.chats.instructions import instructions_advice
from tuneyard.configs.experiment_tracking import WandbServerConfig
from tuneyard.core.errors import (
    CheckpointError,
    ConfigError,
    ObjectNotFoundError,
    RegistryError,
    StoreUnavailableError,
    TuneyardError,
)

MAX_PUBLICATION_RETRIES = 10
MAX_RETRY_DELAY_S = 60.0
INSUFFICIENT_RESOURCES = "insufficient_resources"
"""Code of what a job is told that waits for resources, or can never have them."""

RESULTS_NAME = "step_metrics.csv"
"""OpenAI's name of the file of results."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobServices:
    """What the steps work with. `now` gives Unix time in seconds."""

    jobs: JobStore
    models: ModelStore
    files: FileService
    bases: Bases
    checker: FileChecker
    capacity: CapacityReader
    runner: JobRunner
    records: RunRecords
    host: ModelHost
    model_files: ModelFiles
    organization: str
    wandb: WandbServerConfig | None = None
    now: Callable[[], float] = time.time


class JobSteps:
    """Takes the next step of a job. One step of a job is taken at a time; those of several jobs at the same time."""

    def __init__(self, services: JobServices) -> None:
        self._services = services
        self._database = services.jobs.database
        self._publication = ModelPublication(services.models, services.host, services.organization, services.now)
        self._pace: dict[str, MetricPoint] = {}
        """By run: the first step that was seen. Only for the estimated end."""

    async def take(self, job: JobRecord) -> None:
        """Takes the next step of the job. A step that fails is tried again, less and less often."""
        if job.retry_at is not None and self._services.now() < job.retry_at:
            return
        try:
            await self._take(job)
        except StoreUnavailableError as e:
            logger.warning("%s: %s", job.id, e)
        except TuneyardError as e:
            logger.warning("%s: the step of %s failed: %s", job.id, job.state.execution, e)
            await self._note_failure(job, e)
        except Exception as e:
            logger.exception("%s: the step of %s failed", job.id, job.state.execution)
            await self._note_failure(job, e)
        else:
            if job.retries:
                await self._change(job, lambda now: JobChange(now.state, values={"retries": 0, "retry_at": None}))

    async def _take(self, job: JobRecord) -> None:
        match job.state.execution:
            case "none" if job.state.status == "validating_files":
                await self._validate(job)
            case "submitting":
                await self._submit(job)
            case "submitted":
                await self._watch(job)
            case "stopping":
                await self._stop(job)
            case "publishing":
                await self._publish(job)
            case "cleaning":
                await self._clean(job)

    async def _validate(self, job: JobRecord) -> None:
        services = self._services
        try:
            base = services.bases[job.base]
            named = [("training_file", job.training_file), ("validation_file", job.validation_file)]
            files = [
                FileToCheck(param, file_id, await services.files.location(job.owner, file_id))
                for param, file_id in named
                if file_id is not None
            ]
            report = await services.checker.check(file_check(base, files, is_dpo=job.method == "dpo"))
            if report.param is not None:
                await self._reject(job, f"invalid_{report.param}", report.problem, report.param)
                return
            values, hint = resolve(job.requested(), base, report.rows)
            capacity = await services.capacity.read()
            base, fewer = fit_workers(base, values.batch_size, capacity)
            if problem := describe_impossibility(base, capacity):
                await self._reject(job, INSUFFICIENT_RESOURCES, problem)
                return
            validation = files[1].location if len(files) > 1 else None
            parent = await self._parent(job)
            wandb = wandb_fields(job.id, job.integrations, services.wandb)
            config = run_config(base, job.id, files[0].location, validation, job.seed, values, parent, wandb)
        except KeyError:
            await self._reject(job, "model_not_found", f"The base {job.base} is not configured here any more.", "model")
            return
        except ObjectNotFoundError as e:
            await self._reject(job, "file_not_found", e.message)
            return
        except ConfigError as e:
            await self._reject(job, "invalid_configuration", str(e))
            return
        found = {"hyperparameters": json.dumps(values.as_json()), "config": config.model_dump_json()}
        advice = "" if report.instructions is None else instructions_advice(report.instructions)
        notes = [EventText(text) for text in (advice, hint, fewer) if text]
        events = [EventText("Files validated, moving job to queued state"), *notes]
        await self._change(job, lambda now: _if_changed(now, states.accept_files(now.state), events, found))

    async def _parent(self, job: JobRecord) -> str | None:
        """The checkpoint that the job goes on from; None if it starts from its base."""
        if job.parent is None:
            return None
        model = await self._database.run(self._services.models.named, job.parent)
        if model is None:
            raise ConfigError(f"The model {job.parent}, which the job goes on from, has been removed.")
        return model.checkpoint

    async def _reject(self, job: JobRecord, code: str, message: str, param: str | None = None) -> None:
        await self._change(job, lambda now: _failure(now, states.reject_files(now.state), code, message, param))

    async def _submit(self, job: JobRecord) -> None:
        assert job.config is not None
        await self._services.runner.submit(job.run_id, job.config)
        attempt = job.state.attempt
        await self._change(job, lambda now: JobChange(states.confirm_submission(now.state, attempt)))

    async def _watch(self, job: JobRecord) -> None:
        report = await self._services.runner.find(job.run_id)
        if report.state is RunState.SUCCEEDED:
            await self._tell_progress(job, is_complete=True)
            await self._tell_tracking(job)
        attempt = job.state.attempt
        if states.observe(job.state, attempt, report.state) != job.state:
            job = await self._change(job, lambda now: _observed(now, attempt, report))
        if report.state is RunState.RUNNING:
            await self._tell_progress(job, is_complete=False)
            await self._tell_tracking(job)

    async def _tell_progress(self, job: JobRecord, *, is_complete: bool) -> None:
        """Adds the events of steps. Until the run is complete the newest step waits if its validation may follow."""
        record = await self._services.records.training(job.id, job.last_step)
        points = record.points if record is not None else ()
        n_epochs = int((job.hyperparameters or {})["n_epochs"])
        if points and not is_complete:
            newest = points[-1]
            assert job.config is not None  # it was submitted with it
            if awaits_validation(newest, total_steps(newest, n_epochs), json.loads(job.config)):
                points = points[:-1]
        if not points:
            return
        finish = estimated_finish(self._pace.setdefault(job.run_id, points[0]), points[-1], n_epochs)
        events = step_events(points, total_steps(points[-1], n_epochs))
        values = {"estimated_finish": finish, "last_step": points[-1].step}

        def add(now: JobRecord) -> JobChange:
            if now.last_step != job.last_step or now.state.status in states.TERMINAL:
                return JobChange(now.state)
            return JobChange(states.note_progress(now.state), events, values)

        await self._change(job, add)

    async def _tell_tracking(self, job: JobRecord) -> None:
        """Adds the events of the run at Weights & Biases, if the job asked for one."""
        if not job.integrations:
            return
        tags = await self._services.records.tags(job.id)

        def add(now: JobRecord) -> JobChange:
            integrations, events = tracking_events(now.integrations or [], tags)
            if not events or now.state.status in states.TERMINAL:
                return JobChange(now.state)
            return JobChange(now.state, events, {"integrations": json.dumps(integrations)})

        if tracking_events(job.integrations, tags)[1]:
            await self._change(job, add)

    async def _stop(self, job: JobRecord) -> None:
        runner, attempt = self._services.runner, job.state.attempt
        await runner.stop(job.run_id)
        report = await runner.find(job.run_id)
        if report.state.is_over:
            await self._change(job, lambda now: JobChange(states.observe(now.state, attempt, report.state)))

    async def _publish(self, job: JobRecord) -> None:
        services = self._services
        trained = await services.records.result(job.id)
        if trained is None or job.result_file is None or job.config is None:
            raise RegistryError(f"The run {job.run_id} ended without registering a model.")
        record = await services.records.training(job.id, 0) or TrainingRecord((), None)
        content = results_csv(record.points)
        await services.files.create(
            job.owner, "fine-tune-results", RESULTS_NAME, _one_block(content), file_id=job.result_file
        )
        served, notes = await self._publication.serve(job, trained, _folder(job.config), record.points)
        name = served[-1].model.name
        values = {"fine_tuned_model": name, "trained_tokens": trained_tokens(record)}
        done = [EventText(f"New fine-tuned model created: {name}"), EventText("The job has successfully completed")]

        def publish(now: JobRecord) -> JobChange:
            new = states.publish(now.state)
            if new == now.state:
                return JobChange(new)

            def show(connection: Any) -> None:
                for each in served:
                    go_live(connection, each.model.id, each.facts)
                    services.jobs.add_checkpoint(connection, job.id, each.model.name, each.metrics)

            return JobChange(new, [*notes, *done], values, show)

        await self._change(job, publish)

    async def _clean(self, job: JobRecord) -> None:
        """Removes what a failed or cancelled job has left: applications, versions, files. Its events stay."""
        services = self._services
        for model in await self._database.run(services.models.checkpoints_of, job.id):
            await services.host.remove(model.id)
        await services.host.remove(job.id)
        if job.config is not None:
            if held := await services.model_files.aliases(job.id):
                # Someone has given the model a name of its own since it was registered.
                logger.warning("%s: its model stays, because aliases hold it: %s", job.id, ", ".join(held))
            else:
                await services.model_files.delete(job.id, _folder(job.config))
        await self._database.run(services.models.forget, job.id)
        if job.result_file is not None:
            try:
                await services.files.delete(job.owner, job.result_file)
            except ObjectNotFoundError:
                # Cancelled while it was written, by a process that died or lost its database.
                await services.files.delete_unfinished(job.owner, job.result_file)
        await self._change(job, lambda now: JobChange(states.finish_cleaning(now.state)))

    async def _note_failure(self, job: JobRecord, error: Exception) -> None:
        """The step is tried again later. What will never succeed, or did not for too long, fails the publication."""
        retries = job.retries + 1
        delay_s = retry_delay_s(1.0, retries, MAX_RETRY_DELAY_S)
        values = {"retries": retries, "retry_at": self._services.now() + delay_s}
        is_final = isinstance(error, CheckpointError | ConfigError) or retries > MAX_PUBLICATION_RETRIES
        if job.state.execution == "publishing" and is_final:
            message = str(error) if isinstance(error, TuneyardError) else "The server's log has the cause."
            await self._change(
                job,
                lambda now: _failure(now, states.fail_publication(now.state), "model_not_servable", message),
            )
            return
        await self._change(job, lambda now: JobChange(now.state, values=values))

    async def _change(self, job: JobRecord, decide: Callable[[JobRecord], JobChange]) -> JobRecord:
        return await self._database.run(self._services.jobs.change, job.id, decide)


def _if_changed(
    job: JobRecord, new: JobState, events: Sequence[EventText], values: dict[str, Any] | None = None
) -> JobChange:
    """The change with its events; nothing for a job that has gone on meanwhile."""
    return JobChange(new, events, values or {}) if new != job.state else JobChange(job.state)


def _failure(job: JobRecord, new: JobState, code: str, message: str, param: str | None = None) -> JobChange:
    error = json.dumps({"code": code, "message": message, "param": param})
    events = [EventText(f"The job failed: {message}", "error", {"code": code})]
    return _if_changed(job, new, events, {"error": error, "retries": 0, "retry_at": None})


def _observed(job: JobRecord, attempt: int, report: RunReport) -> JobChange:
    new = states.observe(job.state, attempt, report.state)
    if new == job.state:
        return JobChange(new)
    if new.status == "failed":
        code, message = _failure_of(report)
        return _failure(job, new, code, message)
    if new.execution == "publishing":
        result_file = job.result_file or new_id(FILE)
        events = [EventText("Training is complete; the model is being proved and made available")]
        return JobChange(new, events, {"result_file": result_file})
    if new.interruptions > job.state.interruptions:
        reason = f" ({report.message})" if report.message else ""
        text = f"The run was interrupted{reason}. It goes on from its last checkpoint."
        return JobChange(new, [EventText(text, "warn")], {"estimated_finish": None})
    if new.status == "running":
        again = "Fine-tuning job goes on" if attempt > 1 else "Fine-tuning job started"
        return JobChange(new, [EventText(again)])
    return JobChange(new)


def _failure_of(report: RunReport) -> tuple[str, str]:
    match report.state:
        case RunState.STOPPED:
            return "stopped", "The run was stopped on the cluster, and not through this API."
        case RunState.FAILED:
            return "training_failed", report.message or "The run ended with an error. The cluster's log has the cause."
    times = f"The run was interrupted {states.MAX_INTERRUPTIONS + 1} times without a step of progress in between."
    return "interrupted", f"{times} {report.message}".strip()


def _folder(config: str) -> str:
    """The location of the folder that everything of the job's run is in."""
    return str(json.loads(config)["run"]["storage"])


async def _one_block(content: bytes) -> AsyncIterator[bytes]:
    yield content
