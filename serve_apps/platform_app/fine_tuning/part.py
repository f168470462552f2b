"""FineTuningPart: fine-tuning jobs as a part of the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fastapi import FastAPI

from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.fine_tuning.job_admission import JobAdmission
from serve_apps.platform_app.fine_tuning.job_service import JobService
from serve_apps.platform_app.fine_tuning.job_steps import JobServices, JobSteps
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.routes import add_job_routes

logger = logging.getLogger(__name__)

SHORT_CHECK_S = 0.5
"""Seconds that the queue waits for checks of files that have begun: jobs with small files are then begun at once, and
not in the next step."""

SWEEP_INTERVAL_S = 60.0
"""Seconds between two searches for runs that no job waits for."""


class FineTuningPart:
    """See Part. A step of each job runs in a task of its own, so that a long one holds no other job up."""

    name = "fine_tuning"

    def __init__(self, context: PlatformContext, services: JobServices) -> None:
        self._context = context
        self._services = services
        self._admission = JobAdmission(services, context.config.max_running_jobs)
        self._steps = JobSteps(services)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sweep_at = 0.0

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:
        """Adds /v1/fine_tuning/jobs."""
        services = self._services
        add_job_routes(
            api, gate, self._context, JobService(services.jobs, services.files, services.bases, self._context.config)
        )

    async def reconcile(self, now: float) -> None:
        """Takes the next step of every unfinished job, and begins queued ones."""
        jobs = await self._unfinished()
        self._start_steps(jobs)
        validating = (job.id for job in jobs if job.state.status == "validating_files")
        checks = [self._tasks[job_id] for job_id in validating if job_id in self._tasks]
        if checks:
            await asyncio.wait(checks, timeout=SHORT_CHECK_S)
            jobs = await self._unfinished()
        if await self._admission.begin(jobs):
            self._start_steps(await self._unfinished())
        if now >= self._sweep_at:
            await self._stop_strays()
            self._sweep_at = now + SWEEP_INTERVAL_S

    async def settle(self) -> None:
        """Returns when no step is running."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Ends all steps. A submission that is on its way arrives first."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._services.checker.close()

    def _start_steps(self, jobs: Sequence[JobRecord]) -> None:
        for job in jobs:
            if job.id not in self._tasks and job.state.has_step:
                task = asyncio.create_task(self._steps.take(job), name=job.id)
                self._tasks[job.id] = task
                task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task.get_name(), None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: a step ended with an error", task.get_name(), exc_info=error)

    async def _unfinished(self) -> list[JobRecord]:
        return await self._context.database.run(self._services.jobs.unfinished)

    async def _stop_strays(self) -> None:
        """Stops runs whose job is known and waits for no such run; there are none, unless a process was held up for
        longer than its lease."""
        running = await self._services.runner.running()
        job_ids = sorted({run_id.rpartition("-")[0] for run_id in running})
        known = {job.id: job for job in await self._context.database.run(self._services.jobs.all_of, job_ids)}
        for run_id in running:
            job = known.get(run_id.rpartition("-")[0])
            if job is not None and (job.run_id != run_id or job.state.execution in ("none", "cleaning", "done")):
                await self._services.runner.stop(run_id)
