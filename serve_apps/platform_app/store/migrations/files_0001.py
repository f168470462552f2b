"""Files, uploads, their parts, and what uses a file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "files_0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "files",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("content_key", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("details", sa.Text),
        sa.PrimaryKeyConstraint("id", name="files_key"),
    )
    op.create_index("files_by_owner_id", "files", ["owner", "id"])
    op.create_index("files_by_expires_at", "files", ["expires_at"])
    op.create_index("files_by_state", "files", ["state"])
    op.create_table(
        "file_uses",
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("used_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("file_id", "used_by", name="file_uses_key"),
    )
    op.create_index("file_uses_by_used_by", "file_uses", ["used_by"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("mime_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("file_expires_after_s", sa.Integer),
        sa.Column("file_id", sa.Text),
        sa.PrimaryKeyConstraint("id", name="uploads_key"),
    )
    op.create_index("uploads_by_owner_id", "uploads", ["owner", "id"])
    op.create_index("uploads_by_state_expires_at", "uploads", ["state", "expires_at"])
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="upload_parts_key"),
    )
    op.create_index("upload_parts_by_upload_id", "upload_parts", ["upload_id"])
    op.create_index("upload_parts_by_owner", "upload_parts", ["owner"])
    op.create_index("upload_parts_by_state", "upload_parts", ["state"])
