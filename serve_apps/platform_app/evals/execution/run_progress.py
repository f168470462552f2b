"""RunProgress: what the reconciler reads of runs and writes about them. Its methods wait for the database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from serve_apps.platform_app.evals.run_store import output_item_id
from serve_apps.platform_app.evals.tables import (
    ACTIVE,
    COMPLETED,
    ERROR,
    EVAL_OUTPUT_ITEMS,
    EVAL_RUNS,
    EVALS,
    FAIL,
    FAILED,
    IN_PROGRESS,
    PASS,
    QUEUED,
)
from serve_apps.platform_app.files.records import release
from tuneyard.storage.sql.database import SqlDatabase


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that has work left."""

    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RunWork:
    """What a run does. `total` is None until its rows are checked."""

    run: ActiveRun
    eval_id: str
    data_source: dict[str, Any]
    row_schema: dict[str, Any]
    criteria: list[dict[str, Any]]
    total: int | None


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of one row."""

    position: int
    item: dict[str, Any]
    sample: dict[str, Any]
    results: list[dict[str, Any]]
    """One result per criterion, in order; empty if there was no sample to grade."""
    is_error: bool
    usage: Sequence[tuple[str, Mapping[str, int]]] = field(default_factory=tuple)
    """Model and tokens of each call."""

    @property
    def state(self) -> str:
        """PASS, FAIL or ERROR."""
        if self.is_error:
            return ERROR
        return PASS if all(result["passed"] for result in self.results) else FAIL


class RunProgress:
    """Changes only runs that have work left: a run that was canceled or deleted meanwhile stays as it is."""

    def __init__(self, database: SqlDatabase, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def active(self) -> list[ActiveRun]:
        """All runs that have work left, oldest first."""
        statement = select(EVAL_RUNS.c.id, EVAL_RUNS.c.owner).where(EVAL_RUNS.c.state.in_(ACTIVE))
        with self._database.reading() as connection:
            return [ActiveRun(row.id, row.owner) for row in connection.execute(statement.order_by(EVAL_RUNS.c.id))]

    def work_of(self, run: ActiveRun) -> RunWork | None:
        """What the run does; None if it has no work left."""
        statement = (
            select(EVAL_RUNS, EVALS.c.data_source_config, EVALS.c.criteria)
            .join(EVALS, EVALS.c.id == EVAL_RUNS.c.eval_id)
            .where(EVAL_RUNS.c.id == run.id, EVAL_RUNS.c.state.in_(ACTIVE))
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None:
            return None
        return RunWork(
            run=run,
            eval_id=row.eval_id,
            data_source=json.loads(row.data_source),
            row_schema=json.loads(row.data_source_config)["schema"],
            criteria=json.loads(row.criteria),
            total=row.total,
        )

    def finished_positions(self, run_id: str) -> set[int]:
        """The rows that have their output item."""
        statement = select(EVAL_OUTPUT_ITEMS.c.position).where(EVAL_OUTPUT_ITEMS.c.run_id == run_id)
        with self._database.reading() as connection:
            return set(connection.execute(statement).scalars())

    def begin(self, run_id: str, total: int) -> bool:
        """The rows are checked: a run that is QUEUED is IN_PROGRESS. Returns whether it has work left."""
        with self._database.writing(lock=run_id) as connection:
            queued = update(EVAL_RUNS).where(EVAL_RUNS.c.id == run_id, EVAL_RUNS.c.state == QUEUED)
            connection.execute(queued.values(state=IN_PROGRESS, total=total))
            return _is_running(_read(connection, run_id))

    def record(self, run: ActiveRun, outcome: RowOutcome) -> bool:
        """Writes a row's output item, and counts it, once. Returns whether the run still has work left."""
        with self._database.writing(lock=run.id) as connection:
            row = _read(connection, run.id)
            if not _is_running(row):
                return False
            item_id = output_item_id(run.id, outcome.position)
            known = select(EVAL_OUTPUT_ITEMS.c.id).where(EVAL_OUTPUT_ITEMS.c.id == item_id)
            if connection.execute(known).first() is None:
                connection.execute(
                    insert(EVAL_OUTPUT_ITEMS).values(
                        id=item_id,
                        owner=run.owner,
                        run_id=run.id,
                        position=outcome.position,
                        created_at=self._now(),
                        state=outcome.state,
                        row=json.dumps(outcome.item),
                        results=json.dumps(outcome.results),
                        sample=json.dumps(outcome.sample),
                    )
                )
                connection.execute(update(EVAL_RUNS).where(EVAL_RUNS.c.id == run.id).values(**_counted(row, outcome)))
            return True

    def complete(self, run_id: str) -> None:
        """The run is COMPLETED, if it was IN_PROGRESS."""
        self._end(run_id, (IN_PROGRESS,), state=COMPLETED)

    def fail(self, run_id: str, code: str, message: str) -> None:
        """The run is FAILED, if it had work left; its output items stay."""
        self._end(run_id, ACTIVE, state=FAILED, error=json.dumps({"code": code, "message": message}))

    def _end(self, run_id: str, states: Sequence[str], **values: str) -> None:
        with self._database.writing(lock=run_id) as connection:
            ending = update(EVAL_RUNS).where(EVAL_RUNS.c.id == run_id, EVAL_RUNS.c.state.in_(states))
            if connection.execute(ending.values(**values)).rowcount:
                release(connection, run_id)


def _read(connection: Connection, run_id: str) -> Row[Any] | None:
    return connection.execute(select(EVAL_RUNS).where(EVAL_RUNS.c.id == run_id)).first()


def _is_running(row: Row[Any] | None) -> bool:
    return row is not None and row.state == IN_PROGRESS


def _counted(row: Row[Any] | None, outcome: RowOutcome) -> dict[str, Any]:
    """The run's counts with this outcome."""
    assert row is not None
    counts = {"passed": row.passed, "failed": row.failed, "errored": row.errored}
    counts[{PASS: "passed", FAIL: "failed", ERROR: "errored"}[outcome.state]] += 1
    criteria = json.loads(row.criteria_counts)
    for result in outcome.results:
        if "error" not in result:
            criteria[result["name"]]["passed" if result["passed"] else "failed"] += 1
    usage = json.loads(row.usage)
    for model, used in outcome.usage:
        total = usage.setdefault(model, {"invocation_count": 0, **dict.fromkeys(used, 0)})
        total["invocation_count"] += 1
        for name, tokens in used.items():
            total[name] += tokens
    return counts | {"criteria_counts": json.dumps(criteria), "usage": json.dumps(usage)}
