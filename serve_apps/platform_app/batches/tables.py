"""The tables of batches, and of the parts in which their results are stored until a batch ends."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text, false

from serve_apps.platform_app.store.metadata import METADATA, id_column, owner_column, time_column

TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
"""When a batch came into each status."""

COUNTS = ("total", "completed", "failed", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
"""Requests, and the tokens of those that were answered."""

BATCHES = Table(
    "batches",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    time_column("expires_at"),
    *(time_column(name, nullable=True) for name in TIMES),
    Column("status", Text, nullable=False),
    Column("is_expired", Boolean, nullable=False, server_default=false()),
    Column("is_cleaned", Boolean, nullable=False, server_default=false(), doc="Whether its parts are deleted."),
    Column("endpoint", Text, nullable=False),
    Column("input_file_id", Text, nullable=False),
    Column("output_expires_after_s", Integer),
    Column("metadata", Text, doc="JSON."),
    Column("model", Text),
    Column("errors", Text, doc="JSON: a list of BatchError."),
    Column("output_file_id", Text, doc="Reserved when the last results are collected; a file from the batch's end on."),
    Column("error_file_id", Text, doc="As output_file_id."),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in COUNTS),
    Index(None, "owner", "id"),
    Index(None, "is_cleaned", "id"),
)

BATCH_PARTS = Table(
    "batch_parts",
    METADATA,
    Column("batch_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, doc="From 1, without a gap."),
    Column("name", Text, nullable=False, doc="Of its contents, which nobody else writes."),
    Column("lines", Text, nullable=False, doc="The lines of the input file whose results it has; see LineSet."),
    Column("output_lines", Integer, nullable=False),
    Column("error_lines", Integer, nullable=False),
)
"""The primary key decides what counts: of two processes that write a batch's next part, one fails."""
