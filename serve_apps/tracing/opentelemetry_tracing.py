"""Tracing through OpenTelemetry; the only importer of its packages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve_apps.tracing.span import Attribute, Event, TraceSpan
from tuneyard import __version__

EXPORT_TIMEOUT_S = 5.0
"""Seconds for one request to the collector."""

_PROPAGATOR = TraceContextTextMapPropagator()


def otlp_exporter(url: str) -> SpanExporter:
    """Sends spans as OTLP over HTTP. Headers and certificates come from OTEL_EXPORTER_OTLP_*, as documented there."""
    return OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)


class OpenTelemetryTracing:
    """See Tracing. Spans are sent in batches by a thread; a collector that does not answer delays no request."""

    def __init__(
        self, exporter: SpanExporter, service_name: str, *, instance: str = "", sample_ratio: float = 1.0
    ) -> None:
        resource = Resource.create(
            {"service.name": service_name, "service.version": __version__, "service.instance.id": instance}
        )
        # Not made global: Ray and other libraries may have a provider of their own.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=256),
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tuneyard", __version__)

    def begin(self, name: str, headers: Mapping[str, str], *, started_ns: int | None = None) -> TraceSpan:
        """See Tracing."""
        context = _PROPAGATOR.extract(headers, Context())
        span = self._tracer.start_span(name, context, SpanKind.SERVER, start_time=started_ns)
        return _OpenTelemetrySpan(self._tracer, span)

    def close(self) -> None:
        """See Tracing."""
        self._provider.shutdown()


class _OpenTelemetrySpan:
    """See TraceSpan."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._tokens = [0, 0]
        self._has_failed = False
        self._is_open = True

    def start(self, name: str) -> TraceSpan:
        parent = set_span_in_context(self._span, Context())
        return _OpenTelemetrySpan(self._tracer, self._tracer.start_span(name, parent))

    def set(self, name: Attribute, value: str | int) -> None:
        if self._is_open and value != "":
            self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        if self._is_open:
            self._span.update_name(name)

    def add_event(self, name: Event) -> None:
        if self._is_open:
            self._span.add_event(name)

    def add_tokens(self, prompt: int, completion: int) -> None:
        self._tokens = [self._tokens[0] + prompt, self._tokens[1] + completion]

    def fail(self, error_type: str) -> None:
        if self._is_open and not self._has_failed:
            self._has_failed = True
            self._span.set_attribute("error.type", error_type)
            # Without a description: an error's message may quote the request.
            self._span.set_status(StatusCode.ERROR)

    def headers(self) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, set_span_in_context(self._span, Context()))
        return headers

    def end(self) -> None:
        if self._is_open:
            for name, count in zip(("input", "output"), self._tokens, strict=True):
                if count:
                    self._span.set_attribute(f"gen_ai.usage.{name}_tokens", count)
            self._is_open = False
            self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            is_cancelled = issubclass(kind, GeneratorExit | asyncio.CancelledError)
            self.fail("cancelled" if is_cancelled else kind.__name__)
        self.end()
