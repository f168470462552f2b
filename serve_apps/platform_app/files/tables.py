"""The tables of files and uploads."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text

from serve_apps.platform_app.store.metadata import METADATA, bytes_column, id_column, owner_column, time_column

RECEIVING, UPLOADED, PROCESSED, ERROR, DELETING = "receiving", "uploaded", "processed", "error", "deleting"
"""States of a file. Of a file that is RECEIVING or DELETING, content may exist or not; clients see neither."""

FILES = Table(
    "files",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    time_column("expires_at", nullable=True),
    time_column("changed_at"),
    Column("state", Text, nullable=False, doc="RECEIVING, UPLOADED, PROCESSED, ERROR or DELETING."),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False, doc="As the client named it; never a path here."),
    Column(
        "content_key", Text, nullable=False, doc="Begins the content's name: another one for each attempt to write it."
    ),
    bytes_column(),
    Column("sha256", Text, doc="Of the content, in hexadecimal digits; None while it is received."),
    Column("details", Text, doc="What is wrong with the content of a file in the state ERROR."),
    Index(None, "owner", "id"),
    Index(None, "expires_at"),
    Index(None, "state"),
)

FILE_USES = Table(
    "file_uses",
    METADATA,
    Column("file_id", Text, primary_key=True),
    Column("used_by", Text, primary_key=True, doc="Id of the object that is not done with the file."),
    Index(None, "used_by"),
)

PENDING, COMPLETING, COMPLETED, CANCELLED, EXPIRED = "pending", "completing", "completed", "cancelled", "expired"
"""States of an upload. An upload that is COMPLETING is PENDING for clients; it becomes COMPLETED or PENDING again."""

UPLOADS = Table(
    "uploads",
    METADATA,
    id_column(),
    owner_column(),
    time_column("created_at"),
    time_column("expires_at"),
    time_column("changed_at"),
    Column("state", Text, nullable=False, doc="PENDING, COMPLETING, COMPLETED, CANCELLED or EXPIRED."),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("mime_type", Text, nullable=False),
    bytes_column(),
    Column("file_expires_after_s", Integer, doc="Seconds after the file's creation; None: never."),
    Column("file_id", Text, doc="The file, from the beginning of its completion."),
    Index(None, "owner", "id"),
    Index(None, "state", "expires_at"),
)

UPLOAD_PARTS = Table(
    "upload_parts",
    METADATA,
    id_column(),
    Column("upload_id", Text, nullable=False),
    owner_column(),
    time_column("created_at"),
    Column("state", Text, nullable=False, doc="RECEIVING, UPLOADED or DELETING."),
    bytes_column(),
    Index(None, "upload_id"),
    Index(None, "owner"),
    Index(None, "state"),
)
