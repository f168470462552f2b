"""RecordStore: where the cluster keeps its records: SQLite, or a PostgreSQL server that can be killed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Engine

from tests.postgresql_server import PASSWORD, PostgresqlServer
from tuneyard.storage.sql.database import SCHEMA


class RecordStore:
    """The records of one cluster. `server` is None for SQLite."""

    def __init__(self, name: str, engine: Engine, server: PostgresqlServer | None, config: dict[str, Any]) -> None:
        self.name = name
        self.server = server
        self.config = config
        """What the deployment's config has more: its section `database`, with PostgreSQL."""
        self._engine = engine

    def rows(self, query: str, **values: str) -> list[Any]:
        """The rows that a query finds. Raises SQLAlchemy's DBAPIError while the server is down."""
        with self._engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def kill(self, end: signal.Signals) -> None:
        """Ends the server: SIGKILL as a crash does, SIGQUIT as `pg_ctl stop -m immediate`."""
        assert self.server is not None
        self.server.stop(end)

    def start(self) -> None:
        """Starts the server again, on its port, with its data; returns when it answers."""
        assert self.server is not None
        self.server.start()


@contextlib.contextmanager
def open_record_store(name: str, folder: Path) -> Iterator[RecordStore]:
    """The store `sqlite` of a cluster in `folder`; or `postgresql`, a server of its own, stopped at the end."""
    if name == "sqlite":
        location = f"sqlite:///file:{folder / 'home' / 'platform.db'}?mode=ro&uri=true"
        yield RecordStore(name, create_engine(location, poolclass=NullPool, connect_args={"timeout": 30}), None, {})
        return
    (folder / name).mkdir()
    with PostgresqlServer(folder / name) as server:
        url = server.create_database()

        def connect() -> psycopg.Connection[Any]:
            return psycopg.connect(url, password=PASSWORD, options=f"-csearch_path={SCHEMA}", connect_timeout=5)

        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
        database = {"url": url, "password_file": str(server.password_file)}
        yield RecordStore(name, engine, server, {"database": database})
