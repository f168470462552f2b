"""One reconciler works, and stops in time; a step that fails is tried again and stops no other part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from serve_apps.platform_app.reconciler import Reconciler
from serve_apps.platform_app.store.lease import Lease
from serve_apps.platform_app.store.platform_database import open_database
from serve_apps.platform_app.store.tables import LEASES
from tuneyard.core.errors import StoreUnavailableError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation


class CountingPart:
    """A part that counts its steps; it fails while `error` is set, and hangs while `hangs`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = self.closed = 0
        self.error: Exception | None = None
        self.hangs = self.was_cancelled = False

    def add_routes(self, api: object, gate: object) -> None:
        """None."""

    async def reconcile(self, now: float) -> None:
        assert now > 1e9
        self.steps += 1
        try:
            await asyncio.sleep(60 if self.hangs else 0)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqlDatabase]:
    with contextlib.closing(open_database(SqlLocation(file=tmp_path / "db"))) as database:
        yield database


def make(database: SqlDatabase, holder: str, *parts: CountingPart) -> Reconciler:
    return Reconciler(parts, database, Lease(database, "r", holder), step_interval_s=0.001, renewal_s=0.05)


async def wait_for(condition: object, timeout_s: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_one_of_two_works_and_the_other_takes_over(database: SqlDatabase) -> None:
    first, second = CountingPart("a"), CountingPart("b")
    one, two = make(database, "1", first), make(database, "2", second)
    running = asyncio.create_task(one.run())
    await wait_for(lambda: first.steps > 3)
    waiting = asyncio.create_task(two.run())
    await asyncio.sleep(0.2)
    assert (one.is_working, two.is_working, second.steps) == (True, False, 0)
    await stop(running)
    assert (one.is_working, first.closed) == (False, 1)
    steps = first.steps
    await wait_for(lambda: second.steps > 3)
    assert first.steps == steps
    await stop(waiting)


async def test_it_stops_when_another_has_the_lease(database: SqlDatabase) -> None:
    part, hanging = CountingPart("a"), CountingPart("b")
    hanging.hangs = True
    reconciler = make(database, "1", part, hanging)
    running = asyncio.create_task(reconciler.run())
    await wait_for(lambda: part.steps > 3 and hanging.steps == 1)
    with database.writing() as connection:
        connection.execute(update(LEASES).values(holder="2", ends_at=1e12))
    await wait_for(lambda: part.closed and hanging.closed)
    assert hanging.was_cancelled
    assert not reconciler.is_working
    steps = part.steps
    await asyncio.sleep(0.1)
    assert part.steps == steps
    await stop(running)


async def test_a_step_that_fails_is_tried_again_less_often(
    database: SqlDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    failing, unavailable, sound = CountingPart("failing"), CountingPart("unavailable"), CountingPart("sound")
    failing.error, unavailable.error = KeyError("x"), StoreUnavailableError("The store does not answer.")
    running = asyncio.create_task(make(database, "1", failing, unavailable, sound).run())
    await wait_for(lambda: sound.steps > 50)
    assert 1 < failing.steps < 20
    failing.error = unavailable.error = None
    steps = failing.steps
    await wait_for(lambda: failing.steps > steps + 5)
    await stop(running)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert errors
    assert all(record.exc_info and "failing" in record.getMessage() for record in errors)


async def test_a_step_without_its_store_is_tried_again_as_often_as_the_lease(database: SqlDatabase) -> None:
    """A long outage of the store is no reason to wait for long after it: 30 doublings of a millisecond are 12 days."""
    unavailable = CountingPart("unavailable")
    unavailable.error = StoreUnavailableError("The store does not answer.")
    running = asyncio.create_task(make(database, "1", unavailable).run())
    await wait_for(lambda: unavailable.steps > 30)
    await stop(running)


async def test_it_works_again_after_the_store_was_away(database: SqlDatabase) -> None:
    part = CountingPart("a")

    class AwayLease(Lease):
        is_away = False

        def take(self) -> bool:
            if self.is_away:
                raise StoreUnavailableError("away")
            return super().take()

    lease = AwayLease(database, "r", "1")
    reconciler = Reconciler([part], database, lease, step_interval_s=0.001, renewal_s=0.05)
    running = asyncio.create_task(reconciler.run())
    await wait_for(lambda: part.steps > 3)
    lease.is_away = True
    await asyncio.sleep(0.3)
    assert reconciler.is_working  # the lease has not ended yet
    lease.is_away = False
    steps = part.steps
    await wait_for(lambda: part.steps > steps + 3)
    await stop(running)
