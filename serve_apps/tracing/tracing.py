"""Tracing: begins the trace of a request, if the deployment sends traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serve_apps.tracing.span import NO_SPAN, TraceSpan
from tuneyard.configs.telemetry import TelemetryConfig
from tuneyard.core.errors import MissingDependencyError


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """Where traces go, in a form that reaches the replicas."""

    url: str
    """OTLP over HTTP, with its path."""
    service_name: str
    sample_ratio: float


class Tracing(Protocol):
    """Begins traces, and sends what is left when it is closed."""

    def begin(self, name: str, headers: Mapping[str, str], *, started_ns: int | None = None) -> TraceSpan:
        """A span of this process; it continues the trace of W3C's headers, if they are there.

        `headers` have names in small letters. `started_ns` is its Unix time in nanoseconds, if it began before now.
        """
        ...

    def close(self) -> None:
        """Sends the spans that are not sent yet. Blocks, for a few seconds at most."""
        ...


class _NoTracing:
    def begin(self, name: str, headers: Mapping[str, str], *, started_ns: int | None = None) -> TraceSpan:  # noqa: ARG002
        return NO_SPAN

    def close(self) -> None:
        pass


NO_TRACING: Tracing = _NoTracing()


def tracing_options(config: TelemetryConfig, environment: Mapping[str, str]) -> TracingOptions | None:
    """The options of a deployment; None if it sends no traces. `environment` is that of the deploying process."""
    url = config.traces_url(environment)
    return TracingOptions(url, config.service_name, config.sample_ratio) if url is not None else None


def open_tracing(options: TracingOptions | None, instance: str) -> Tracing:
    """The tracing of one process, named `instance` in its traces.

    Raises MissingDependencyError if OpenTelemetry's packages are needed and not installed.
    """
    if options is None:
        return NO_TRACING
    try:
        from serve_apps.tracing.opentelemetry_tracing import OpenTelemetryTracing, otlp_exporter
    except ModuleNotFoundError as e:
        if e.name is None or e.name.partition(".")[0] != "opentelemetry":
            raise
        raise MissingDependencyError(
            f"Traces go to {options.url}, which needs OpenTelemetry's packages, and they are not installed. Run: pip "
            "install 'tuneyard[otel]'."
        ) from e
    return OpenTelemetryTracing(
        otlp_exporter(options.url), options.service_name, instance=instance, sample_ratio=options.sample_ratio
    )
