"""Evals, their runs, and the runs' output items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "evals_0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "evals",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("data_source_config", sa.Text, nullable=False),
        sa.Column("criteria", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="evals_key"),
    )
    op.create_index("evals_by_owner_id", "evals", ["owner", "id"])
    op.create_index("evals_by_owner_updated_at_id", "evals", ["owner", "updated_at", "id"])
    op.create_table(
        "eval_runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("eval_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("data_source", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("total", sa.Integer),
        sa.Column("passed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("errored", sa.Integer, nullable=False),
        sa.Column("criteria_counts", sa.Text, nullable=False),
        sa.Column("usage", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="eval_runs_key"),
    )
    op.create_index("eval_runs_by_owner_eval_id_id", "eval_runs", ["owner", "eval_id", "id"])
    op.create_index("eval_runs_by_state", "eval_runs", ["state"])
    op.create_table(
        "eval_output_items",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("row", sa.Text, nullable=False),
        sa.Column("results", sa.Text, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="eval_output_items_key"),
    )
    op.create_index("eval_output_items_by_run_id_position", "eval_output_items", ["run_id", "position"], unique=True)
