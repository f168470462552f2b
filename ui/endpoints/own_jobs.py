"""Fine-tuning jobs of one key in the form of runs, for the page's Runs view. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneyard.api.wire.platform_api.fine_tuning import FineTuningJob, FineTuningJobEvent, JobStatus
from tuneyard.api.wire.platform_api.runs import Curve, Run, RunCurves, RunStatus

STATUSES: Mapping[JobStatus, RunStatus] = {
    "validating_files": "queued",
    "queued": "queued",
    "running": "running",
    "paused": "stopped",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "stopped",
}
NAMES = {
    "train_loss": "loss",
    "valid_loss": "eval_loss",
    "train_preference_accuracy": "preference_accuracy",
    "valid_preference_accuracy": "eval_preference_accuracy",
    "train_reward_margin": "reward_margin",
    "valid_reward_margin": "eval_reward_margin",
}
"""The run's names of the metrics in events."""

NOTES = {"validating_files": "The files are checked.", "paused": "Paused.", "cancelled": "Cancelled."}


def run_of_job(job: FineTuningJob) -> Run:
    """The job as a run. How far it is, only its events say."""
    return Run(
        id=job.id,
        name=job.user_provided_suffix or job.id,
        model=job.fine_tuned_model or job.model,
        status=STATUSES[job.status],
        message=job.error.message if job.error is not None else NOTES.get(job.status),
        step=None,
        total_steps=None,
        progress=None,
        estimated_finish=job.estimated_finish if job.status == "running" else None,
        started_at=job.created_at,
        finished_at=job.finished_at,
        metrics={},
        job=None,
        version=None,
    )


def curves_of_events(job_id: str, events: Sequence[FineTuningJobEvent]) -> RunCurves:
    """The metrics in a job's events, which may come in any order. The later event of a repeated step holds."""
    by_name: dict[str, dict[int, float]] = {}
    for event in sorted(events, key=lambda event: event.id):
        step = event.data.get("step")
        if event.type != "metrics" or not isinstance(step, int):
            continue
        for name, value in event.data.items():
            if name in NAMES and isinstance(value, int | float):
                by_name.setdefault(NAMES[name], {})[step] = float(value)
    steps = [step for values in by_name.values() for step in values]
    return RunCurves(
        run=job_id,
        last_step=max(steps, default=None),
        curves=tuple(
            Curve(name=name, steps=tuple(sorted(values)), values=tuple(values[step] for step in sorted(values)))
            for name, values in sorted(by_name.items())
        ),
    )
