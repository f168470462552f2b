"""Scene: the cluster, its customers, what was killed; and the store, which only the tests look into."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import psutil

from tests.integration.kills.customers import Customer, ToldJob
from tests.integration.kills.kill_log import KillLog
from tests.integration.kills.platform_cluster import PlatformCluster
from tests.integration.kills.scripted_finetune import read_journal


class Scene:
    """What all parts of the test share."""

    def __init__(self, cluster: PlatformCluster, log: KillLog) -> None:
        self.cluster = cluster
        self.log = log
        self.customers = [
            Customer(cluster.client(cluster.keys.create(name)[1]), name) for name in ("first-key", "second-key")
        ]

    @property
    def jobs(self) -> list[tuple[Customer, ToldJob]]:
        """All jobs that the customers know, with their owners."""
        return [(customer, job) for customer in self.customers for job in customer.jobs]

    def rows(self, query: str, *values: str) -> list[Any]:
        """The rows that a query finds in the store."""
        location = f"file:{self.cluster.home / 'platform.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(location, uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def kill(self, kind: str) -> bool:
        """Kills what is named so, and notes it with a condition for when its work goes on. False if none runs now."""
        killed_at = time.monotonic()
        if kind == "head":
            running = [row[0] for row in self.rows("SELECT id FROM fine_tuning_jobs WHERE execution = 'submitted'")]
            goes_on = [self._further(job) for job in running]
            self.cluster.kill_node()
            self.cluster.start()
            self.log.add(kind, lambda: self.cluster.is_answering() and all(is_over() for is_over in goes_on), killed_at)
            return True
        processes = self.cluster.processes(kind)
        if not processes:
            return False
        is_over = self._end_of_outage(kind, processes)
        with contextlib.suppress(psutil.NoSuchProcess):
            processes[0].kill()
            self.log.add(kind, is_over, killed_at)
            return True
        return False

    def _end_of_outage(self, kind: str, processes: list[psutil.Process]) -> Callable[[], bool]:
        """Whether the work of the first of these processes, which is killed next, goes on."""
        before = {process.pid for process in processes}
        if kind == "API":
            return self.cluster.is_answering
        if kind == "reconciler":
            holder = self.rows("SELECT holder FROM leases")
            return lambda: self.rows("SELECT holder FROM leases") not in ([], holder)
        if kind == "driver":
            begun = {line["pid"]: line["job"] for line in read_journal(self.cluster.journal)}
            # One that was killed before it wrote that it begins is not known.
            return self._further(begun[processes[0].pid]) if processes[0].pid in begun else lambda: True
        return lambda: (
            not self.cluster.processes("real driver")
            or any(process.pid not in before for process in self.cluster.processes(kind))
        )

    def _further(self, job: str) -> Callable[[], bool]:
        """Whether the job has begun another attempt, or does not need one."""
        before = self.attempts(job)

        def is_further() -> bool:
            ((status,),) = self.rows("SELECT status FROM fine_tuning_jobs WHERE id = ?", job)
            return status in ("succeeded", "failed", "cancelled", "paused") or self.attempts(job) > before

        return is_further

    def attempts(self, job: str) -> int:
        """How many attempts of the job were begun."""
        return sum((line["job"], line["event"]) == (job, "begin") for line in read_journal(self.cluster.journal))
