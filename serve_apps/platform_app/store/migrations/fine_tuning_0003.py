"""Tuned models that are earlier checkpoints of another one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fine_tuning_0003"
down_revision = "fine_tuning_0002"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("tuned_models", sa.Column("checkpoint_of", sa.Text))
