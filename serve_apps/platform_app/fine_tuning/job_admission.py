"""JobAdmission: begins queued jobs, in turn, when the cluster has room for them."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence

from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from serve_apps.platform_app.fine_tuning.job_steps import INSUFFICIENT_RESOURCES, JobServices
from serve_apps.platform_app.fine_tuning.records import states
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import EventText, JobChange
from serve_apps.platform_app.fine_tuning.scheduling import choose_next, is_waiting
from serve_apps.platform_app.fine_tuning.settings.worker_fit import describe_wait
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.errors import ClusterError

KEPT_CONFIGS = 1000
"""Configs whose workers are kept: while the cluster is full, each step asks for those of every queued job."""

logger = logging.getLogger(__name__)


class JobAdmission:
    """Begins jobs. One that does not fit waits in the queue, knows why from an event, and holds no other job up."""

    def __init__(self, services: JobServices, max_running: int) -> None:
        self._services = services
        self._max_running = max_running
        self._told: set[str] = set()
        """The runs whose wait has an event. A new process tells it again."""

    async def begin(self, jobs: Sequence[JobRecord]) -> bool:
        """Begins those of all unfinished jobs that are next and fit. Returns whether there were any."""
        if not choose_next(jobs, self._max_running):
            return False
        try:
            capacity = await self._services.capacity.read()
        except ClusterError as e:
            logger.warning("no job is begun: %s", e)
            return False
        blocked = {job.id: reason for job in jobs if is_waiting(job) and (reason := self._wait(job, jobs, capacity))}
        fitting = [job for job in jobs if job.id not in blocked]
        begun: list[JobRecord] = []
        for job in choose_next(fitting, self._max_running):
            if not self._wait(job, [*jobs, *begun], capacity):
                begun.append(await self._begin(job, capacity))
        for job in jobs:
            if job.id in blocked:
                await self._tell(job, blocked[job.id])
        return bool(begun)

    def _wait(self, job: JobRecord, jobs: Sequence[JobRecord], capacity: ClusterCapacity) -> str:
        """Why the job cannot begin now. One that waits for nodes must begin: its run asks the autoscaler for them."""
        workers = _workers(job)
        if workers.wait_for_nodes:
            return ""
        training = [_workers(other).resource_request for other in jobs if other.state.execution in states.TRAINING]
        return describe_wait(workers, training, capacity)

    async def _begin(self, job: JobRecord, capacity: ClusterCapacity) -> JobRecord:
        self._told.discard(job.run_id)
        workers = _workers(job)
        reason = describe_wait(workers, [], capacity) if workers.wait_for_nodes else ""
        events = [_event(reason)] if reason else []

        def begin(now: JobRecord) -> JobChange:
            new = states.begin_attempt(now.state)
            return JobChange(new, events if new != now.state else [])

        return await self._services.jobs.database.run(self._services.jobs.change, job.id, begin)

    async def _tell(self, job: JobRecord, reason: str) -> None:
        if job.run_id in self._told:
            return
        self._told.add(job.run_id)

        def tell(now: JobRecord) -> JobChange:
            return JobChange(now.state, [_event(reason)] if is_waiting(now) else [])

        await self._services.jobs.database.run(self._services.jobs.change, job.id, tell)


def _event(reason: str) -> EventText:
    return EventText(reason, "warn", {"code": INSUFFICIENT_RESOURCES})


def _workers(job: JobRecord) -> WorkersConfig:
    """The workers of a job whose files were validated."""
    assert job.config is not None
    return _parse_workers(job.config)


@functools.lru_cache(maxsize=KEPT_CONFIGS)
def _parse_workers(config: str) -> WorkersConfig:
    return WorkersConfig.model_validate(json.loads(config)["workers"])
