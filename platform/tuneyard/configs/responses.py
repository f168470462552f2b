"""ResponsesConfig: what /v1/responses stores, and which built-in tools it leaves out of requests."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tuneyard.core.path_fields import AbsolutePath
from tuneyard.core.strict_model import StrictConfig


class ResponsesConfig(StrictConfig):
    """Storage and tools of /v1/responses."""

    store: bool = False
    """Whether responses are stored, with their input, unless a request says `store: false`. Only with it do
    `previous_response_id`, item references and the routes of a stored response work. false: nothing is ever stored."""

    path: AbsolutePath = Field(default=Path("$TUNEYARD_HOME/responses.db"), validate_default=True)
    """The SQLite file of stored responses, if the deployment has no `database`. All replicas and the gateway share it,
    so it is for a cluster of one node."""

    max_age_days: float = Field(default=30.0, gt=0)
    """Days after which a stored response is not found any more. It is deleted when the next one is stored, or when the
    deployment starts."""

    max_mib_per_key: float = Field(default=256.0, gt=0)
    """Mebibytes that the responses of one API key may take. When more is stored, the key's oldest ones are deleted."""

    ignored_tools: tuple[str, ...] = ()
    """Types of built-in tools, such as `web_search`, that are left out of a request as if it did not declare them. A
    request with any other built-in tool is refused, because nothing here could run it."""
