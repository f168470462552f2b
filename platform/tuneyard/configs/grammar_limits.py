"""GrammarLimits: what compiling the grammar of one request may take."""

from __future__ import annotations

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig


class GrammarLimits(StrictConfig):
    """Limits of compiling the schema of an answer or of tools. It is compiled in a process of its own, which is ended
    at a limit; the request is then refused with status 400."""

    cpu_s: float = Field(default=2.0, gt=0)
    """Seconds of CPU time. An ordinary schema takes a few milliseconds."""

    memory_mib: int = Field(default=512, ge=64)
    """MiB that compiling may take, beyond the process' own memory."""

    cache_entries: int = Field(default=64, ge=1)
    """Compiled schemas that a replica keeps, so that the next request with the same schema need not wait."""
