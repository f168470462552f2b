"""Records: votes or corrections in the store. The methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select, Table, delete, func, insert, select

from serve_apps.platform_app.context import Caller
from serve_apps.platform_app.store.idempotency import IdempotentRequest
from serve_apps.platform_app.store.object_ids import new_id
from serve_apps.platform_app.store.paging import read_page
from serve_apps.platform_app.votes.tables import CORRECTIONS, VOTES
from tuneyard.api.wire.base import WireModel
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import ObjectNotFoundError, RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key

MAX_BYTES_PER_OWNER = 1 << 30
"""Bytes of votes and corrections that one API key keeps."""

EXPORT_PAGE = 100
"""Records that an export reads at once."""

Record = TypeVar("Record", bound=WireModel)


class Records(Generic[Record]):
    """The records of one table. `kind` is their type, `columns` gives the values of the columns that only it has."""

    def __init__(
        self,
        database: SqlDatabase,
        table: Table,
        kind: type[Record],
        prefix: str,
        columns: Callable[[Record], dict[str, Any]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._table = table
        self._kind = kind
        self._prefix = prefix
        self._columns = columns
        self._now = now

    def create(self, caller: Caller, fields: dict[str, Any], idempotency_key: str) -> Record:
        """Keeps the record of a request with these fields; one that was sent before is not kept again.

        Raises RequestError if the owner's space is used up, and what IdempotentRequest.claim raises.
        """
        now = self._now()
        request = IdempotentRequest(caller.owner, self._table.name, idempotency_key, fields)
        new = new_id(self._prefix)
        record = self._kind.model_validate({**fields, "id": new, "created_at": int(now)})
        content = record.model_dump_json(exclude_none=True)
        with self._database.writing(lock=caller.owner) as connection:
            record_id = request.claim(connection, new, now)
            if record_id != new:
                return self._find(connection, caller, record_id)
            size = len(content.encode())
            _check_space(connection, caller.owner, size)
            values = {"id": new, "owner": caller.owner, "created_at": now, "bytes": size, "content": content}
            connection.execute(insert(self._table).values(**values, **self._columns(record)))
        return record

    def find(self, caller: Caller, record_id: str) -> Record:
        """Raises ObjectNotFoundError if there is none, or it is another owner's."""
        with self._database.reading() as connection:
            return self._find(connection, caller, record_id)

    def list_page(self, caller: Caller, page: PageQuery) -> tuple[list[Record], bool]:
        """The records of one page, and whether more follow."""
        query = self._query(caller, self._table.c.content)
        with self._database.reading() as connection:
            rows, has_more = read_page(connection, query, self._table.c.id, self._prefix, page)
        return [self._parse(row.content) for row in rows], has_more

    def delete(self, caller: Caller, record_id: str) -> None:
        """Raises ObjectNotFoundError if there is none, or it is another owner's."""
        is_record = self._query(caller, self._table.c.id).where(self._table.c.id == text_key(record_id)).subquery()
        with self._database.writing(lock=caller.owner) as connection:
            deleted = connection.execute(delete(self._table).where(self._table.c.id.in_(select(is_record.c.id))))
            if not deleted.rowcount:
                raise self._not_found(record_id)

    def count(self, caller: Caller) -> int:
        """How many there are."""
        with self._database.reading() as connection:
            return int(connection.execute(self._query(caller, func.count())).scalar_one())

    def export_page(self, caller: Caller, after: str) -> tuple[list[Record], str | None]:
        """The records that follow the id `after`, oldest first, and the id to go on with; None at the end."""
        ids = self._table.c.id
        query = self._query(caller, ids, self._table.c.content).where(ids > after).order_by(ids).limit(EXPORT_PAGE)
        with self._database.reading() as connection:
            rows = list(connection.execute(query))
        return [self._parse(row.content) for row in rows], str(rows[-1].id) if len(rows) == EXPORT_PAGE else None

    def _query(self, caller: Caller, *columns: Any) -> Select[Any]:
        """Selects of the caller's records; administrators have all."""
        query = select(*columns).select_from(self._table)
        return query if caller.is_admin else query.where(self._table.c.owner == caller.owner)

    def _find(self, connection: Connection, caller: Caller, record_id: str) -> Record:
        query = self._query(caller, self._table.c.content).where(self._table.c.id == text_key(record_id))
        content = connection.execute(query).scalar()
        if content is None:
            raise self._not_found(record_id)
        return self._parse(content)

    def _parse(self, content: str) -> Record:
        return self._kind.model_validate_json(content)

    def _not_found(self, record_id: str) -> ObjectNotFoundError:
        what = "vote" if self._table is VOTES else "correction"
        return ObjectNotFoundError(f"No such {what} object: {record_id[:200]}", param="id", code="not_found")


def _check_space(connection: Connection, owner: str, size: int) -> None:
    used = sum(_bytes_of(connection, table, owner) for table in (VOTES, CORRECTIONS))
    if used + size > MAX_BYTES_PER_OWNER:
        raise RequestError(
            f"The votes and corrections of this API key take {used:,} bytes; {size:,} more are over the limit of "
            f"{MAX_BYTES_PER_OWNER:,}. Export them, then delete those that are not needed.",
            code="storage_quota_exceeded",
        )


def _bytes_of(connection: Connection, table: Table, owner: str) -> int:
    total = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.owner == owner)
    return int(connection.execute(total).scalar_one())
