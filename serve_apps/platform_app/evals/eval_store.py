"""EvalStore: evals in the store. Its methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, tuple_, update

from serve_apps.platform_app.evals.criteria import row_schema, stored_criteria
from serve_apps.platform_app.evals.run_store import RunStore, find_eval
from serve_apps.platform_app.evals.tables import EVALS
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import EVAL, new_id
from serve_apps.platform_app.store.paging import read_page
from tuneyard.api.wire.platform_api.evals import CreateEvalRequest, EvalObject, EvalQuery, UpdateEvalRequest
from tuneyard.storage.sql.database import SqlDatabase


class EvalStore:
    """Each method sees only the evals of `owner`; those of others are missing. `now` gives Unix time in seconds."""

    def __init__(self, database: SqlDatabase, runs: RunStore, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._runs = runs
        self._now = now

    def create(self, request: IdempotentRequest, content: CreateEvalRequest) -> EvalObject:
        """Creates an eval whose criteria were checked. The same request gives the same eval again."""
        eval_id, now = new_id(EVAL), self._now()
        with self._database.writing(lock=request.owner) as connection:
            claimed = request.claim(connection, eval_id, now)
            if claimed == eval_id:
                connection.execute(
                    insert(EVALS).values(
                        id=eval_id,
                        owner=request.owner,
                        created_at=now,
                        updated_at=now,
                        name=content.name or "",
                        metadata=json.dumps(content.metadata or {}),
                        data_source_config=json.dumps(row_schema(content.data_source_config)),
                        criteria=json.dumps(stored_criteria(content)),
                    )
                )
            return _to_object(find_eval(connection, request.owner, claimed))

    def retrieve(self, owner: str, eval_id: str) -> EvalObject:
        """The eval. Raises ObjectNotFoundError if there is none."""
        with self._database.reading() as connection:
            return _to_object(find_eval(connection, owner, eval_id))

    def update(self, owner: str, eval_id: str, content: UpdateEvalRequest) -> EvalObject:
        """Changes what the request has. Raises ObjectNotFoundError."""
        values: dict[str, Any] = {"updated_at": self._now()}
        if content.name is not None:
            values["name"] = content.name
        if content.metadata is not None:
            values["metadata"] = json.dumps(content.metadata)
        with self._database.writing(lock=owner) as connection:
            found = find_eval(connection, owner, eval_id)
            connection.execute(update(EVALS).where(EVALS.c.id == found.id).values(**values))
            return _to_object(find_eval(connection, owner, eval_id))

    def list_page(self, owner: str, query: EvalQuery) -> tuple[list[EvalObject], bool]:
        """The evals of a page, and whether more follow."""
        select_own = select(EVALS).where(EVALS.c.owner == owner)
        with self._database.reading() as connection:
            if query.order_by == "created_at":
                rows, has_more = read_page(connection, select_own, EVALS.c.id, EVAL, query)
            else:
                rows = self._read_by_update(connection, owner, query)
                rows, has_more = rows[: query.limit], len(rows) > query.limit
        return [_to_object(row) for row in rows], has_more

    def delete(self, owner: str, eval_id: str) -> None:
        """Deletes the eval with its runs, which end. Raises ObjectNotFoundError."""
        with self._database.writing(lock=owner) as connection:
            found = find_eval(connection, owner, eval_id)
            self._runs.delete_of_eval(connection, owner, found.id)
            connection.execute(delete(EVALS).where(EVALS.c.id == found.id))

    def _read_by_update(self, connection: Connection, owner: str, query: EvalQuery) -> list[Row[Any]]:
        """The rows of a page by the time of the last update, and one more if there are more."""
        position = tuple_(EVALS.c.updated_at, EVALS.c.id)
        statement = select(EVALS).where(EVALS.c.owner == owner)
        if query.after is not None:
            last = find_eval(connection, owner, query.after)
            bound = tuple_(last.updated_at, last.id)
            statement = statement.where(position > bound if query.order == "asc" else position < bound)
        order = (EVALS.c.updated_at, EVALS.c.id)
        ordered = statement.order_by(*(c.asc() if query.order == "asc" else c.desc() for c in order))
        return list(connection.execute(ordered.limit(query.limit + 1)))


def _to_object(row: Row[Any]) -> EvalObject:
    return EvalObject(
        id=row.id,
        data_source_config=json.loads(row.data_source_config),
        testing_criteria=json.loads(row.criteria),
        name=row.name,
        created_at=int(row.created_at),
        metadata=json.loads(row.metadata),
    )
