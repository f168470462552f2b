"""Connections to a SQLite file that only its owner can read and that several processes share."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

LOCK_TIMEOUT_S = 5.0
"""How long to wait for another process that writes."""

WRITES = "tuneyard_writes"
"""Execution option of a connection whose transaction writes. It takes the file's lock at its beginning: a transaction
that has read before it writes fails at once if another process has written meanwhile."""


def create_sqlite_engine(path: Path, connections: int) -> Engine:
    """An engine with at most `connections` connections. Creates the file, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Created before SQLite opens it, so that nobody else can ever read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": LOCK_TIMEOUT_S, "isolation_level": None},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")
