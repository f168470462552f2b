"""The states of a fine-tuning job, and every change of them. No I/O: the store applies a change in one transaction.

`status` is what clients are told. `execution` is what has to be done about it: the Ray job of the current attempt, and
the files of the job.

    status      validating_files → queued → running → succeeded | failed | cancelled, and paused on the way
    execution   none → submitting → submitted → publishing → done
                          └───────────┴─ stopping → none (paused) | cleaning → done (failed, cancelled)

A client's wish changes `status` at once. The reconciler then makes `execution` follow, step by step; each step may be
repeated, and none is begun before the one before it is known to have ended. So an attempt is submitted once, and no
two attempts of a job run at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from tuneyard.api.wire.platform_api.fine_tuning import JobStatus
from tuneyard.core.errors import RequestError

Execution = Literal["none", "submitting", "submitted", "stopping", "publishing", "cleaning", "done"]

TERMINAL: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
"""Statuses that never change again."""

OCCUPYING: tuple[Execution, ...] = ("submitting", "submitted", "stopping", "publishing")
"""Executions that take one of the places of jobs that run at the same time."""

TRAINING: tuple[Execution, ...] = ("submitting", "submitted", "stopping")
"""Those of them whose run has workers, or is about to."""

MAX_INTERRUPTIONS = 5
"""Attempts in a row that may be interrupted without a step of progress between them."""


class RunState(StrEnum):
    """What the runner knows of an attempt."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The run itself reported an error: another attempt would end the same way."""
    INTERRUPTED = "interrupted"
    """Something ended the run from outside, such as the death of its process or node."""
    STOPPED = "stopped"
    """Someone stopped the run."""
    UNKNOWN = "unknown"
    """The runner has no such attempt: it was never submitted, or the cluster was restarted."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of the attempt runs."""
        return self not in (RunState.PENDING, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobState:
    """Where a job is. `attempt` is the number of the last attempt, 0 before the first."""

    status: JobStatus = "validating_files"
    execution: Execution = "none"
    attempt: int = 0
    interruptions: int = 0
    """Attempts that were interrupted since the last progress."""
    is_validated: bool = False

    @property
    def has_step(self) -> bool:
        """Whether there is something to do that depends on no other job."""
        return self.status == "validating_files" if self.execution == "none" else self.execution != "done"


class WrongStateError(RequestError):
    """The job's status does not allow what the request wants."""


def cancel(state: JobState) -> JobState:
    """The client cancels the job. Raises WrongStateError for one that has ended."""
    if state.status in TERMINAL:
        raise WrongStateError(f"The job has {_ended(state.status)} and cannot be cancelled.", code="job_ended")
    return replace(state, status="cancelled", execution=_execution_without_run(state))


def pause(state: JobState) -> JobState:
    """The client pauses the job. Raises WrongStateError for one that has ended, or whose training has."""
    if state.status in TERMINAL:
        raise WrongStateError(f"The job has {_ended(state.status)} and cannot be paused.", code="job_ended")
    if state.status == "paused":
        raise WrongStateError("The job is paused already.", code="job_paused")
    if state.execution == "publishing":
        raise WrongStateError(
            "The job's training is complete, and its model is being made available: there is nothing to pause.",
            code="job_publishing",
        )
    execution: Execution = "none" if state.execution == "none" else "stopping"
    return replace(state, status="paused", execution=execution)


def resume(state: JobState) -> JobState:
    """The client resumes a paused job. Raises WrongStateError for one that is not paused."""
    if state.status != "paused":
        raise WrongStateError(f"The job is {state.status}; only a paused job can be resumed.", code="job_not_paused")
    return replace(state, status="queued" if state.is_validated else "validating_files")


def accept_files(state: JobState) -> JobState:
    """The files are valid. Without effect on a job that no longer waits for that."""
    if state.status != "validating_files":
        return state
    return replace(state, status="queued", is_validated=True)


def reject_files(state: JobState) -> JobState:
    """The files have errors. Without effect on a job that no longer waits for that."""
    if state.status != "validating_files":
        return state
    return replace(state, status="failed", execution="cleaning")


def begin_attempt(state: JobState) -> JobState:
    """The next attempt is to be submitted; only for a queued job with nothing left of the attempt before."""
    if state.status != "queued" or state.execution != "none":
        return state
    return replace(state, execution="submitting", attempt=state.attempt + 1)


def confirm_submission(state: JobState, attempt: int) -> JobState:
    """The runner has the attempt."""
    if state.execution != "submitting" or state.attempt != attempt:
        return state
    return replace(state, execution="submitted")


def observe(state: JobState, attempt: int, run: RunState) -> JobState:
    """The runner says where the attempt is. Without effect if the job has another attempt by now.

    An attempt that is submitted and unknown is gone with its cluster; one that was to be submitted is not observed.
    """
    if state.attempt != attempt:
        return state
    if state.execution == "stopping":
        return _after_stop(state) if run.is_over else state
    if state.execution != "submitted":
        return state
    match run:
        case RunState.RUNNING:
            return replace(state, status="running")
        case RunState.SUCCEEDED:
            return replace(state, status="running", execution="publishing")
        case RunState.INTERRUPTED | RunState.UNKNOWN if state.interruptions < MAX_INTERRUPTIONS:
            # In the queue again, where its turn comes first: it is the oldest.
            return replace(state, status="queued", execution="none", interruptions=state.interruptions + 1)
        case RunState.PENDING:
            return state
    return replace(state, status="failed", execution="cleaning")


def note_progress(state: JobState) -> JobState:
    """The run has made a step since the last interruption."""
    return replace(state, interruptions=0) if state.interruptions else state


def publish(state: JobState) -> JobState:
    """The model answers. Without effect on a job that was cancelled meanwhile."""
    return replace(state, status="succeeded", execution="done") if state.execution == "publishing" else state


def fail_publication(state: JobState) -> JobState:
    """The model cannot be made available. Without effect on a job that was cancelled meanwhile."""
    return replace(state, status="failed", execution="cleaning") if state.execution == "publishing" else state


def finish_cleaning(state: JobState) -> JobState:
    """Nothing is left of the job but its record and its results."""
    return replace(state, execution="done") if state.execution == "cleaning" else state


def _execution_without_run(state: JobState) -> Execution:
    """What has to be done about a job that no client waits for."""
    return "stopping" if state.execution in ("submitting", "submitted", "stopping") else "cleaning"


def _after_stop(state: JobState) -> JobState:
    return replace(state, execution="cleaning" if state.status in TERMINAL else "none")


def _ended(status: JobStatus) -> str:
    return {"succeeded": "succeeded", "failed": "failed"}.get(status, "been cancelled")
