"""A list that is read in pages has every object once, whatever is created and deleted meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from serve_apps.platform_app.store.object_ids import BATCH, FILE, PREFIXES, is_id, new_id
from serve_apps.platform_app.store.paging import read_page
from serve_apps.platform_app.store.platform_database import open_database
from serve_apps.platform_app.store.tables import LEASES
from tuneyard.api.wire.platform_api.lists import PageQuery
from tuneyard.core.errors import RequestError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation

CHANGES = st.lists(st.sampled_from(["create", "delete_first", "delete_last", "delete_cursor"]), max_size=3)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlDatabase]:
    """A database whose table of leases stands for any table of objects."""
    location = SqlLocation(file=tmp_path_factory.mktemp("paging") / "db")
    with contextlib.closing(open_database(location)) as database:
        yield database


def create(database: SqlDatabase) -> str:
    object_id = new_id(FILE)
    with database.writing() as connection:
        connection.execute(insert(LEASES).values(name=object_id, holder="", ends_at=0.0))
    return object_id


def remove(database: SqlDatabase, *ids: str) -> None:
    with database.writing() as connection:
        connection.execute(delete(LEASES).where(LEASES.c.name.in_(ids)) if ids else delete(LEASES))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 12),
    limit=st.integers(1, 5),
    order=st.sampled_from(["asc", "desc"]),
    changes=st.lists(CHANGES, max_size=8),
)
def test_every_object_is_on_one_page(
    database: SqlDatabase, count: int, limit: int, order: str, changes: list[list[str]]
) -> None:
    remove(database)
    living = [create(database) for _ in range(count)]
    throughout, later, seen = set(living), set[str](), list[str]()
    cursor, has_more, steps = None, True, iter(changes)
    while has_more:
        page = PageQuery.parse({"limit": limit, "order": order} | ({"after": cursor} if cursor else {}))
        with database.reading() as connection:
            rows, has_more = read_page(connection, select(LEASES.c.name), LEASES.c.name, FILE, page)
        assert len(rows) <= limit
        seen += [row.name for row in rows]
        cursor = seen[-1] if seen else None
        for change in next(steps, []):
            if change == "create":
                later.add(create(database))
                living.append(max(later))
            elif living:
                gone = {"delete_first": living[0], "delete_last": living[-1]}.get(change, cursor or living[0])
                remove(database, gone)
                throughout.discard(gone)
                living = [name for name in living if name != gone]
    assert len(seen) == len(set(seen))
    assert throughout <= set(seen)
    assert set(seen) <= throughout | later | (set(seen) - set(living))
    assert seen == sorted(seen, reverse=order == "desc")


def test_a_cursor_that_is_no_id_of_the_list_is_refused(database: SqlDatabase) -> None:
    for cursor in ("x", new_id(BATCH), "file-", "file-" + "g" * 32, new_id(FILE) + "0"):
        with database.reading() as connection, pytest.raises(RequestError, match="not the id") as caught:
            read_page(connection, select(LEASES.c.name), LEASES.c.name, FILE, PageQuery(after=cursor))
        assert caught.value.param == "after"


@given(st.sampled_from(PREFIXES), st.sampled_from(PREFIXES))
def test_ids_have_their_own_prefix(prefix: str, other: str) -> None:
    object_id = new_id(prefix)
    assert is_id(object_id, prefix)
    assert is_id(object_id, other) == (prefix == other)


def test_ids_sort_in_the_order_of_their_making() -> None:
    ids = [new_id(FILE) for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_parameters_of_a_list() -> None:
    assert PageQuery.parse({"limit": "7", "after": ""}) == PageQuery(limit=7)
    for query, param in (
        ({"limit": "0"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"x": "1"}, "x"),
    ):
        with pytest.raises(RequestError) as caught:
            PageQuery.parse(query)
        assert caught.value.param == param
