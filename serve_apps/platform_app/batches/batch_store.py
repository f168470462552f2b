"""BatchStore: the rows of batches. The methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from serve_apps.platform_app.batches.batch_record import BatchRecord, read_record
from serve_apps.platform_app.batches.states import ENDED, Event, next_status
from serve_apps.platform_app.batches.tables import BATCH_PARTS, BATCHES, TIMES
from serve_apps.platform_app.files.records import hold, not_found, release
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import BATCH, FILE, new_id
from serve_apps.platform_app.store.paging import read_page as read_rows
from tuneyard.api.wire.platform_api.batches import BatchError, BatchQuery, CreateBatchRequest
from tuneyard.core.errors import RateLimitError, RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key

WINDOW_S = 24 * 3600.0
"""OpenAI's completion window, the only one."""


@dataclass(frozen=True, slots=True)
class PartCounts:
    """What the results of one part add to a batch's counts."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ResultPart:
    """Results of some lines of a batch's input file, whose contents are durable."""

    number: int
    name: str
    lines: str
    """See LineSet."""
    output_lines: int
    error_lines: int


class PartConflictError(Exception):
    """Another process has written a part with this number: this one does not know all results."""


class BatchStore:
    """All batches of all owners. `now` gives Unix time in seconds."""

    def __init__(self, database: SqlDatabase, now: Callable[[], float] = time.time) -> None:
        self.database = database
        self.now = now

    def create(self, sent: IdempotentRequest, request: CreateBatchRequest, max_active: int) -> BatchRecord:
        """A new batch, which keeps its input file; or the one that the same request created before.

        Raises ObjectNotFoundError if the owner has no such file, RateLimitError if so many batches have not ended.
        """
        now, batch_id, owner = self.now(), new_id(BATCH), sent.owner
        with self.database.writing(lock=owner) as connection:
            known = sent.claim(connection, batch_id, now)
            if known == batch_id:
                _check_active(connection, owner, max_active)
                hold(connection, owner, request.input_file_id, batch_id)
                expiry = request.output_expires_after
                connection.execute(
                    insert(BATCHES).values(
                        id=batch_id,
                        owner=owner,
                        created_at=now,
                        expires_at=now + WINDOW_S,
                        status="validating",
                        endpoint=request.endpoint,
                        input_file_id=request.input_file_id,
                        output_expires_after_s=expiry.seconds if expiry is not None else None,
                        metadata=json.dumps(request.metadata) if request.metadata is not None else None,
                    )
                )
            return _find(connection, owner, known)

    def find(self, owner: str, batch_id: str) -> BatchRecord:
        """The batch. Raises ObjectNotFoundError if there is none, or it is another owner's."""
        with self.database.reading() as connection:
            return _find(connection, owner, batch_id)

    def read_page(self, owner: str, page: BatchQuery) -> tuple[list[BatchRecord], bool]:
        """The batches of a page, and whether more follow."""
        with self.database.reading() as connection:
            rows, has_more = read_rows(
                connection, select(BATCHES).where(BATCHES.c.owner == owner), BATCHES.c.id, BATCH, page
            )
        return [read_record(row) for row in rows], has_more

    def cancel(self, owner: str, batch_id: str) -> BatchRecord:
        """The batch, which is cancelled now. Raises ObjectNotFoundError, and RequestError if it has ended."""
        with self.database.writing(lock=owner) as connection:
            record = _find(connection, owner, batch_id, is_locked=True)
            if record.status in ENDED:
                raise RequestError(
                    f"Cannot cancel a batch with status {record.status!r}.", param="batch_id", code="batch_ended"
                )
            return self._change(connection, record, Event.CANCEL)

    def unfinished(self) -> list[BatchRecord]:
        """All batches that need work, of all owners, oldest first: those that have not ended, or leave parts behind."""
        with self.database.reading() as connection:
            rows = connection.execute(select(BATCHES).where(BATCHES.c.is_cleaned.is_(False)).order_by(BATCHES.c.id))
            return [read_record(row) for row in rows]

    def record(self, batch_id: str, event: Event, **values: Any) -> BatchRecord:
        """The batch after an event, which sets `values` if the batch's status lets it happen; else as it is."""
        with self.database.writing() as connection:
            row = connection.execute(_batch(batch_id).with_for_update()).one()
            return self._change(connection, read_record(row), event, **values)

    def reject(self, batch_id: str, errors: Sequence[BatchError]) -> BatchRecord:
        """The batch has failed, because of its input file."""
        return self.record(batch_id, Event.REJECT, errors=json.dumps([error.model_dump() for error in errors]))

    def finish(self, batch_id: str) -> BatchRecord:
        """The batch has ended: its files are there. A file without a line is none."""
        sums = [func.coalesce(func.sum(BATCH_PARTS.c[name]), 0) for name in ("output_lines", "error_lines")]
        with self.database.writing() as connection:
            record = read_record(connection.execute(_batch(batch_id).with_for_update()).one())
            outputs, errors = connection.execute(select(*sums).where(BATCH_PARTS.c.batch_id == batch_id)).one()
            missing = {
                name: None for name, lines in (("output_file_id", outputs), ("error_file_id", errors)) if not lines
            }
            return self._change(connection, record, Event.FINISH, **missing)

    def parts(self, batch_id: str) -> list[ResultPart]:
        """The parts of the batch's results, in order."""
        query = select(*(BATCH_PARTS.c[name] for name in ResultPart.__dataclass_fields__))
        with self.database.reading() as connection:
            rows = connection.execute(query.where(BATCH_PARTS.c.batch_id == batch_id).order_by(BATCH_PARTS.c.number))
            return [ResultPart(*row) for row in rows]

    def add_part(self, batch_id: str, part: ResultPart, counts: PartCounts) -> None:
        """Counts the results of a part, in the same transaction in which the part becomes known.

        Raises PartConflictError if there is a part of this number; or if the batch has ended, because then another
        process has made its files.
        """
        more = {name: BATCHES.c[name] + value for name, value in asdict(counts).items()}
        is_open = (BATCHES.c.id == batch_id) & BATCHES.c.status.not_in(ENDED)
        with self.database.writing() as connection:
            if not connection.execute(update(BATCHES).where(is_open).values(**more)).rowcount:
                raise PartConflictError(batch_id)
            try:
                connection.execute(insert(BATCH_PARTS).values(batch_id=batch_id, **asdict(part)))
            except IntegrityError as e:
                raise PartConflictError(batch_id) from e

    def forget_parts(self, batch_id: str) -> None:
        """The contents of the batch's parts are deleted: nothing is left to do."""
        with self.database.writing() as connection:
            connection.execute(delete(BATCH_PARTS).where(BATCH_PARTS.c.batch_id == batch_id))
            connection.execute(update(BATCHES).where(BATCHES.c.id == batch_id).values(is_cleaned=True))

    def _change(self, connection: Connection, record: BatchRecord, event: Event, **values: Any) -> BatchRecord:
        """The batch after the event, in the caller's transaction, which has locked it."""
        status = next_status(record.status, event, is_expired=record.is_expired)
        if status is None:
            return record
        values |= {"status": status, "is_expired": record.is_expired or event is Event.EXPIRE}
        if f"{status}_at" in TIMES:
            values[f"{status}_at"] = self.now()
        if status in ("finalizing", "cancelling") and record.output_file_id is None:
            values |= {"output_file_id": new_id(FILE), "error_file_id": new_id(FILE)}
        if status in ENDED:
            release(connection, record.id)
        connection.execute(update(BATCHES).where(BATCHES.c.id == record.id).values(**values))
        return read_record(connection.execute(_batch(record.id)).one())


def _batch(batch_id: str) -> Select[Any]:
    return select(BATCHES).where(BATCHES.c.id == batch_id)


def _find(connection: Connection, owner: str, batch_id: str, *, is_locked: bool = False) -> BatchRecord:
    query = select(BATCHES).where(BATCHES.c.id == text_key(batch_id), BATCHES.c.owner == owner)
    row: Row[Any] | None = connection.execute(query.with_for_update() if is_locked else query).first()
    if row is None:
        raise not_found("Batch", batch_id)
    return read_record(row)


def _check_active(connection: Connection, owner: str, max_active: int) -> None:
    active = select(func.count()).select_from(BATCHES).where(BATCHES.c.owner == owner, BATCHES.c.status.not_in(ENDED))
    count = connection.execute(active).scalar_one()
    if count >= max_active:
        raise RateLimitError(
            f"This API key has {count:,} batches that have not ended; its limit is {max_active:,} "
            "(platform.batches.max_active_per_key). Wait until one ends, or cancel one.",
            code="too_many_batches",
            retry_after_s=60,
        )
