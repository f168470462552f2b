"""Batches, and the parts of their results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "batches_0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "batches",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("in_progress_at", sa.Double),
        sa.Column("finalizing_at", sa.Double),
        sa.Column("completed_at", sa.Double),
        sa.Column("failed_at", sa.Double),
        sa.Column("expired_at", sa.Double),
        sa.Column("cancelling_at", sa.Double),
        sa.Column("cancelled_at", sa.Double),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("is_expired", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("is_cleaned", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file_id", sa.Text, nullable=False),
        sa.Column("output_expires_after_s", sa.Integer),
        sa.Column("metadata", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("errors", sa.Text),
        sa.Column("output_file_id", sa.Text),
        sa.Column("error_file_id", sa.Text),
        sa.Column("total", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("completed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("input_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("output_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="batches_key"),
    )
    op.create_index("batches_by_owner_id", "batches", ["owner", "id"])
    op.create_index("batches_by_is_cleaned_id", "batches", ["is_cleaned", "id"])
    op.create_table(
        "batch_parts",
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("lines", sa.Text, nullable=False),
        sa.Column("output_lines", sa.Integer, nullable=False),
        sa.Column("error_lines", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number", name="batch_parts_key"),
    )
