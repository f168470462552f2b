"""METADATA: every table of the fine-tuning API; and how their columns are named and typed.

A part defines its tables with METADATA in a file of its own, and creates them in a migration of its own
(store/migrations). A table's name is unique in the database, where other stores have tables too.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, MetaData, Text

METADATA = MetaData(
    naming_convention={
        "ix": "%(table_name)s_by_%(column_0_N_name)s",
        "uq": "%(table_name)s_unique_%(column_0_N_name)s",
        "fk": "%(table_name)s_%(column_0_N_name)s_in_%(referred_table_name)s",
        "pk": "%(table_name)s_key",
    }
)
"""Names of constraints are given, so that a migration can change them on every database."""


def id_column() -> Column[str]:
    """The primary key of a table of objects: an id made by object_ids.new_id."""
    return Column("id", Text, primary_key=True)


def owner_column() -> Column[str]:
    """Whose object it is: owner_digest of the API key. Every query of a client's request has it as a condition."""
    return Column("owner", Text, nullable=False)


def time_column(name: str, *, nullable: bool = False) -> Column[float]:
    """A point in time: Unix time in seconds."""
    return Column(name, Double, nullable=nullable)


def bytes_column(name: str = "bytes") -> Column[int]:
    """A size in bytes, which may be over 2 GiB."""
    return Column(name, BigInteger, nullable=False)
