"""RunJobs: the jobs of finetuning runs: those that Ray's job server knows, and those that wait for their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_apps.platform_app.fine_tuning.execution.ray_job_runner import state_of
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.fine_tuning.records.states import RunState
from tuneyard.cluster.job_client import job_client, job_message, own_job_server, run_name

WAITING = ("validating_files", "queued")
"""Statuses of fine-tuning jobs that wait for their turn."""


@dataclass(frozen=True, slots=True)
class RunJob:
    """One attempt of a run. Times are Unix seconds."""

    id: str
    """Its id at Ray's job server."""
    run: str
    """The run's name."""
    state: RunState
    message: str
    """Ray's; empty if there is none."""
    started_at: float
    ended_at: float | None


class RunJobs(Protocol):
    """The jobs of runs."""

    async def all(self) -> Sequence[RunJob]:
        """All jobs of runs that the cluster knows. Raises ClusterError if it does not answer."""


class RayRunJobs:
    """See RunJobs: the jobs of the cluster that this process is part of."""

    async def all(self) -> Sequence[RunJob]:
        """See RunJobs."""
        return await asyncio.to_thread(_read_jobs)


def _read_jobs() -> list[RunJob]:
    with job_client(own_job_server()) as client:
        return [
            RunJob(
                id=str(job.submission_id),
                run=run_name(job),
                state=state_of(job),
                message=job_message(job),
                started_at=(job.start_time or 0) / 1000,
                ended_at=job.end_time / 1000 if job.end_time else None,
            )
            for job in client.list_jobs()
            if job.submission_id and run_name(job)
        ]


class WaitingJobs:
    """See RunJobs: the fine-tuning jobs of all keys that have no job at Ray's server yet, besides those of `others`."""

    def __init__(self, jobs: JobStore, others: RunJobs, now: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._others = others
        self._now = now

    async def all(self) -> Sequence[RunJob]:
        """See RunJobs."""
        begun = await self._others.all()
        unfinished = await self._jobs.database.run(self._jobs.unfinished)
        waiting = [job for job in unfinished if job.state.execution == "none" and job.state.status in WAITING]
        return [*begun, *map(self._waiting_job, waiting)]

    def _waiting_job(self, job: JobRecord) -> RunJob:
        # After a pause the run's earlier jobs are older than its place in the queue.
        started_at = self._now() if job.state.attempt else job.created_at
        return RunJob(job.id, job.id, RunState.PENDING, "", started_at, None)
