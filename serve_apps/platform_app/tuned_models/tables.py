"""The table of tuned models."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, id_column, owner_column, time_column

PREPARING, LIVE, DELETING = "preparing", "live", "deleting"
"""States of a model. Clients see only those that are LIVE: of the others, an application may run or not."""

TUNED_MODELS = Table(
    "tuned_models",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    Column("name", Text, nullable=False, doc="ft:BASE:ORGANIZATION:SUFFIX:ID; see model_record."),
    Column("state", Text, nullable=False, doc="PREPARING, LIVE or DELETING."),
    Column(
        "base", Text, nullable=False, doc="Name of the base in the deployment's config, which says how it is served."
    ),
    Column("version", Text, nullable=False, doc="`name/version` in the registry; the name is the model's own."),
    Column("checkpoint", Text, nullable=False, doc="Location of the checkpoint."),
    Column("folder", Text, nullable=False, doc="Location of the folder that all files of the model are in."),
    Column("checkpoint_of", Text, doc="Id of the job's model of which this is an earlier checkpoint, or None."),
    Column("max_model_len", Integer, nullable=False, doc="Tokens of its context; 0 until it is served."),
    Column("headers", Text, nullable=False, doc="JSON of the HTTP headers that lead to its run and dataset."),
    Index(None, "owner", "id"),
    Index(None, "name", unique=True),
    Index(None, "state"),
)
"""`id` is the name of the Serve application: that of the job that made the model, or one that begins with it."""
