"""SqlLocation: where a SQL database is, a SQLite file or a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class SqlLocation:
    """A SQLite file (`file`) or a PostgreSQL database (`url`); exactly one is set."""

    file: Path | None = None
    url: str | None = None
    """`postgresql://user@host:port/name?sslmode=…`, as libpq reads it, without a password."""
    password_file: Path | None = None
    """File with the password of `url`. None: libpq's own sources, such as PGPASSFILE."""

    @property
    def public_name(self) -> str:
        """The name for answers to clients, without a host or a folder."""
        if self.file is not None:
            return f"the SQLite file {self.file.name}"
        return f"the PostgreSQL database {urlsplit(self.url or '').path.lstrip('/')!r}"

    @property
    def name(self) -> str:
        """The name for operators, without a user."""
        if self.file is not None:
            return f"the SQLite file {self.file}"
        parts = urlsplit(self.url or "")
        return f"the PostgreSQL database {parts.path.lstrip('/')!r} at {parts.netloc.rpartition('@')[2] or 'localhost'}"
