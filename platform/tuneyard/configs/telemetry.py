"""TelemetryConfig: where traces of requests are sent."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from tuneyard.core.strict_model import StrictConfig

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


class TelemetryConfig(StrictConfig):
    """Traces of requests through OpenTelemetry. They hold times, ids, names and counts, and no text."""

    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/]")
    """Base URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`. It needs the extra `otel` on
    every node that serves. null: what the environment variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
    OTEL_EXPORTER_OTLP_ENDPOINT says where the deployment is started; without either, nothing is traced."""

    service_name: str = Field(default="tuneyard", min_length=1)
    """Name of this deployment in its traces."""

    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are traced. A request with a `traceparent` is traced if its sender says so."""

    def traces_url(self, environment: Mapping[str, str]) -> str | None:
        """The URL for traces; None if nothing is traced."""
        if self.otlp_endpoint is None and (url := environment.get(TRACES_VARIABLE)):
            return url
        base = self.otlp_endpoint or environment.get(ENDPOINT_VARIABLE)
        return f"{base.rstrip('/')}/v1/traces" if base else None
