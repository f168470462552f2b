"""The tables of fine-tuning jobs: jobs, their metadata, events and checkpoints."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, id_column, owner_column, time_column

JOBS = Table(
    "fine_tuning_jobs",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    Column("status", Text, nullable=False, doc="What clients are told. See states."),
    Column("execution", Text, nullable=False, doc="What has to be done about it. See states."),
    Column("attempt", Integer, nullable=False, doc="Number of the last attempt, 0 before the first."),
    Column("interruptions", Integer, nullable=False, doc="Attempts that were interrupted since the last progress."),
    Column("is_validated", Boolean, nullable=False),
    Column("base", Text, nullable=False, doc="Name of the base in the deployment's config."),
    Column("requested_model", Text, nullable=False, doc="The base as the client named it."),
    Column("parent", Text, doc="Name of the tuned model that training starts from; None for the base itself."),
    Column("method", Text, nullable=False, doc="supervised or dpo."),
    Column("training_file", Text, nullable=False),
    Column("validation_file", Text),
    Column("requested_hyperparameters", Text, nullable=False, doc="JSON; a value may be `auto`."),
    Column("hyperparameters", Text, doc="JSON of the resolved values; None before the files were validated."),
    Column("suffix", Text),
    Column("seed", Integer, nullable=False),
    Column("integrations", Text, doc="JSON as the client sent it, with what its jobs' events have told of each."),
    Column("config", Text, doc="JSON of the run's config, for every attempt; None before the files were validated."),
    Column("error", Text, doc="JSON of OpenAI's error object, of a failed job."),
    Column("fine_tuned_model", Text),
    Column("result_file", Text, doc="Id of the file of step metrics; reserved before the file is made."),
    Column("last_step", Integer, nullable=False, doc="The last step with an event of its metrics."),
    Column("trained_tokens", BigInteger),
    time_column("estimated_finish", nullable=True),
    time_column("finished_at", nullable=True),
    time_column("retry_at", nullable=True),
    Column("retries", Integer, nullable=False, doc="Failures in a row of what the reconciler does next."),
    Index(None, "owner", "id"),
    Index(None, "execution"),
)

JOB_METADATA = Table(
    "fine_tuning_job_metadata",
    METADATA,
    Column("job_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

JOB_EVENTS = Table(
    "fine_tuning_job_events",
    METADATA,
    id_column(),
    Column("job_id", Text, nullable=False),
    time_column("created_at"),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("type", Text, nullable=False, doc="message or metrics."),
    Column("data", Text, nullable=False, doc="JSON."),
    Index(None, "job_id", "id"),
)

JOB_CHECKPOINTS = Table(
    "fine_tuning_job_checkpoints",
    METADATA,
    id_column(),
    Column("job_id", Text, nullable=False),
    time_column("created_at"),
    Column("model", Text, nullable=False),
    Column("step_number", Integer, nullable=False),
    Column("metrics", Text, nullable=False, doc="JSON."),
    Index(None, "job_id", "id"),
)
