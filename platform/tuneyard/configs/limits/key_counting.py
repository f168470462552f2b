"""KeyCountingConfig: how often the usage of API keys is written, and where their limits are counted."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tuneyard.core.path_fields import AbsolutePath, holds_secret
from tuneyard.core.strict_model import StrictConfig


class KeyCountingConfig(StrictConfig):
    """What is counted for each API key, if the API requires keys."""

    usage_interval_s: float = Field(default=5.0, ge=0.1)
    """Seconds between two writes of the usage of API keys. A replica that is killed loses what it counted since its
    last write. Budgets per month see the requests of other replicas after this time, too."""

    rate_limits_store: str | None = Field(default=None, pattern=r"^rediss?://")
    """Redis server where all replicas count a key's requests and tokens per minute together:
    `redis://user@host:port/database`, or `rediss://` for TLS, without a password. It needs the extra `redis` on every
    node that serves. If the server does not answer, each replica holds a key to its limits by itself until it does.
    null: each replica always does."""

    rate_limits_password_file: AbsolutePath | None = None
    """File with the password of `rate_limits_store`, on every node that serves. null: no password."""

    @field_validator("rate_limits_store")
    @classmethod
    def _check_store(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if holds_secret(url):
            raise ValueError(
                "the URL holds a password, which would be copied into logs. Use rate_limits_password_file instead"
            )
        if not urlsplit(url).hostname:
            raise ValueError(f"{url} names no host. Write redis://host:6379/0")
        return url

    @model_validator(mode="after")
    def _check_password_file(self) -> Self:
        if self.rate_limits_password_file is not None and self.rate_limits_store is None:
            raise ValueError(
                f"rate_limits_password_file is {self.rate_limits_password_file}, and rate_limits_store is null. Set "
                "rate_limits_store, or remove the file"
            )
        return self
