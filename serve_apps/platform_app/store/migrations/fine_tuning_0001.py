"""Fine-tuning jobs, their metadata, events and checkpoints; and tuned models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fine_tuning_0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "fine_tuning_jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("execution", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("interruptions", sa.Integer, nullable=False),
        sa.Column("is_validated", sa.Boolean, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("training_file", sa.Text, nullable=False),
        sa.Column("validation_file", sa.Text),
        sa.Column("requested_hyperparameters", sa.Text, nullable=False),
        sa.Column("hyperparameters", sa.Text),
        sa.Column("suffix", sa.Text),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("integrations", sa.Text),
        sa.Column("config", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("fine_tuned_model", sa.Text),
        sa.Column("result_file", sa.Text),
        sa.Column("last_step", sa.Integer, nullable=False),
        sa.Column("trained_tokens", sa.BigInteger),
        sa.Column("estimated_finish", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("retry_at", sa.Double),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="fine_tuning_jobs_key"),
    )
    op.create_index("fine_tuning_jobs_by_owner_id", "fine_tuning_jobs", ["owner", "id"])
    op.create_index("fine_tuning_jobs_by_execution", "fine_tuning_jobs", ["execution"])
    op.create_table(
        "fine_tuning_job_metadata",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "key", name="fine_tuning_job_metadata_key"),
    )
    op.create_table(
        "fine_tuning_job_events",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="fine_tuning_job_events_key"),
    )
    op.create_index("fine_tuning_job_events_by_job_id_id", "fine_tuning_job_events", ["job_id", "id"])
    op.create_table(
        "fine_tuning_job_checkpoints",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("step_number", sa.Integer, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="fine_tuning_job_checkpoints_key"),
    )
    op.create_index("fine_tuning_job_checkpoints_by_job_id_id", "fine_tuning_job_checkpoints", ["job_id", "id"])
    op.create_table(
        "tuned_models",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("max_model_len", sa.Integer, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="tuned_models_key"),
    )
    op.create_index("tuned_models_by_owner_id", "tuned_models", ["owner", "id"])
    op.create_index("tuned_models_by_name", "tuned_models", ["name"], unique=True)
    op.create_index("tuned_models_by_state", "tuned_models", ["state"])
