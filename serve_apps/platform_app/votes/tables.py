"""The tables of votes and corrections."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, bytes_column, id_column, owner_column, time_column

VOTES = Table(
    "votes",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    bytes_column(),
    Column("content", Text, nullable=False, doc="The Vote as JSON."),
    Column("is_blind", Boolean, nullable=False),
    Column("contestants", Text, nullable=False, doc="JSON array of [model, version], in the order of the answers."),
    Column("outcome", Text, nullable=False),
    Column("preferred", Integer),
    Column("preference_rows", Integer, nullable=False, doc="Rows of the export of preferences."),
    Index(None, "owner", "id"),
)

CORRECTIONS = Table(
    "vote_corrections",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    bytes_column(),
    Column("content", Text, nullable=False, doc="The Correction as JSON."),
    Index(None, "owner", "id"),
)
