"""RunStore: runs and their output items, as clients read and change them. Its methods wait for the database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from serve_apps.platform_app.evals.tables import (
    ACTIVE,
    CANCELED,
    EVAL_OUTPUT_ITEMS,
    EVAL_RUNS,
    EVALS,
    FAIL,
    QUEUED,
)
from serve_apps.platform_app.files.records import hold, not_found, release
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import EVAL_OUTPUT_ITEM, EVAL_RUN, new_id
from serve_apps.platform_app.store.paging import read_page
from tuneyard.api.wire.platform_api.eval_runs import (
    CreateRunRequest,
    CriterionResult,
    EvalError,
    EvalRun,
    FileId,
    JsonlDataSource,
    ModelUsage,
    OutputItem,
    OutputItemQuery,
    ResultCounts,
    RunQuery,
)
from tuneyard.core.errors import RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key


class RunStore:
    """Each method sees only the runs of `owner`; those of others are missing. `now` gives Unix time in seconds.

    A run with rows in a file holds that file until it ends.
    """

    def __init__(self, database: SqlDatabase, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def create(self, request: IdempotentRequest, eval_id: str, content: CreateRunRequest) -> EvalRun:
        """Creates a run in the state QUEUED. The same request gives the same run again.

        Raises ObjectNotFoundError if the eval, or the file of the rows, is missing.
        """
        run_id, now, source = new_id(EVAL_RUN), self._now(), content.data_source
        model = "" if isinstance(source, JsonlDataSource) else source.model
        with self._database.writing(lock=request.owner) as connection:
            parent = find_eval(connection, request.owner, eval_id)
            claimed = request.claim(connection, run_id, now)
            if claimed == run_id:
                if isinstance(source.source, FileId):
                    hold(connection, request.owner, source.source.id, run_id)
                criteria = [criterion["id"] for criterion in json.loads(parent.criteria)]
                connection.execute(
                    insert(EVAL_RUNS).values(
                        id=run_id,
                        owner=request.owner,
                        eval_id=eval_id,
                        created_at=now,
                        state=QUEUED,
                        name=content.name or model or parent.name,
                        model=model,
                        metadata=json.dumps(content.metadata or {}),
                        data_source=json.dumps(_stored_source(content)),
                        passed=0,
                        failed=0,
                        errored=0,
                        criteria_counts=json.dumps({criterion: {"passed": 0, "failed": 0} for criterion in criteria}),
                        usage="{}",
                    )
                )
            return to_run(find_run(connection, request.owner, eval_id, claimed))

    def retrieve(self, owner: str, eval_id: str, run_id: str) -> EvalRun:
        """The run. Raises ObjectNotFoundError."""
        with self._database.reading() as connection:
            return to_run(find_run(connection, owner, eval_id, run_id))

    def list_page(self, owner: str, eval_id: str, query: RunQuery) -> tuple[list[EvalRun], bool]:
        """The runs of a page, and whether more follow. Raises ObjectNotFoundError if the eval is missing."""
        own = (EVAL_RUNS.c.owner == owner) & (EVAL_RUNS.c.eval_id == eval_id)
        statement = select(EVAL_RUNS).where(own)
        if query.status is not None:
            statement = statement.where(EVAL_RUNS.c.state == query.status)
        with self._database.reading() as connection:
            find_eval(connection, owner, eval_id)
            rows, has_more = read_page(connection, statement, EVAL_RUNS.c.id, EVAL_RUN, query)
        return [to_run(row) for row in rows], has_more

    def cancel(self, owner: str, eval_id: str, run_id: str) -> EvalRun:
        """Ends a run that has work left; its output items stay. Raises RequestError if it has ended otherwise."""
        with self._database.writing(lock=run_id) as connection:
            run = find_run(connection, owner, eval_id, run_id)
            if run.state not in (*ACTIVE, CANCELED):
                raise RequestError(
                    f"The run {run_id} has ended already, in the state {run.state!r}; it cannot be canceled.",
                    code="invalid_state",
                )
            connection.execute(update(EVAL_RUNS).where(EVAL_RUNS.c.id == run_id).values(state=CANCELED))
            release(connection, run_id)
            return to_run(find_run(connection, owner, eval_id, run_id))

    def delete(self, owner: str, eval_id: str, run_id: str) -> None:
        """Deletes a run with its output items; a run that has work left ends. Raises ObjectNotFoundError."""
        with self._database.writing(lock=run_id) as connection:
            find_run(connection, owner, eval_id, run_id)
            self._delete(connection, [run_id])

    def delete_of_eval(self, connection: Connection, owner: str, eval_id: str) -> None:
        """Deletes all runs of an eval, in the caller's transaction."""
        own = (EVAL_RUNS.c.owner == owner) & (EVAL_RUNS.c.eval_id == eval_id)
        self._delete(connection, list(connection.execute(select(EVAL_RUNS.c.id).where(own)).scalars()))

    def list_items(
        self, owner: str, eval_id: str, run_id: str, query: OutputItemQuery
    ) -> tuple[list[OutputItem], bool]:
        """The output items of a page by row, and whether more follow. Raises ObjectNotFoundError."""
        statement = _items_of(owner, run_id)
        if query.status is not None:
            state = FAIL if query.status == "failed" else query.status
            statement = statement.where(EVAL_OUTPUT_ITEMS.c.state == state)
        with self._database.reading() as connection:
            find_run(connection, owner, eval_id, run_id)
            rows, has_more = read_page(connection, statement, EVAL_OUTPUT_ITEMS.c.id, EVAL_OUTPUT_ITEM, query)
        return [_to_item(row, eval_id) for row in rows], has_more

    def retrieve_item(self, owner: str, eval_id: str, run_id: str, item_id: str) -> OutputItem:
        """The output item. Raises ObjectNotFoundError."""
        with self._database.reading() as connection:
            find_run(connection, owner, eval_id, run_id)
            own = _items_of(owner, run_id).where(EVAL_OUTPUT_ITEMS.c.id == text_key(item_id))
            row = connection.execute(own).first()
        if row is None:
            raise not_found("OutputItem", item_id)
        return _to_item(row, eval_id)

    def _delete(self, connection: Connection, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            release(connection, run_id)
            connection.execute(delete(EVAL_OUTPUT_ITEMS).where(EVAL_OUTPUT_ITEMS.c.run_id == run_id))
            connection.execute(delete(EVAL_RUNS).where(EVAL_RUNS.c.id == run_id))


def find_eval(connection: Connection, owner: str, eval_id: str) -> Row[Any]:
    """The eval's row. Raises ObjectNotFoundError."""
    own = select(EVALS).where(EVALS.c.id == text_key(eval_id), EVALS.c.owner == owner)
    row = connection.execute(own).first()
    if row is None:
        raise not_found("Eval", eval_id)
    return row


def find_run(connection: Connection, owner: str, eval_id: str, run_id: str) -> Row[Any]:
    """The run's row. Raises ObjectNotFoundError."""
    is_run = (EVAL_RUNS.c.id == text_key(run_id)) & (EVAL_RUNS.c.eval_id == text_key(eval_id))
    row = connection.execute(select(EVAL_RUNS).where(is_run, EVAL_RUNS.c.owner == owner)).first()
    if row is None:
        raise not_found("EvalRun", run_id)
    return row


def output_item_id(run_id: str, position: int) -> str:
    """The id of the output item of a row: it is known before the item is made, and sorts by the row's number."""
    return f"{EVAL_OUTPUT_ITEM}{run_id[-16:]}{position:016x}"


def to_run(row: Row[Any]) -> EvalRun:
    """The run as the API answers it; `report_url` is only its path."""
    usage: dict[str, dict[str, int]] = json.loads(row.usage)
    counts: dict[str, dict[str, int]] = json.loads(row.criteria_counts)
    return EvalRun(
        id=row.id,
        eval_id=row.eval_id,
        report_url=f"/v1/evals/{row.eval_id}/runs/{row.id}",
        status=row.state,
        model=row.model,
        name=row.name,
        created_at=int(row.created_at),
        result_counts=ResultCounts(
            total=row.passed + row.failed + row.errored, errored=row.errored, failed=row.failed, passed=row.passed
        ),
        per_model_usage=[ModelUsage(model_name=model, **used) for model, used in usage.items()],
        per_testing_criteria_results=[
            CriterionResult(testing_criteria=criterion, **count) for criterion, count in counts.items()
        ],
        data_source=json.loads(row.data_source),
        error=EvalError(**json.loads(row.error)) if row.error is not None else None,
        metadata=json.loads(row.metadata),
    )


def _stored_source(content: CreateRunRequest) -> dict[str, Any]:
    fields = content.data_source.model_dump(mode="json", by_alias=True, exclude_none=True)
    return fields if isinstance(content.data_source, JsonlDataSource) else {"sampling_params": None} | fields


def _items_of(owner: str, run_id: str) -> Select[Any]:
    return select(EVAL_OUTPUT_ITEMS).where(EVAL_OUTPUT_ITEMS.c.run_id == run_id, EVAL_OUTPUT_ITEMS.c.owner == owner)


def _to_item(row: Row[Any], eval_id: str) -> OutputItem:
    return OutputItem(
        id=row.id,
        created_at=int(row.created_at),
        run_id=row.run_id,
        eval_id=eval_id,
        status=row.state,
        datasource_item_id=row.position,
        datasource_item=json.loads(row.row),
        results=json.loads(row.results),
        sample=json.loads(row.sample),
    )
