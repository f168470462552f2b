"""The tables of stored responses, in SQLite or PostgreSQL.

Each item is stored once; the responses of a conversation use the same items.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    inspect,
    text,
    update,
)

METADATA = MetaData()

RESPONSES = Table(
    "responses",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("created_at", Double, nullable=False, doc="Unix time in seconds, as all times here."),
    Column("is_final", Boolean, nullable=False),
    Column("is_cancelled", Boolean, nullable=False, server_default=false()),
    Column("bytes", BigInteger, nullable=False, doc="Of the body."),
    Column("body", Text, nullable=False),
    Column("ends_by", Double, doc="When the lease of the process that answers the response ends."),
    Index("responses_by_age", "created_at"),
    Index("responses_of_owner", "owner", "created_at", "bytes"),
)

ITEMS = Table(
    "items",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False, doc="See text_key."),
    Column("bytes", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("items_of_owner", "owner", "id", "bytes"),
    sqlite_autoincrement=True,
)

USES = Table(
    "uses",
    METADATA,
    Column("response", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("item", BigInteger, nullable=False),
    Column("is_output", Boolean, nullable=False),
    Index("uses_of_item", "item"),
    sqlite_with_rowid=False,
)


def migrate(connection: Connection, lease_end: float) -> None:
    """Changes tables of earlier versions: responses that are being answered get a lease that ends at `lease_end`."""
    if connection.dialect.name == "sqlite":
        columns = {column["name"] for column in inspect(connection).get_columns(RESPONSES.name)}
        if "ends_by" not in columns:
            connection.execute(text("ALTER TABLE responses ADD COLUMN ends_by REAL"))
    unleased = update(RESPONSES).where(RESPONSES.c.ends_by.is_(None), RESPONSES.c.is_final.is_(False))
    connection.execute(unleased.values(ends_by=lease_end))
