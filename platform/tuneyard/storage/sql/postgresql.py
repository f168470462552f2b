"""Connections to PostgreSQL through psycopg, which fail in time if the server does not answer."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Engine, create_engine

from tuneyard.storage.password_file import read_password

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 3
"""Seconds in which a connection must be open; libpq takes whole seconds, 2 at least."""

ANSWER_TIMEOUT_S = 5.0
"""Seconds in which the server must have answered a statement."""

IDLE_LIMIT_S = 1800
"""Seconds after which a connection is replaced: firewalls forget connections that are not used."""


def create_postgresql_engine(url: str, password_file: Path | None, connections: int) -> Engine:
    """An engine with at most `connections` connections, which are opened when they are needed.

    The password is read for every new connection, so it can be changed while a deployment runs.
    """

    def connect() -> psycopg.Connection[Any]:
        options: dict[str, Any] = (
            {"password": read_password(password_file, "database.password_file")} if password_file is not None else {}
        )
        return _TimedConnection.connect(
            url,
            connect_timeout=CONNECT_TIMEOUT_S,
            tcp_user_timeout=int(ANSWER_TIMEOUT_S * 1000),
            application_name="tuneyard",
            # Statements that are prepared on a connection fail behind a pooler that shares connections, as PgBouncer.
            prepare_threshold=None,
            **options,
        )

    return create_engine(
        URL.create("postgresql+psycopg"),
        creator=connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=ANSWER_TIMEOUT_S,
        pool_recycle=IDLE_LIMIT_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )


class _TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if an answer takes too long. A server that is stopped keeps its connections open."""

    def wait(self, gen: Generator[Any, Any, Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """See psycopg: runs an exchange with the server to its end. Raises OperationalError after `timeout` seconds."""
        try:
            return super().wait(gen, interval, ANSWER_TIMEOUT_S if timeout is None else timeout)
        except psycopg.Error:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # The answer may still come, and would be taken for that of the next statement.
                self.close()
            raise
