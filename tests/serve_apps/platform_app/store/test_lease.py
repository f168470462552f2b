"""Of several processes one holds the lease, until it gives it back or dies."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import update

from serve_apps.platform_app.store.lease import Lease, database_time
from serve_apps.platform_app.store.platform_database import open_database
from serve_apps.platform_app.store.tables import LEASES
from tuneyard.storage.sql.location import SqlLocation


def test_one_process_holds_it(sql_location: SqlLocation) -> None:
    with contextlib.closing(open_database(sql_location)) as database:
        first, second, other = Lease(database, "a", "1"), Lease(database, "a", "2"), Lease(database, "b", "2")
        assert first.take()
        assert first.take()
        assert not second.take()
        assert other.take()
        second.release()
        assert not second.take()
        first.release()
        assert second.take()
        assert not first.take()


def test_it_passes_on_when_it_is_not_renewed(sql_location: SqlLocation) -> None:
    with contextlib.closing(open_database(sql_location)) as database:
        assert Lease(database, "a", "1").take()
        with database.writing() as connection:
            connection.execute(update(LEASES).values(ends_at=database_time(connection) - 0.001))
        assert Lease(database, "a", "2").take()


def test_of_many_at_once_one_gets_it(sql_location: SqlLocation) -> None:
    with contextlib.closing(open_database(sql_location)) as database, ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda number: Lease(database, "a", str(number)).take(), range(12)))
    assert taken.count(True) == 1


def test_time_is_that_of_the_database(sql_location: SqlLocation) -> None:
    with contextlib.closing(open_database(sql_location)) as database, database.reading() as connection:
        assert abs(database_time(connection) - time.time()) < 1
