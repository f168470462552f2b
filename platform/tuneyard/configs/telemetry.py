"""TelemetryConfig: where traces of requests are sent."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tuneyard.core.errors import ConfigError
from tuneyard.core.strict_model import StrictConfig

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HEADERS_VARIABLE = "OTEL_EXPORTER_OTLP_HEADERS"


class TelemetryConfig(StrictConfig):
    """Traces of requests through OpenTelemetry. They hold times, ids, names and counts, and no text."""

    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/]")
    """Base URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`, without a user or a query:
    credentials belong in the environment variable OTEL_EXPORTER_OTLP_HEADERS. It needs the extra `otel` on every node
    that serves. null: what the environment variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
    OTEL_EXPORTER_OTLP_ENDPOINT says where the deployment is started; without either, nothing is traced."""

    service_name: str = Field(default="tuneyard", min_length=1)
    """Name of this deployment in its traces."""

    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are traced. A request with a `traceparent` is traced if its sender says so."""

    def traces_url(self, environment: Mapping[str, str]) -> str | None:
        """The URL for traces; None if nothing is traced. Raises ConfigError for a variable that may hold a secret."""
        if self.otlp_endpoint is not None:
            return _traces_below(self.otlp_endpoint)
        for name in (TRACES_VARIABLE, ENDPOINT_VARIABLE):
            if url := environment.get(name):
                if problem := _secret_problem(url):
                    raise ConfigError(f"{name}: {problem}.")
                return url if name == TRACES_VARIABLE else _traces_below(url)
        return None

    @field_validator("otlp_endpoint", mode="before")
    @classmethod
    def _check_endpoint(cls, url: object) -> object:
        # Before the pattern is checked, whose message shows the value.
        if isinstance(url, str) and (problem := _secret_problem(url)):
            raise ValueError(problem)
        return url


def _traces_below(base: str) -> str:
    return f"{base.rstrip('/')}/v1/traces"


def _secret_problem(url: str) -> str:
    """What is wrong with the URL of a collector; "" if nothing is.

    A query is refused whole, because every collector has parameters of its own.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote the user
        return "not a URL"
    # Without a scheme, the user is no part of its own.
    has_user = parts.username is not None or (parts.hostname is None and "@" in url)
    if not has_user and not parts.query and not parts.fragment:
        return ""
    name = f"{parts.scheme}://{parts.hostname}" if parts.hostname is not None else "the collector"
    return (
        f"the URL of {name} holds a user or a query, which would be copied into logs. Remove it, and give credentials "
        f"in {HEADERS_VARIABLE} on every node that serves"
    )
