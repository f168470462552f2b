"""SqlDatabase: transactions on both databases, and what happens when PostgreSQL does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select, update

from tests.postgresql_server import PostgresqlServer
from tuneyard.core.errors import ConfigError, StoreUnavailableError
from tuneyard.storage.sql import database as database_module
from tuneyard.storage.sql import postgresql as postgresql_module
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))


def open_database(location: SqlLocation) -> contextlib.closing[SqlDatabase]:
    return contextlib.closing(SqlDatabase(location, METADATA, what="Notes"))


def add(database: SqlDatabase, text: str) -> int:
    """Adds a note and returns their number."""
    with database.writing("all") as connection:
        connection.execute(insert(NOTES).values(text=text))
        return connection.execute(select(func.count()).select_from(NOTES)).scalar_one()


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresqlServer]:
    """A server that the test may stop, with short time limits."""
    monkeypatch.setattr(postgresql_module, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgresql_module, "CONNECT_TIMEOUT_S", 2)
    with PostgresqlServer(tmp_path) as server:
        yield server


def location_of(server: PostgresqlServer) -> SqlLocation:
    return SqlLocation(url=server.create_database(), password_file=server.password_file)


def test_a_transaction_is_whole_or_undone(sql_location: SqlLocation) -> None:
    with open_database(sql_location) as database, open_database(sql_location) as other:
        assert add(database, "first") == 1
        with pytest.raises(ZeroDivisionError), database.writing() as connection:
            connection.execute(insert(NOTES).values(text="lost"))
            raise ZeroDivisionError
        with other.reading() as connection:
            assert connection.execute(select(NOTES.c.text)).scalars().all() == ["first"]


def test_writers_with_one_lock_run_one_after_another(sql_location: SqlLocation) -> None:
    """Each reads, then writes what it read plus one: without the lock, some would be lost."""
    with open_database(sql_location) as database, open_database(sql_location) as other:
        add(database, "0")

        def count(number: int) -> None:
            with (database, other)[number % 2].writing("counter") as connection:
                value = int(connection.execute(select(NOTES.c.text)).scalar_one())
                connection.execute(update(NOTES).values(text=str(value + 1)))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(count, range(40)))
        with database.reading() as connection:
            assert connection.execute(select(NOTES.c.text)).scalar_one() == "40"


def test_processes_may_open_a_new_database_at_once(sql_location: SqlLocation) -> None:
    with contextlib.ExitStack() as stack:
        databases = [stack.enter_context(open_database(sql_location)) for _ in range(6)]
        barrier = threading.Barrier(len(databases))

        def write(database: SqlDatabase) -> None:
            barrier.wait(60)
            add(database, "x")

        with ThreadPoolExecutor(len(databases)) as threads:
            list(threads.map(write, databases))
        assert add(databases[0], "last") == len(databases) + 1


def test_a_server_that_is_down_is_named_and_used_again(
    own_server: PostgresqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    with open_database(location_of(own_server)) as database:
        assert add(database, "before") == 1
        own_server.stop()
        with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailableError) as error:
            add(database, "secret text")
        assert error.value.message.startswith("Notes cannot be read or written now: the PostgreSQL database 'test_")
        assert error.value.status_code == 503
        assert str(own_server.port) not in error.value.message
        assert str(own_server.port) in caplog.text
        assert "secret text" not in caplog.text + error.value.message
        own_server.start()
        assert add(database, "after") == 2


async def test_a_server_that_is_paused_does_not_hang_a_request(own_server: PostgresqlServer) -> None:
    """Its connections stay open, and nothing on them is answered."""
    with open_database(location_of(own_server)) as database:
        assert await database.run(add, database, "before") == 1
        own_server.pause()
        with pytest.raises(StoreUnavailableError):
            await database.run(add, database, "during")
        own_server.resume()
        for _ in range(100):
            with contextlib.suppress(StoreUnavailableError):
                assert await database.run(add, database, "after") == 2
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the database was not used again")


async def test_a_call_that_takes_too_long_is_given_up(
    sql_location: SqlLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "DEADLINE_S", 0.05)
    may_end = threading.Event()
    with open_database(sql_location) as database:
        with pytest.raises(StoreUnavailableError):
            await database.run(may_end.wait, 60)
        may_end.set()


async def test_calls_that_waited_too_long_for_a_thread_are_dropped(
    sql_location: SqlLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "DEADLINE_S", 0.05)
    may_end = threading.Event()
    late: list[object] = []
    with open_database(sql_location) as database:
        waits = [database.run(may_end.wait, 60) for _ in range(database_module.CONNECTIONS)]
        lates = [database.run(late.append, number) for number in range(20)]
        for result in await asyncio.gather(*waits, *lates, return_exceptions=True):
            assert isinstance(result, StoreUnavailableError)
        may_end.set()
        monkeypatch.setattr(database_module, "DEADLINE_S", 10.0)
        await database.run(late.append, "after")
    assert late == ["after"]


def test_what_is_wrong_with_a_database_is_told_at_deployment(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    url, password = postgresql.create_database(), postgresql.password_file
    postgresql.execute("CREATE USER guest PASSWORD 'not-a-secret'")
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.write_text("wrong")
    empty.write_text("\n")
    for location, reason in (
        (SqlLocation(url=url, password_file=wrong), "password authentication failed"),
        (SqlLocation(url=url, password_file=empty), "is empty. Write the password into it"),
        (SqlLocation(url=url, password_file=tmp_path / "none"), "cannot be read"),
        (SqlLocation(url=postgresql.url("no_such"), password_file=password), 'database "no_such" does not exist'),
        (SqlLocation(url=url.replace("tuneyard@", "guest@"), password_file=password), "permission denied"),
        (SqlLocation(url="postgresql://u@127.0.0.1:1/x", password_file=password), "connection refused"),
    ):
        with open_database(location) as database:
            with pytest.raises(ConfigError, match=f"(?i){reason}"):
                database.check()
            with pytest.raises(StoreUnavailableError):
                add(database, "x")
    with open_database(SqlLocation(url=url, password_file=password)) as database:
        database.check()
        assert add(database, "x") == 1


def test_a_password_can_be_changed_while_the_database_is_used(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    postgresql.execute("CREATE USER rotating SUPERUSER PASSWORD 'first'")
    password = tmp_path / "password"
    password.write_text("first")
    url = postgresql.create_database().replace("tuneyard@", "rotating@")
    with open_database(SqlLocation(url=url, password_file=password)) as database:
        assert add(database, "x") == 1
        postgresql.execute("ALTER USER rotating PASSWORD 'second'")
        postgresql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'")
        with pytest.raises(StoreUnavailableError):
            add(database, "x")
        password.write_text("second")
        assert add(database, "x") == 2


def test_a_lock_file_that_cannot_be_opened_is_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    lock = tmp_path / "notes.db.lock"
    with open_database(SqlLocation(file=tmp_path / "notes.db")) as database:
        lock.mkdir()
        with pytest.raises(StoreUnavailableError, match="Notes cannot be read or written now"):
            add(database, "first")
        lock.rmdir()
        assert add(database, "first") == 1
