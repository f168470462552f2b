"""Lease: of several processes, one at a time does the work; another takes over when it dies."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, text, update

from serve_apps.platform_app.store.tables import LEASES
from tuneyard.storage.sql.database import SqlDatabase

LEASE_S = 20.0
"""How long the holder is believed to live without a renewal."""

RENEWAL_S = 5.0
"""How often the holder renews. It must stop to work if it could not for LEASE_S."""


class Lease:
    """The lease `name` for one process, `holder`. Its methods wait for the database: call them by `database.run`.

    Time is the database's, because clocks of several nodes differ.
    """

    def __init__(self, database: SqlDatabase, name: str, holder: str) -> None:
        self._database = database
        self._name = name
        self._holder = holder

    def take(self) -> bool:
        """Takes or renews the lease for LEASE_S. Returns whether this process holds it now."""
        with self._database.writing(lock=f"lease/{self._name}") as connection:
            now = database_time(connection)
            row = connection.execute(select(LEASES).where(LEASES.c.name == self._name)).first()
            if row is None:
                connection.execute(insert(LEASES).values(name=self._name, holder=self._holder, ends_at=now + LEASE_S))
                return True
            if row.holder != self._holder and row.ends_at > now:
                return False
            connection.execute(
                update(LEASES).where(LEASES.c.name == self._name).values(holder=self._holder, ends_at=now + LEASE_S)
            )
            return True

    def release(self) -> None:
        """Gives the lease back, if this process holds it."""
        with self._database.writing(lock=f"lease/{self._name}") as connection:
            connection.execute(delete(LEASES).where(LEASES.c.name == self._name, LEASES.c.holder == self._holder))


def database_time(connection: Connection) -> float:
    """Unix time in seconds by the database's clock; SQLite's is this machine's, to the millisecond."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
    return float(connection.execute(text("SELECT (julianday('now') - 2440587.5) * 86400.0")).scalar_one())
