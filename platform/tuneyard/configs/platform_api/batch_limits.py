"""BatchLimits: how many requests a batch may have, and how many of a key's batches wait or run."""

from __future__ import annotations

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig


class BatchLimits(StrictConfig):
    """Limits of /v1/batches."""

    max_requests: int = Field(default=50_000, ge=1)
    """Requests of one batch. 50,000 is OpenAI's limit."""

    max_active_per_key: int = Field(default=100, ge=1)
    """Batches of one API key that are not ended. Further ones are refused."""

    max_running: int = Field(default=16, ge=1)
    """Batches that are answered at the same time, in turn between the keys. The others wait."""

    max_concurrent_requests: int = Field(default=1024, ge=1)
    """Requests of batches that are sent to one model at the same time. Fewer are sent if its replicas have no idle
    capacity for more."""
