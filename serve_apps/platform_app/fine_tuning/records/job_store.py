"""JobStore: fine-tuning jobs, in transactions. The methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Select, exists, func, insert, select, update

from serve_apps.platform_app.files.records import hold, not_found, release
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord, event_object, job_record
from serve_apps.platform_app.fine_tuning.records.states import TERMINAL, JobState
from serve_apps.platform_app.fine_tuning.records.tables import JOB_CHECKPOINTS, JOB_EVENTS, JOB_METADATA, JOBS
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import JOB, JOB_CHECKPOINT, JOB_EVENT, new_id, new_id_after
from serve_apps.platform_app.store.paging import read_page
from serve_apps.platform_app.tuned_models.model_store import keep_live
from tuneyard.api.wire.platform_api.fine_tuning import (
    CheckpointMetrics,
    CreateJobRequest,
    FineTuningJobCheckpoint,
    FineTuningJobEvent,
)
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import QuotaError
from tuneyard.core.wording import count_of
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key

Level = Literal["info", "warn", "error"]
MetadataFilter = Mapping[str, str] | None
"""Pairs that a job must have; None is for the jobs without metadata."""


@dataclass(frozen=True, slots=True)
class EventText:
    """An event that a change makes."""

    message: str
    level: Level = "info"
    data: Mapping[str, Any] = field(default_factory=dict)
    is_metrics: bool = False


@dataclass(frozen=True, slots=True)
class JobChange:
    """The new state of a job, what else changes in its row, and the events that say so."""

    state: JobState
    events: Sequence[EventText] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    also: Callable[[Connection], None] = lambda _: None
    """What else is changed in the same transaction."""


Decide = Callable[[JobRecord], JobChange]
"""Makes a change of the job as it is now. May raise, and then nothing changes."""


class JobStore:
    """Jobs of all owners. `now` gives Unix time in seconds."""

    def __init__(self, database: SqlDatabase, now: Callable[[], float] = time.time) -> None:
        self.database = database
        self._now = now

    def create(
        self,
        owner: str,
        request: CreateJobRequest,
        base: str,
        parent: str | None,
        seed: int,
        repeated: IdempotentRequest,
        max_active: int | None,
    ) -> JobRecord:
        """A new job; or the one that the same request made before. Its files and its parent, a tuned model, are kept
        until it has ended.

        Raises ObjectNotFoundError for a file that the owner has not, ModelNotFoundError for a parent that is being
        deleted, and QuotaError beyond `max_active` jobs.
        """
        job_id, now = new_id(JOB), self._now()
        with self.database.writing(lock=owner) as connection:
            known = repeated.claim(connection, job_id, now)
            if known != job_id:
                return self._find_in(connection, known, owner)
            _check_active(connection, owner, max_active)
            if parent is not None:
                keep_live(connection, owner, parent)
            state = JobState()
            connection.execute(
                insert(JOBS).values(
                    id=job_id,
                    owner=owner,
                    created_at=now,
                    **_state_values(state),
                    base=base,
                    requested_model=request.model,
                    parent=parent,
                    method=request.method_type,
                    training_file=request.training_file,
                    validation_file=request.validation_file,
                    requested_hyperparameters=request.requested_hyperparameters.model_dump_json(),
                    suffix=request.suffix,
                    seed=seed,
                    integrations=_dump([item.model_dump() for item in request.integrations or ()]),
                    last_step=0,
                    retries=0,
                )
            )
            for file_id in filter(None, (request.training_file, request.validation_file)):
                hold(connection, owner, file_id, job_id)
            pairs = [{"job_id": job_id, "key": key, "value": value} for key, value in (request.metadata or {}).items()]
            if pairs:
                connection.execute(insert(JOB_METADATA), pairs)
            _add_events(connection, job_id, now, _creation_events(job_id, request, base, parent))
            return self._find_in(connection, job_id, owner)

    def find(self, owner: str, job_id: str) -> JobRecord:
        """The job. Raises ObjectNotFoundError if there is none, or it is another owner's."""
        with self.database.reading() as connection:
            return self._find_in(connection, job_id, owner)

    def page(self, owner: str, query: PageQuery, wanted: MetadataFilter) -> tuple[list[JobRecord], bool]:
        """The jobs of a page, and whether more follow. An empty filter is for all jobs."""
        statement = _with_metadata(select(JOBS).where(JOBS.c.owner == owner), wanted)
        with self.database.reading() as connection:
            rows, has_more = read_page(connection, statement, JOBS.c.id, JOB, query)
            metadata = _metadata_of(connection, [row.id for row in rows])
        return [job_record(row, metadata.get(row.id, {})) for row in rows], has_more

    def events(self, owner: str, job_id: str, query: PageQuery) -> tuple[list[FineTuningJobEvent], bool]:
        """The events of a page, and whether more follow. Raises ObjectNotFoundError as find does."""
        with self.database.reading() as connection:
            job = self._find_in(connection, job_id, owner)
            statement = select(JOB_EVENTS).where(JOB_EVENTS.c.job_id == job.id)
            rows, has_more = read_page(connection, statement, JOB_EVENTS.c.id, JOB_EVENT, query)
        return [event_object(row) for row in rows], has_more

    def checkpoints(self, owner: str, job_id: str, query: PageQuery) -> tuple[list[FineTuningJobCheckpoint], bool]:
        """The checkpoints of a page, and whether more follow. Raises ObjectNotFoundError as find does."""
        with self.database.reading() as connection:
            job = self._find_in(connection, job_id, owner)
            statement = select(JOB_CHECKPOINTS).where(JOB_CHECKPOINTS.c.job_id == job.id)
            rows, has_more = read_page(connection, statement, JOB_CHECKPOINTS.c.id, JOB_CHECKPOINT, query)
        found = [
            FineTuningJobCheckpoint(
                id=row.id,
                created_at=int(row.created_at),
                fine_tuned_model_checkpoint=row.model,
                fine_tuning_job_id=row.job_id,
                metrics=CheckpointMetrics.model_validate_json(row.metrics),
                step_number=row.step_number,
            )
            for row in rows
        ]
        return found, has_more

    def change(self, job_id: str, decide: Decide, owner: str | None = None) -> JobRecord:
        """Changes a job in one transaction with the events of the change. Returns the job as it is then.

        `owner` is that of a client's request; None is the reconciler, which may change every job. A job that has ended
        releases its files. Raises what `decide` raises, and ObjectNotFoundError as find does.
        """
        now = self._now()
        with self.database.writing(lock=f"job/{job_id}") as connection:
            job = self._find_in(connection, job_id, owner, locks=True)
            change = decide(job)
            values = _state_values(change.state) | dict(change.values)
            if change.state.status in TERMINAL and job.state.status not in TERMINAL:
                values |= {"finished_at": now, "estimated_finish": None}
                release(connection, job.id)
            connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(**values))
            _add_events(connection, job.id, now, change.events)
            change.also(connection)
            return self._find_in(connection, job.id, owner)

    def unfinished(self) -> list[JobRecord]:
        """All jobs with something left to do, oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(select(JOBS).where(JOBS.c.execution != "done").order_by(JOBS.c.id)).all()
        return [job_record(row, {}) for row in rows]

    def all_of(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Those of the jobs that exist, of any owner."""
        with self.database.reading() as connection:
            rows = connection.execute(select(JOBS).where(JOBS.c.id.in_(job_ids))).all()
        return [job_record(row, {}) for row in rows]

    def going_on_from(self, parent: str) -> list[str]:
        """The unfinished jobs that start from this tuned model."""
        query = select(JOBS.c.id).where(JOBS.c.parent == parent, JOBS.c.status.not_in(TERMINAL)).order_by(JOBS.c.id)
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())

    def add_checkpoint(self, connection: Connection, job_id: str, model: str, metrics: CheckpointMetrics) -> None:
        """Adds the checkpoint `model`; its step is that of the metrics. For a caller's transaction."""
        connection.execute(
            insert(JOB_CHECKPOINTS).values(
                id=new_id(JOB_CHECKPOINT),
                job_id=job_id,
                created_at=self._now(),
                model=model,
                step_number=int(metrics.step or 0),
                metrics=metrics.model_dump_json(),
            )
        )

    def _find_in(self, connection: Connection, job_id: str, owner: str | None, *, locks: bool = False) -> JobRecord:
        query = select(JOBS).where(JOBS.c.id == text_key(job_id))
        if owner is not None:
            query = query.where(JOBS.c.owner == owner)
        row = connection.execute(query.with_for_update() if locks else query).first()
        if row is None:
            raise not_found("FineTuningJob", job_id)
        return job_record(row, _metadata_of(connection, [row.id]).get(row.id, {}))


def _check_active(connection: Connection, owner: str, max_active: int | None) -> None:
    if max_active is None:
        return
    active = select(func.count()).select_from(JOBS).where(JOBS.c.owner == owner, JOBS.c.status.not_in(TERMINAL))
    count = connection.execute(active).scalar_one()
    if count >= max_active:
        raise QuotaError(
            f"This API key has {count_of(count, 'fine-tuning job')} that have not ended; its limit is {max_active} "
            "(platform.max_active_jobs_per_key). Wait for one to end, or cancel one.",
            code="active_jobs_limit",
            retry_after_s=60,
        )


def _creation_events(job_id: str, request: CreateJobRequest, base: str, parent: str | None) -> list[EventText]:
    events = [EventText(f"Created fine-tuning job: {job_id}")]
    if parent is not None:
        events.append(EventText(f"Training goes on from {parent}."))
    elif request.model != base:
        events.append(EventText(f"The model {request.model} stands for the base {base} here."))
    files = [("training", request.training_file), ("validation", request.validation_file)]
    events += [EventText(f"Validating {kind} file: {file}") for kind, file in files if file is not None]
    return events


def _add_events(connection: Connection, job_id: str, now: float, events: Sequence[EventText]) -> None:
    """Adds events in order. Their ids sort in the order of the transactions, which the job's row makes one after
    another: who reads events after an id misses none."""
    rows: list[dict[str, Any]] = []
    last = None
    if events:
        last = connection.execute(select(func.max(JOB_EVENTS.c.id)).where(JOB_EVENTS.c.job_id == job_id)).scalar()
    for event in events:
        last = new_id_after(JOB_EVENT, last)
        rows.append(
            {
                "id": last,
                "job_id": job_id,
                "created_at": now,
                "level": event.level,
                "message": event.message,
                "type": "metrics" if event.is_metrics else "message",
                "data": _dump(event.data),
            }
        )
    if rows:
        connection.execute(insert(JOB_EVENTS), rows)


def _state_values(state: JobState) -> dict[str, Any]:
    names = ("status", "execution", "attempt", "interruptions", "is_validated")
    return {name: getattr(state, name) for name in names}


def _with_metadata(statement: Select[Any], wanted: MetadataFilter) -> Select[Any]:
    of_job = JOB_METADATA.c.job_id == JOBS.c.id
    if wanted is None:
        return statement.where(~exists().where(of_job))
    for key, value in wanted.items():
        statement = statement.where(exists().where(of_job, JOB_METADATA.c.key == key, JOB_METADATA.c.value == value))
    return statement


def _metadata_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if job_ids:
        for row in connection.execute(select(JOB_METADATA).where(JOB_METADATA.c.job_id.in_(job_ids))):
            found.setdefault(row.job_id, {})[row.key] = row.value
    return found


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
