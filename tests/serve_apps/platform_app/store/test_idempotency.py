"""A request that is sent again creates nothing; the same key with another request is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from serve_apps.platform_app.store.idempotency import KEPT_S, IdempotentRequest
from serve_apps.platform_app.store.platform_database import open_database
from tuneyard.core.errors import RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation


@pytest.fixture
def database(sql_location: SqlLocation) -> Iterator[SqlDatabase]:
    with contextlib.closing(open_database(sql_location)) as database:
        yield database


def claim(database: SqlDatabase, object_id: str, now: float = 0.0, **fields: object) -> str:
    request = {"owner": "o", "scope": "jobs", "key": "k", "content": {"model": "m"}} | fields
    with database.writing(lock="o") as connection:
        return IdempotentRequest(**request).claim(connection, object_id, now)  # type: ignore[arg-type]


def test_the_first_object_is_returned(database: SqlDatabase) -> None:
    assert claim(database, "a") == "a"
    assert claim(database, "b") == "a"
    assert claim(database, "c", owner="other") == "c"
    assert claim(database, "d", scope="batches") == "d"
    assert claim(database, "e", key="other") == "e"
    assert claim(database, "f", key="") == "f"
    assert claim(database, "g", key="x" * 5000) == "g"
    assert claim(database, "h", key="x" * 5000) == "g"


def test_another_request_with_the_same_key_is_refused(database: SqlDatabase) -> None:
    claim(database, "a")
    with pytest.raises(RequestError, match="another request") as caught:
        claim(database, "b", content={"model": "n"})
    assert caught.value.code == "idempotency_key_reused"


def test_a_key_is_forgotten_after_a_day(database: SqlDatabase) -> None:
    claim(database, "a")
    assert claim(database, "b", now=KEPT_S - 1) == "a"
    assert claim(database, "c", now=KEPT_S + 1) == "c"
