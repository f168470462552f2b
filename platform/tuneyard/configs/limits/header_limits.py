"""HeaderLimits: how long a connection may go without a complete request, and how large a request's headers may be."""

from __future__ import annotations

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig


class HeaderLimits(StrictConfig):
    """Limits of connections without a complete request. They hold in a Ray that this deployment starts; a running
    cluster takes them from the environment of its nodes, `TUNEYARD_HEADER_LIMITS`."""

    timeout_s: float = Field(default=10.0, gt=0)
    """Seconds in which the headers of a request must arrive, and after which a connection without any request is
    closed."""

    max_bytes: int = Field(default=65_536, ge=1024)
    """Bytes of a request's headers. HAProxy's own limit is 16,384."""

    max_connections: int = Field(default=1024, ge=1)
    """Connections that may wait without a complete request. Of more, the oldest are closed. HAProxy has a limit of all
    connections instead, 4,096 (RAY_SERVE_HAPROXY_MAXCONN)."""
