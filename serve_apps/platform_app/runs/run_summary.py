"""What is told of one run: its state, how far it is, and when it ends. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serve_apps.platform_app.fine_tuning.execution.metric_events import estimated_finish, total_steps
from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint
from serve_apps.platform_app.fine_tuning.records.states import RunState
from serve_apps.platform_app.runs.run_jobs import RunJob
from tuneyard.api.wire.platform_api.runs import Run, RunStatus
from tuneyard.checkpoints.registry import LoggedRun

SILENT_S = 600.0
"""Seconds without a metric after which a run that no job runs is `silent`."""

_OF_JOB: Mapping[RunState, RunStatus] = {
    RunState.PENDING: "queued",
    RunState.RUNNING: "running",
    RunState.SUCCEEDED: "succeeded",
    RunState.FAILED: "failed",
    RunState.INTERRUPTED: "failed",
    RunState.STOPPED: "stopped",
}
_OF_REGISTRY: Mapping[str, RunStatus] = {"FINISHED": "succeeded", "FAILED": "failed", "KILLED": "stopped"}


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run: what the registry has of it, and its newest job; one of them may be None."""

    logged: LoggedRun | None
    job: RunJob | None
    version: str | None = None
    """The version that it registered, `name/number`."""

    @property
    def id(self) -> str:
        """See wire.Run."""
        if self.logged is not None:
            return self.logged.run_id
        assert self.job is not None
        return self.job.id

    @property
    def started_at(self) -> float:
        """When it was started first, in Unix seconds."""
        return min(thing.started_at for thing in (self.logged, self.job) if thing is not None)


def join_runs(logged: Sequence[LoggedRun], jobs: Iterable[RunJob], versions: Mapping[str, str]) -> list[KnownRun]:
    """Each run with its newest job, the newest run first. `versions` are names of versions by the run's id.

    A job belongs to the newest run of its name: a run with that name before was started over.
    """
    newest_jobs: dict[str, RunJob] = {}
    for job in sorted(jobs, key=lambda job: job.started_at):
        newest_jobs[job.run] = job
    runs: list[KnownRun] = []
    for run in sorted(logged, key=lambda run: run.started_at, reverse=True):
        runs.append(KnownRun(run, newest_jobs.pop(run.name, None), versions.get(run.run_id)))
    runs += [KnownRun(None, job) for job in newest_jobs.values()]
    return sorted(runs, key=lambda run: run.started_at, reverse=True)


def summarize(run: KnownRun, epochs: Sequence[MetricPoint], now: float) -> Run:
    """The run for clients. `epochs` are some of its newest points of the metric `epoch`, for the pace; may be empty."""
    logged, job = run.logged, run.job
    status = _status(run, now)
    latest = logged.latest if logged is not None else {}
    planned = _planned_epochs(logged) if logged is not None else None
    step, total, progress = _progress(logged, planned)
    ends_at = None
    if status == "running" and planned is not None and len(epochs) > 1:
        ends_at = estimated_finish(epochs[0], epochs[-1], planned)
    finished_at = None
    if status not in ("queued", "running", "silent"):
        finished_at = job.ended_at if job is not None and job.ended_at is not None else logged and logged.ended_at
    return Run(
        id=run.id,
        name=logged.name if logged is not None else job.run if job is not None else "",
        model=logged.model_name if logged is not None else None,
        status=status,
        message=_message(run, status, now),
        step=step,
        total_steps=total,
        progress=progress,
        estimated_finish=round(ends_at) if ends_at is not None and math.isfinite(ends_at) else None,
        started_at=int(run.started_at),
        finished_at=int(finished_at) if finished_at else None,
        metrics={name: point.value for name, point in sorted(latest.items()) if math.isfinite(point.value)},
        job=job.id if job is not None else None,
        version=run.version,
    )


def _status(run: KnownRun, now: float) -> RunStatus:
    of_registry = _OF_REGISTRY.get(run.logged.status) if run.logged is not None else None
    if run.job is not None:
        of_job = _OF_JOB.get(run.job.state, "failed")
        # The job of a run goes on after it, if the run's config deploys the result; and it may fail then.
        return of_registry if of_registry == "succeeded" and of_job != "queued" else of_job
    if of_registry is not None:
        return of_registry
    assert run.logged is not None
    return "silent" if now - _heard_at(run.logged) > SILENT_S else "running"


def _message(run: KnownRun, status: RunStatus, now: float) -> str | None:
    if status == "silent" and run.logged is not None:
        minutes = (now - _heard_at(run.logged)) / 60
        return f"No job of this cluster runs it, and it has logged nothing for {minutes:.0f} minutes: it was killed."
    if run.job is None or status not in ("failed", "stopped"):
        return None
    return run.job.message or None


def _heard_at(logged: LoggedRun) -> float:
    return max([logged.started_at, *(point.logged_at for point in logged.latest.values())])


def _planned_epochs(logged: LoggedRun) -> float | None:
    """Epochs that the run is to train for; None if that is not known."""
    epoch = logged.latest.get("epoch")
    max_steps = _number(logged.params.get("training.max_steps"))
    if max_steps is not None:
        planned = epoch.value * (max_steps / epoch.step) if epoch is not None and epoch.step > 0 else math.inf
        return planned if math.isfinite(planned) else None
    return _number(logged.params.get("training.epochs"))


def _progress(logged: LoggedRun | None, planned: float | None) -> tuple[int | None, int | None, float | None]:
    """Step, all steps, and the share that is done."""
    if logged is None or not logged.latest:
        return None, None, None
    step = max(point.step for point in logged.latest.values())
    epoch = logged.latest.get("epoch")
    if planned is None or epoch is None or not 0 < epoch.value < math.inf or planned <= 0:
        return step, None, None
    total = total_steps(MetricPoint(epoch.step, {"epoch": epoch.value}, epoch.logged_at), planned)
    done = epoch.value / planned
    return step, total, min(1.0, done) if done > 0 else None


def _number(text: str | None) -> float | None:
    """The positive number of a parameter; None if it has none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
