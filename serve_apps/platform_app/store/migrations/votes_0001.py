"""Votes and corrections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "votes_0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "votes",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("is_blind", sa.Boolean, nullable=False),
        sa.Column("contestants", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("preferred", sa.Integer),
        sa.Column("preference_rows", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="votes_key"),
    )
    op.create_index("votes_by_owner_id", "votes", ["owner", "id"])
    op.create_table(
        "vote_corrections",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="vote_corrections_key"),
    )
    op.create_index("vote_corrections_by_owner_id", "vote_corrections", ["owner", "id"])
