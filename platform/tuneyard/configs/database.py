"""DatabaseConfig: the PostgreSQL database of a deployment."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tuneyard.core.path_fields import AbsolutePath, holds_secret
from tuneyard.core.strict_model import StrictConfig
from tuneyard.storage.sql.location import SqlLocation


class DatabaseConfig(StrictConfig):
    """A PostgreSQL database, for what all replicas of a deployment share. It needs the extra `postgresql` on every node
    that serves. The tables are in the schema `tuneyard`, which is created."""

    url: str = Field(pattern=r"^postgres(ql)?://")
    """`postgresql://user@host:port/name`, with libpq's parameters after a `?`, such as `sslmode=verify-full`. Without a
    password, because configs are copied into logs."""

    password_file: AbsolutePath | None = None
    """File with the password, on every node that serves; it is read again for every new connection. null: libpq's own
    sources, such as the environment variable PGPASSFILE."""

    @property
    def location(self) -> SqlLocation:
        """The database, for the library's storage."""
        return SqlLocation(url=self.url, password_file=self.password_file)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if holds_secret(url):
            raise ValueError(
                "the URL holds a password, which would be copied into logs. Use password_file instead; the sslpassword "
                "of a client's key belongs in libpq's service file (service=NAME)"
            )
        if not urlsplit(url).path.strip("/"):
            raise ValueError(f"{url} names no database. Write postgresql://user@host:port/name")
        return url
