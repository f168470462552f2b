"""Fine-tuning jobs that start from a tuned model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fine_tuning_0002"
down_revision = "fine_tuning_0001"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("fine_tuning_jobs", sa.Column("parent", sa.Text))
