"""Scene: the cluster, its records, its customers, and what was killed."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from serve_apps.platform_app.store.lease import LEASE_S
from tests.integration.kills.customers import Customer, ToldJob, is_clear
from tests.integration.kills.database_outage import DatabaseOutages
from tests.integration.kills.kill_log import DATABASE, KillLog
from tests.integration.kills.platform_cluster import PlatformCluster
from tests.integration.kills.record_store import RecordStore
from tests.integration.kills.scripted_finetune import read_journal


@dataclass(frozen=True)
class Victim:
    """A process that is to be killed. `is_over` tells whether its work goes on afterwards."""

    kind: str
    process: psutil.Process
    is_over: Callable[[], bool]


class Scene:
    """What all parts of the test share."""

    def __init__(self, cluster: PlatformCluster, store: RecordStore, log: KillLog) -> None:
        self.cluster = cluster
        self.store = store
        self.log = log
        self.answers_without_database = 0
        """How often the API answered as it must while the database was down."""
        self.outages = DatabaseOutages(store, self._check_answers_without_database)
        self.customers = [
            Customer(cluster.client(cluster.keys.create(name)[1]), name) for name in ("first-key", "second-key")
        ]

    @property
    def jobs(self) -> list[tuple[Customer, ToldJob]]:
        """All jobs that the customers know, with their owners."""
        return [(customer, job) for customer in self.customers for job in customer.jobs]

    def kill(self, kind: str) -> bool:
        """Kills what is named so, and notes it with a condition for when its work goes on. False if none runs now.

        Raises SQLAlchemy's DBAPIError if the store has to be asked and is down.
        """
        if kind == "head":
            killed_at = time.monotonic()
            query = "SELECT id FROM fine_tuning_jobs WHERE execution = 'submitted'"
            goes_on = [self._further(row[0]) for row in self.store.rows(query)]
            self.cluster.kill_node()
            self.cluster.start()
            self.log.add(kind, lambda: self.cluster.is_answering() and all(is_over() for is_over in goes_on), killed_at)
            return True
        victim = self._find_victim(kind)
        return victim is not None and self._kill_victim(victim)

    def kill_database(self, end: signal.Signals, down_s: float, also: str | None = None, kind: str = DATABASE) -> bool:
        """Kills the server of the store with this signal for so many seconds, and notes it.

        `also`: what else is killed then, whose successor starts without a database. False if the server is down now, or
        none of these runs.
        """
        if self.outages.is_down:
            return False
        victim = self._find_victim(also) if also is not None else None
        if also is not None and victim is None:
            return False
        self.outages.begin(end, down_s, functools.partial(self._note_database_start, kind))
        if victim is not None:
            self._kill_victim(victim)
        return True

    def _find_victim(self, kind: str) -> Victim | None:
        """A process of this kind; None if none runs now."""
        processes = self.cluster.processes(kind)
        return Victim(kind, processes[0], self._end_of_outage(kind, processes)) if processes else None

    def _kill_victim(self, victim: Victim) -> bool:
        """Kills and notes it. False if it has ended by itself."""
        killed_at = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.process.kill()
            self.log.add(victim.kind, victim.is_over, killed_at)
            return True
        return False

    def _note_database_start(self, kind: str) -> None:
        """The database answers again. It is in use when a client has an answer and the reconciler its lease."""
        started_at = time.time()

        def is_used() -> bool:
            leases = self.store.rows("SELECT ends_at FROM leases")
            is_renewed = any(ends_at - LEASE_S >= started_at for (ends_at,) in leases)
            return is_renewed and self.customers[0].error_of_list() is None

        self.log.add(kind, is_used, time.monotonic())

    def _check_answers_without_database(self) -> None:
        """Requests that need the database get a clear error, all others their answer, unless the API dies meanwhile."""
        before = self._api_processes()
        if not before:
            return
        errors = [customer.error_of_list() for customer in self.customers]
        chat_errors = [self.customers[0].error_of_chat()]
        if self._api_processes() == before:
            assert all(error is not None and is_clear(error) for error in errors), errors
            assert chat_errors == [None]
            self.answers_without_database += 1

    def _api_processes(self) -> list[int]:
        """Process ids of the API if it answers, else none."""
        processes = self.cluster.processes("API")
        return [process.pid for process in processes] if self.cluster.is_answering() else []

    def _end_of_outage(self, kind: str, processes: list[psutil.Process]) -> Callable[[], bool]:
        """Whether the work of the first of these processes, which is killed next, goes on."""
        before = {process.pid for process in processes}
        if kind == "API":
            return self.cluster.is_answering
        if kind == "reconciler":
            holder = self.store.rows("SELECT holder FROM leases")
            return lambda: self.store.rows("SELECT holder FROM leases") not in ([], holder)
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
            ((status,),) = self.store.rows("SELECT status FROM fine_tuning_jobs WHERE id = :id", id=job)
            return status in ("succeeded", "failed", "cancelled", "paused") or self.attempts(job) > before

        return is_further

    def attempts(self, job: str) -> int:
        """How many attempts of the job were begun."""
        return sum((line["job"], line["event"]) == (job, "begin") for line in read_journal(self.cluster.journal))
