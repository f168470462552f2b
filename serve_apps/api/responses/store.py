"""ResponseStore: stored responses and their items, in a SQL database that several processes share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, update

from serve_apps.api.responses.store_tables import ITEMS, METADATA, RESPONSES, USES, migrate
from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.core.errors import ResponseNotFoundError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation
from tuneyard.storage.sql.text_keys import text_key

LEASE_S = 60.0
"""How long a response that is being answered is believed to be so without a renewal by its process."""

MAX_DELETED_AT_ONCE = 200
"""Responses that one call of `begin` deletes because of age or size; the next calls delete more."""

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item and its number in the database."""

    number: int
    content: Item


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it was answered. `is_final` is False while it is being answered."""

    content: dict[str, Any]
    is_final: bool


class ResponseStore:
    """The methods take the `owner`, the digest of an API key, and see only what that owner stored.

    They wait for the database: call them through `database.run`. All raise StoreUnavailableError. `now` gives Unix time
    in seconds. A response that is being answered has a lease, which its process renews; without a renewal it counts as
    failed: the process has died.
    """

    def __init__(
        self,
        location: SqlLocation,
        *,
        max_age_s: float,
        max_bytes_per_owner: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._max_age_s = max_age_s
        self._max_bytes_per_owner = max_bytes_per_owner
        self._now = now
        self.database = SqlDatabase(
            location,
            METADATA,
            what="Stored responses",
            migrate=lambda connection: migrate(connection, now() + LEASE_S),
        )

    @classmethod
    def open(cls, config: ResponsesConfig, database: DatabaseConfig | None) -> Self | None:
        """The store of a deployment; None if it stores nothing. It connects with its first use."""
        if not config.store:
            return None
        return cls(
            database.location if database is not None else SqlLocation(file=config.path),
            max_age_s=config.max_age_days * 86400,
            max_bytes_per_owner=config.max_mib_per_key * 2**20,
        )

    def close(self) -> None:
        """Closes the connections to the database."""
        self.database.close()

    def begin(self, owner: str, response: dict[str, Any], history: Sequence[StoredItem], items: Sequence[Item]) -> None:
        """Stores a response that is being answered: its input is `history`, stored items, then new `items`.

        Deletes responses that are too old, and the owner's oldest ones beyond its limit. Raises ResponseNotFoundError
        if an item of the history was deleted meanwhile.
        """
        self.delete_expired()
        with self.database.writing(owner) as connection:
            _check_items(connection, history)
            body, now = json.dumps(response), self._now()
            connection.execute(
                insert(RESPONSES).values(
                    id=response["id"],
                    owner=owner,
                    created_at=now,
                    is_final=False,
                    bytes=len(body),
                    body=body,
                    ends_by=now + LEASE_S,
                )
            )
            numbers = [item.number for item in history] + _insert_items(connection, owner, items)
            _use_items(connection, response["id"], numbers, 0, is_output=False)
            self._delete_beyond_limit(connection, owner, response["id"])

    def finish(self, owner: str, response: dict[str, Any]) -> None:
        """Stores the answer of a response; does nothing if it was deleted meanwhile."""
        with self.database.writing(owner) as connection:
            body = json.dumps(response)
            done = connection.execute(
                update(RESPONSES)
                .where(RESPONSES.c.id == response["id"], RESPONSES.c.owner == owner)
                .values(is_final=True, bytes=len(body), body=body)
            )
            if done.rowcount:
                used = select(func.count()).select_from(USES).where(USES.c.response == response["id"])
                count = connection.execute(used).scalar_one()
                numbers = _insert_items(connection, owner, response["output"])
                _use_items(connection, response["id"], numbers, count, is_output=True)

    def find(self, owner: str, response_id: str) -> StoredResponse | None:
        """The response; None if it is unknown or too old. One whose lease has ended is failed."""
        oldest = self._now() - self._max_age_s
        query = select(RESPONSES.c.body, RESPONSES.c.is_final, RESPONSES.c.ends_by).where(
            _is_response(owner, response_id), RESPONSES.c.created_at >= oldest
        )
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        content = json.loads(row.body)
        if row.is_final or row.ends_by is None or self._now() <= row.ends_by:
            return StoredResponse(content, row.is_final)
        error = {"code": "server_error", "message": "The server stopped before the answer was complete."}
        return StoredResponse(content | {"status": "failed", "error": error}, is_final=True)

    def items_of(self, owner: str, response_id: str, *, with_output: bool) -> list[StoredItem]:
        """The input items of a response, in order; `with_output` adds its output items."""
        query = (
            select(ITEMS.c.number, ITEMS.c.body)
            .join(USES, ITEMS.c.number == USES.c.item)
            .where(USES.c.response == text_key(response_id), ITEMS.c.owner == owner)
            .order_by(USES.c.position)
        )
        if not with_output:
            query = query.where(USES.c.is_output.is_(False))
        with self.database.reading() as connection:
            return [StoredItem(row.number, json.loads(row.body)) for row in connection.execute(query)]

    def find_item(self, owner: str, item_id: str) -> StoredItem | None:
        """The newest item with an id; None if there is none."""
        query = (
            select(ITEMS.c.number, ITEMS.c.body)
            .where(ITEMS.c.owner == owner, ITEMS.c.id == text_key(item_id))
            .order_by(ITEMS.c.number.desc())
            .limit(1)
        )
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        return StoredItem(row.number, json.loads(row.body)) if row is not None else None

    def cancel(self, owner: str, response_id: str) -> None:
        """Asks the process that answers the response to stop."""
        running = update(RESPONSES).where(_is_response(owner, response_id), RESPONSES.c.is_final.is_(False))
        with self.database.writing(owner) as connection:
            connection.execute(running.values(is_cancelled=True))

    def delete(self, owner: str, response_id: str) -> bool:
        """Deletes a response, and its items that no other response uses. Returns whether it was there."""
        with self.database.writing(owner) as connection:
            known = connection.execute(select(RESPONSES.c.id).where(_is_response(owner, response_id))).scalar()
            if known is not None:
                _delete_response(connection, known)
        return known is not None

    def renew_leases(self, response_ids: Collection[str]) -> None:
        """Renews the leases of responses that this process is answering."""
        running = select(RESPONSES.c.id).where(RESPONSES.c.id.in_(response_ids), RESPONSES.c.is_final.is_(False))
        # A row that is locked is skipped until the next renewal: to wait for several rows could end in a deadlock.
        free = running.with_for_update(skip_locked=True)
        with self.database.writing() as connection:
            renewing = update(RESPONSES).where(RESPONSES.c.id.in_(free.scalar_subquery()))
            connection.execute(renewing.values(ends_by=self._now() + LEASE_S))

    def wanted(self, response_ids: Collection[str]) -> set[str]:
        """The ids of these responses that were neither cancelled nor deleted since `begin`."""
        query = select(RESPONSES.c.id).where(RESPONSES.c.id.in_(response_ids), RESPONSES.c.is_cancelled.is_(False))
        with self.database.reading() as connection:
            return set(connection.execute(query).scalars())

    def delete_expired(self) -> None:
        """Deletes the oldest responses that are too old, of all owners, at most MAX_DELETED_AT_ONCE."""
        query = select(RESPONSES.c.owner, RESPONSES.c.id).where(RESPONSES.c.created_at < self._now() - self._max_age_s)
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(RESPONSES.c.created_at).limit(MAX_DELETED_AT_ONCE)).all()
        for owner in {row.owner for row in rows}:
            with self.database.writing(owner) as connection:
                for row in rows:
                    if row.owner == owner:
                        _delete_response(connection, row.id)

    def _delete_beyond_limit(self, connection: Connection, owner: str, keep: str) -> None:
        oldest = select(RESPONSES.c.id).where(RESPONSES.c.owner == owner, RESPONSES.c.id != keep)
        oldest = oldest.order_by(RESPONSES.c.created_at).limit(1)
        for _ in range(MAX_DELETED_AT_ONCE):
            size = sum(
                connection.execute(
                    select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.owner == owner)
                ).scalar_one()
                for table in (ITEMS, RESPONSES)
            )
            if size <= self._max_bytes_per_owner or (found := connection.execute(oldest).scalar()) is None:
                return
            _delete_response(connection, found)


def _is_response(owner: str, response_id: str) -> ColumnElement[bool]:
    return (RESPONSES.c.id == text_key(response_id)) & (RESPONSES.c.owner == owner)


def _check_items(connection: Connection, items: Sequence[StoredItem]) -> None:
    """Raises ResponseNotFoundError unless all items are there. The id is compared too: SQLite may reuse a number."""
    wanted = {(item.number, text_key(item.content["id"])) for item in items}
    query = select(ITEMS.c.number, ITEMS.c.id).where(ITEMS.c.number.in_([item.number for item in items]))
    if not wanted <= {(row.number, row.id) for row in connection.execute(query)}:
        raise ResponseNotFoundError(
            "The previous response was deleted while this request was prepared.",
            param="previous_response_id",
            code="previous_response_not_found",
        )


def _insert_items(connection: Connection, owner: str, items: Sequence[Item]) -> list[int]:
    """The numbers of the new items, in order."""
    if not items:
        return []
    bodies = [json.dumps(item) for item in items]
    rows = [
        {"owner": owner, "id": text_key(item["id"]), "bytes": len(body), "body": body}
        for item, body in zip(items, bodies, strict=True)
    ]
    inserting = insert(ITEMS).returning(ITEMS.c.number, sort_by_parameter_order=True)
    return list(connection.execute(inserting, rows).scalars())


def _use_items(
    connection: Connection, response_id: str, numbers: Sequence[int], first_position: int, *, is_output: bool
) -> None:
    rows = [
        {"response": response_id, "position": position, "item": number, "is_output": is_output}
        for position, number in enumerate(numbers, first_position)
    ]
    if rows:
        connection.execute(insert(USES), rows)


def _delete_response(connection: Connection, response_id: str) -> None:
    """Deletes a response, and its items that no other response uses."""
    used = connection.execute(select(USES.c.item).distinct().where(USES.c.response == response_id)).scalars().all()
    connection.execute(delete(USES).where(USES.c.response == response_id))
    connection.execute(delete(RESPONSES).where(RESPONSES.c.id == response_id))
    is_used = exists().where(USES.c.item == ITEMS.c.number)
    connection.execute(delete(ITEMS).where(ITEMS.c.number.in_(used), ~is_used))
