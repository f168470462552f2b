"""The tables of evals, their runs, and the runs' output items."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, id_column, owner_column, time_column

QUEUED, IN_PROGRESS, COMPLETED, CANCELED, FAILED = "queued", "in_progress", "completed", "canceled", "failed"
"""OpenAI's states of a run. The first two are those of runs that have work left."""
ACTIVE = (QUEUED, IN_PROGRESS)

PASS, FAIL, ERROR = "pass", "fail", "error"
"""States of an output item."""

EVALS = Table(
    "evals",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    time_column("updated_at"),
    Column("name", Text, nullable=False),
    Column("metadata", Text, nullable=False, doc="JSON, as all content here."),
    Column("data_source_config", Text, nullable=False, doc="As the API answers it, with the schema of a row."),
    Column("criteria", Text, nullable=False, doc="The graders, each with its id."),
    Index(None, "owner", "id"),
    Index(None, "owner", "updated_at", "id"),
)

EVAL_RUNS = Table(
    "eval_runs",
    METADATA,
    id_column(),
    owner_column(),
    Column("eval_id", Text, nullable=False),
    time_column("created_at"),
    Column("state", Text, nullable=False, doc="One of OpenAI's states."),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False, doc='"" if the run asks no model.'),
    Column("metadata", Text, nullable=False),
    Column("data_source", Text, nullable=False),
    Column("error", Text, doc="Code and message of a run in the state FAILED."),
    Column("total", Integer, doc="Rows of the data source; None until they are checked."),
    Column("passed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("errored", Integer, nullable=False),
    Column("criteria_counts", Text, nullable=False, doc="By the id of a criterion: rows that pass, and that fail."),
    Column("usage", Text, nullable=False, doc="By model: invocations and tokens."),
    Index(None, "owner", "eval_id", "id"),
    Index(None, "state"),
)

EVAL_OUTPUT_ITEMS = Table(
    "eval_output_items",
    METADATA,
    id_column(),
    owner_column(),
    Column("run_id", Text, nullable=False),
    Column("position", Integer, nullable=False, doc="Number of the row, from 0."),
    time_column("created_at"),
    Column("state", Text, nullable=False, doc="PASS, FAIL or ERROR."),
    Column("row", Text, nullable=False, doc="The row's item."),
    Column("results", Text, nullable=False),
    Column("sample", Text, nullable=False),
    Index(None, "run_id", "position", unique=True),
)
