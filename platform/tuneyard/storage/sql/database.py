"""SqlDatabase: transactions on a SQLite file or a PostgreSQL database, with a deadline for every call.

For stores that several processes share. A store opens it with its tables:

    database = SqlDatabase(location, METADATA, what="Usage of API keys")
    with database.writing(lock=key.sha256) as connection:
        connection.execute(insert(USAGE).values(...))

and calls its own methods, which block, from the event loop through `await database.run(store.method, ...)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from filelock import FileLock
from sqlalchemy import Connection, Engine, MetaData, func, inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from tuneyard.core.errors import ConfigError, MissingDependencyError, StoreUnavailableError
from tuneyard.storage.sql.location import SqlLocation
from tuneyard.storage.sql.sqlite import WRITES, create_sqlite_engine

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CONNECTIONS = 4
"""Connections of one process, and its threads that use them."""

DEADLINE_S = 10.0
"""Seconds that `run` waits for a call, a free connection included."""

SCHEMA = "tuneyard"
"""Schema of all tables in PostgreSQL, where other programs may have tables of the same names."""

INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's code for a missing permission."""

logger = logging.getLogger(__name__)


class SqlDatabase:
    """The database at `location` with the tables of `metadata`, which are created with the first transaction.

    `what` is the plural that begins messages, such as "Stored responses". `migrate` is called once, inside the
    transaction that creates the tables, and changes tables of earlier versions. Raises MissingDependencyError if the
    driver of PostgreSQL is not installed. Every transaction raises StoreUnavailableError if the database does not
    answer or fails.
    """

    def __init__(
        self,
        location: SqlLocation,
        metadata: MetaData,
        *,
        what: str,
        migrate: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self._location = location
        self._metadata = metadata
        self._what = what
        self._migrate = migrate
        self._engine = _create_engine(location)
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sql")

    def close(self) -> None:
        """Closes all connections. Calls that run finish first, at most after their time limit."""
        self._threads.shutdown(wait=False)
        self._engine.dispose()

    def check(self) -> None:
        """Connects, and creates the tables that are missing. Raises ConfigError with the reason if that fails."""
        try:
            self._prepare()
        except SQLAlchemyError as e:
            raise ConfigError(f"{self._what} need {self._location.name}, which cannot be used: {_reason(e)}.") from e

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._named_errors():
            self._prepare()
            with self._engine.begin() as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self, lock: str | None = None) -> Iterator[Connection]:
        """A transaction, which is undone if the context raises. Those with the same `lock` run one after another."""
        with self._named_errors():
            self._prepare()
            with self._write_connection() as connection, connection.begin():
                if lock is not None:
                    self._take_lock(connection, lock)
                yield connection

    async def run(self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """The result of a call that blocks, from a thread.

        Raises StoreUnavailableError after DEADLINE_S. A call that has begun by then runs to its end all the same; one
        that still waits for a thread is dropped. If the waiting task is cancelled, the call is made all the same.
        """
        calling = asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(call, *args, **kwargs))
        limit = asyncio.timeout(DEADLINE_S)
        try:
            async with limit:
                return await asyncio.shield(calling)
        except TimeoutError as e:
            if not limit.expired():
                raise
            calling.cancel()  # calls would pile up, with their content, while the database does not answer
            raise self._unavailable(f"no answer in {DEADLINE_S:g} s") from e

    def _prepare(self) -> None:
        if self._is_prepared:
            return
        with self._preparing:
            if not self._is_prepared:
                self._create_tables()
                self._is_prepared = True

    def _write_connection(self) -> Connection:
        return self._engine.connect().execution_options(**{WRITES: True})

    def _take_lock(self, connection: Connection, lock: str) -> None:
        """In PostgreSQL; SQLite lets only one transaction write at a time."""
        if connection.dialect.name == "postgresql":
            number = zlib.crc32(f"{self._what}/{lock}".encode())
            connection.execute(select(func.pg_advisory_xact_lock(number)))

    def _create_tables(self) -> None:
        with contextlib.ExitStack() as stack:
            if self._location.file is not None:
                # Two processes that open a new file at once could both find it locked.
                stack.enter_context(FileLock(f"{self._location.file}.lock", mode=0o600))
            connection = stack.enter_context(self._write_connection())
            stack.enter_context(connection.begin())
            # One lock for all stores: they share the schema.
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(zlib.crc32(SCHEMA.encode()))))
                if not inspect(connection).has_schema(SCHEMA):
                    connection.execute(CreateSchema(SCHEMA))
            self._metadata.create_all(connection)
            self._migrate(connection)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Raises errors of the database as errors that name the store; the log has the reason."""
        try:
            yield
        except (SQLAlchemyError, ConfigError, OSError) as e:  # OSError: the folder or its lock file
            raise self._unavailable(_reason(e)) from e

    def _unavailable(self, reason: str) -> StoreUnavailableError:
        logger.warning("%s: %s cannot be used now: %s", self._what, self._location.name, reason)
        return StoreUnavailableError(
            f"{self._what} cannot be read or written now: {self._location.public_name} does not answer, or fails. "
            f"Retry after {StoreUnavailableError.retry_after_s} s.",
            code="store_unavailable",
        )


def _create_engine(location: SqlLocation) -> Engine:
    if location.file is not None:
        return create_sqlite_engine(location.file, CONNECTIONS)
    assert location.url is not None
    try:
        from tuneyard.storage.sql.postgresql import create_postgresql_engine
    except ModuleNotFoundError as e:
        if e.name != "psycopg":
            raise
        raise MissingDependencyError(
            f"{location.name} needs the package psycopg, which is not installed. Run: pip install "
            "'tuneyard[postgresql]'."
        ) from e
    engine = create_postgresql_engine(location.url, location.password_file, CONNECTIONS)
    return engine.execution_options(schema_translate_map={None: SCHEMA})


def _reason(error: Exception) -> str:
    """Why a database cannot be used, without the values of a statement, which errors of most kinds may quote."""
    if not isinstance(error, DBAPIError):
        return str(error) if isinstance(error, ConfigError) else type(error).__name__
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if isinstance(error, OperationalError) or state == INSUFFICIENT_PRIVILEGE:
        return str(error.orig).strip().partition("\n")[0].rstrip(".")
    return type(error.orig).__name__
