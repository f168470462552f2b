"""ResponseStore: stored responses and their items, in a SQLite database that several processes share."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from tuneyard.configs.responses import ResponsesConfig
from tuneyard.core.errors import EngineError

LOCK_TIMEOUT_S = 30.0
"""How long to wait for another process that writes."""

END_MARGIN_S = 60.0
"""How long after the time limit of its answer a response without an end counts as failed: it must be stored first."""

MAX_DELETED_AT_ONCE = 200
"""Responses that one call of `begin` deletes because of age or size; the next calls delete more."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created_at REAL NOT NULL, is_final INTEGER NOT NULL,
    is_cancelled INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL, body TEXT NOT NULL,
    ends_by REAL);
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (created_at);
CREATE INDEX IF NOT EXISTS responses_of_owner ON responses (owner, created_at, bytes);
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY, owner TEXT NOT NULL, id TEXT NOT NULL, bytes INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS items_of_owner ON items (owner, id, bytes);
CREATE TABLE IF NOT EXISTS uses (
    response TEXT NOT NULL, position INTEGER NOT NULL, item INTEGER NOT NULL, is_output INTEGER NOT NULL,
    PRIMARY KEY (response, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uses_of_item ON uses (item);
"""
"""Each item is stored once; the responses of a conversation use the same items. `bytes` are of the body.

`ends_by` is the Unix time by which the answer has ended or its process has; NULL without a time limit.
"""

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
    """Every method takes the `owner`, the digest of an API key, and sees only what that owner stored.

    The methods read and write the disk: call them from a thread. `now` gives Unix time in seconds. Responses that begin
    here and have no end `answer_timeout_s` later, with a margin, count as failed: their process has died.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_age_s: float,
        max_bytes_per_owner: float,
        answer_timeout_s: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._answer_timeout_s = answer_timeout_s
        self._max_age_s = max_age_s
        self._max_bytes_per_owner = max_bytes_per_owner
        self._now = now
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that open a new database at once could both find it locked.
        with FileLock(f"{path}.lock", mode=0o600):
            self._database = self._open_database(path)
        with self._writing() as database:
            self._delete_expired(database)

    @staticmethod
    def _open_database(path: Path) -> sqlite3.Connection:
        # Created before SQLite opens it, so that nobody else can ever read it: it holds prompts and answers.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, check_same_thread=False, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA secure_delete=ON")
        database.executescript(_SCHEMA)
        if "ends_by" not in [column[1] for column in database.execute("PRAGMA table_info(responses)")]:
            database.execute("ALTER TABLE responses ADD COLUMN ends_by REAL")
        return database

    @classmethod
    def open(cls, config: ResponsesConfig, answer_timeout_s: float | None = None) -> Self | None:
        """The store of a deployment; None if it stores nothing."""
        if not config.store:
            return None
        return cls(
            config.path,
            max_age_s=config.max_age_days * 86400,
            max_bytes_per_owner=config.max_mib_per_key * 2**20,
            answer_timeout_s=answer_timeout_s,
        )

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def begin(self, owner: str, response: dict[str, Any], history: Sequence[StoredItem], items: Sequence[Item]) -> None:
        """Stores a response that is being answered: its input is `history`, stored items, then new `items`.

        Deletes responses that are too old, and the owner's oldest ones beyond its limit.
        """
        with self._writing() as database:
            self._delete_expired(database)
            body, now = json.dumps(response), self._now()
            ends_by = now + self._answer_timeout_s + END_MARGIN_S if self._answer_timeout_s is not None else None
            database.execute(
                "INSERT INTO responses (id, owner, created_at, is_final, bytes, body, ends_by) "
                "VALUES (?, ?, ?, 0, ?, ?, ?)",
                (response["id"], owner, now, len(body), body, ends_by),
            )
            numbers = [item.number for item in history] + [_insert_item(database, owner, item) for item in items]
            _use_items(database, response["id"], numbers, 0, is_output=False)
            self._delete_beyond_limit(database, owner, response["id"])

    def finish(self, owner: str, response: dict[str, Any]) -> None:
        """Stores the answer of a response; does nothing if it was deleted meanwhile."""
        with self._writing() as database:
            body = json.dumps(response)
            done = database.execute(
                "UPDATE responses SET is_final = 1, bytes = ?, body = ? WHERE id = ? AND owner = ?",
                (len(body), body, response["id"], owner),
            )
            if done.rowcount:
                (count,) = database.execute(
                    "SELECT count(*) FROM uses WHERE response = ?", (response["id"],)
                ).fetchone()
                numbers = [_insert_item(database, owner, item) for item in response["output"]]
                _use_items(database, response["id"], numbers, count, is_output=True)

    def find(self, owner: str, response_id: str) -> StoredResponse | None:
        """The response; None if it is unknown or too old. One without an end in its time is failed."""
        with self._reading() as database:
            row = database.execute(
                "SELECT body, is_final, ends_by FROM responses WHERE id = ? AND owner = ? AND created_at >= ?",
                (response_id, owner, self._now() - self._max_age_s),
            ).fetchone()
        if row is None:
            return None
        content, is_final, ends_by = json.loads(row[0]), bool(row[1]), row[2]
        if is_final or ends_by is None or self._now() <= ends_by:
            return StoredResponse(content, is_final)
        error = {"code": "server_error", "message": "The server stopped before the answer was complete."}
        return StoredResponse(content | {"status": "failed", "error": error}, is_final=True)

    def items_of(self, owner: str, response_id: str, *, with_output: bool) -> list[StoredItem]:
        """The input items of a response, in order; `with_output` adds its output items."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT items.number, items.body FROM uses JOIN items ON items.number = uses.item "
                "WHERE uses.response = ? AND items.owner = ? AND uses.is_output <= ? ORDER BY uses.position",
                (response_id, owner, int(with_output)),
            ).fetchall()
        return [StoredItem(number, json.loads(body)) for number, body in rows]

    def find_item(self, owner: str, item_id: str) -> StoredItem | None:
        """The newest item with an id; None if there is none."""
        with self._reading() as database:
            row = database.execute(
                "SELECT number, body FROM items WHERE owner = ? AND id = ? ORDER BY number DESC LIMIT 1",
                (owner, item_id),
            ).fetchone()
        return StoredItem(row[0], json.loads(row[1])) if row is not None else None

    def cancel(self, owner: str, response_id: str) -> None:
        """Asks the process that answers the response to stop."""
        with self._writing() as database:
            database.execute(
                "UPDATE responses SET is_cancelled = 1 WHERE id = ? AND owner = ? AND is_final = 0",
                (response_id, owner),
            )

    def is_cancelled(self, owner: str, response_id: str) -> bool:
        """Whether `cancel` was called, or the response was deleted, since `begin`."""
        with self._reading() as database:
            row = database.execute(
                "SELECT is_cancelled FROM responses WHERE id = ? AND owner = ?", (response_id, owner)
            ).fetchone()
        return row is None or bool(row[0])

    def delete(self, owner: str, response_id: str) -> bool:
        """Deletes a response, and its items that no other response uses. Returns whether it was there."""
        with self._writing() as database:
            known = database.execute(
                "SELECT 1 FROM responses WHERE id = ? AND owner = ?", (response_id, owner)
            ).fetchone()
            if known is not None:
                _delete_response(database, response_id)
        return known is not None

    def _delete_expired(self, database: sqlite3.Connection) -> None:
        expired = database.execute(
            "SELECT id FROM responses WHERE created_at < ? ORDER BY created_at LIMIT ?",
            (self._now() - self._max_age_s, MAX_DELETED_AT_ONCE),
        ).fetchall()
        for (response_id,) in expired:
            _delete_response(database, response_id)

    def _delete_beyond_limit(self, database: sqlite3.Connection, owner: str, keep: str) -> None:
        for _ in range(MAX_DELETED_AT_ONCE):
            (size,) = database.execute(
                "SELECT (SELECT total(bytes) FROM items WHERE owner = ?1) "
                "+ (SELECT total(bytes) FROM responses WHERE owner = ?1)",
                (owner,),
            ).fetchone()
            oldest = database.execute(
                "SELECT id FROM responses WHERE owner = ? AND id != ? ORDER BY created_at LIMIT 1", (owner, keep)
            ).fetchone()
            if size <= self._max_bytes_per_owner or oldest is None:
                return
            _delete_response(database, oldest[0])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which is undone if the context raises."""
        with self._lock, _named_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _named_errors():
            yield self._database


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Raises SQLite's errors, such as for a full disk, as the error of the request that needs the database."""
    try:
        yield
    except sqlite3.Error as e:
        raise EngineError(f"Stored responses cannot be read or written now: {e}.") from e


def _insert_item(database: sqlite3.Connection, owner: str, item: Item) -> int:
    body = json.dumps(item)
    inserted = database.execute(
        "INSERT INTO items (owner, id, bytes, body) VALUES (?, ?, ?, ?)", (owner, item["id"], len(body), body)
    )
    assert inserted.lastrowid is not None
    return inserted.lastrowid


def _use_items(
    database: sqlite3.Connection, response_id: str, numbers: Sequence[int], first_position: int, *, is_output: bool
) -> None:
    database.executemany(
        "INSERT INTO uses (response, position, item, is_output) VALUES (?, ?, ?, ?)",
        [(response_id, position, number, int(is_output)) for position, number in enumerate(numbers, first_position)],
    )


def _delete_response(database: sqlite3.Connection, response_id: str) -> None:
    numbers = database.execute("SELECT DISTINCT item FROM uses WHERE response = ?", (response_id,)).fetchall()
    database.execute("DELETE FROM uses WHERE response = ?", (response_id,))
    database.execute("DELETE FROM responses WHERE id = ?", (response_id,))
    database.executemany(
        "DELETE FROM items WHERE number = ? AND NOT EXISTS (SELECT 1 FROM uses WHERE item = items.number)", numbers
    )
