"""UsageLedger: what each API key used, by model and day, in a database that all replicas share."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Date,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from tuneyard.api.usage_counts import UsageCounts
from tuneyard.configs.database import DatabaseConfig
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation
from tuneyard.storage.sql.text_keys import text_key

METADATA = MetaData()

USAGE = Table(
    "key_usage",
    METADATA,
    Column("day", Date, primary_key=True),
    Column("key_id", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("key_name", String, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in UsageCounts.__dataclass_fields__),
)
"""One row per day, key and model. Its columns after the name are the fields of UsageCounts."""

BATCHES = Table(
    "key_usage_batches",
    METADATA,
    Column("id", String, primary_key=True),
    Column("day", Date, nullable=False, index=True),
)
"""The batches of the last days, so that none is added twice."""

BATCH_DAYS = 2
"""Days for which a batch is known."""

_COUNTS = [USAGE.c[name] for name in UsageCounts.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a key used of one model on one day."""

    day: datetime.date
    """In UTC."""
    key_id: str
    key_name: str
    model: str
    """Empty for requests that were refused before their model was known."""
    counts: UsageCounts


def usage_location(key_file: Path, database: DatabaseConfig | None) -> SqlLocation:
    """Where the usage of the keys in `key_file` is kept: in the database, or else in `usage.db` beside the file."""
    return database.location if database is not None else SqlLocation(file=key_file.with_name("usage.db"))


class UsageLedger:
    """Adds up usage. Rows are never deleted.

    The methods block: call them from the event loop with `run`. They raise what a transaction of SqlDatabase raises.
    """

    def __init__(self, location: SqlLocation) -> None:
        self._database = SqlDatabase(location, METADATA, what="Usage counts of API keys")
        self.run = self._database.run
        self.check = self._database.check
        self.close = self._database.close

    def add(self, batch_id: str, rows: Sequence[UsageRow]) -> None:
        """Adds the rows' counts, all or none of them; does nothing if the batch was added before."""
        today = datetime.datetime.now(datetime.UTC).date()
        # One lock: looking for a row and inserting it are one step.
        with self._database.writing(lock="usage") as connection:
            if connection.execute(select(BATCHES.c.id).where(BATCHES.c.id == batch_id)).first() is not None:
                return
            connection.execute(delete(BATCHES).where(BATCHES.c.day < today - datetime.timedelta(BATCH_DAYS)))
            connection.execute(insert(BATCHES).values(id=batch_id, day=today))
            for row in rows:
                _add_row(connection, row)

    def rows(
        self, *, since: datetime.date | None = None, key: str | None = None, model: str | None = None
    ) -> list[UsageRow]:
        """The rows from the day `since` on, of one key (id or name) and one model; None is all. By day, key, model."""
        query = select(USAGE.c.day, USAGE.c.key_id, USAGE.c.key_name, USAGE.c.model, *_COUNTS)
        if since is not None:
            query = query.where(USAGE.c.day >= since)
        if key is not None:
            query = query.where(or_(USAGE.c.key_id == key, USAGE.c.key_name == key))
        if model is not None:
            query = query.where(USAGE.c.model == model)
        with self._database.reading() as connection:
            found = connection.execute(
                query.order_by(USAGE.c.day, USAGE.c.key_name, USAGE.c.key_id, USAGE.c.model)
            ).all()
        return [
            UsageRow(day, key_id, name, of_model, UsageCounts(*counts))
            for day, key_id, name, of_model, *counts in found
        ]

    def month_totals(self, day: datetime.date) -> dict[str, UsageCounts]:
        """What each key, by id, used in the month of `day`, of all models."""
        query = (
            select(USAGE.c.key_id, *(func.sum(column) for column in _COUNTS))
            .where(USAGE.c.day >= month_begin(day), USAGE.c.day < next_month(day))
            .group_by(USAGE.c.key_id)
        )
        with self._database.reading() as connection:
            found = connection.execute(query).all()
        # PostgreSQL sums to a Decimal.
        return {key_id: UsageCounts(*map(int, counts)) for key_id, *counts in found}


def _add_row(connection: Connection, row: UsageRow) -> None:
    place = {"day": row.day, "key_id": row.key_id, "model": text_key(row.model)}
    name = text_key(row.key_name)
    more: dict[str, Any] = {column.name: column + getattr(row.counts, column.name) for column in _COUNTS}
    is_row = [USAGE.c[column] == value for column, value in place.items()]
    changed = connection.execute(update(USAGE).where(*is_row).values(key_name=name, **more))
    if not changed.rowcount:
        connection.execute(insert(USAGE).values(**place, key_name=name, **asdict(row.counts)))


def month_begin(day: datetime.date) -> datetime.date:
    """The first day of the month of `day`."""
    return day.replace(day=1)


def next_month(day: datetime.date) -> datetime.date:
    """The first day of the month after that of `day`."""
    return (month_begin(day) + datetime.timedelta(days=31)).replace(day=1)
