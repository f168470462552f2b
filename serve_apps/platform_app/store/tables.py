"""The tables that all parts use: who works (leases), and which requests were made before (idempotency keys)."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, time_column

LEASES = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    time_column("ends_at"),
)

IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("scope", Text, primary_key=True, doc="The route, such as fine_tuning.jobs.create."),
    Column("key", Text, primary_key=True, doc="See text_key."),
    Column("request_digest", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    time_column("created_at"),
    Index(None, "created_at"),
)
