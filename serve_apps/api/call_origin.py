"""CallOrigin: what a call over a Serve handle says about the request behind it: for logs, for traces, its urgency."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serve_apps.engine_wrappers.idle_capacity import in_background
from serve_apps.tracing.request_id import current_request_id, working_for
from serve_apps.tracing.span import TraceSpan, inside_span
from serve_apps.tracing.tracing import Tracing


@dataclass(frozen=True, slots=True)
class CallOrigin:
    """The request's id, W3C's trace headers of the caller's span, and when the call was sent."""

    request_id: str = ""
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    sent_ns: int = 0
    """Unix time in nanoseconds; 0 if unknown."""
    is_background: bool = False
    """Whether the engine answers it on idle capacity only; see engine_wrappers.idle_capacity."""

    @classmethod
    def of_current_request(cls, span: TraceSpan, *, is_background: bool = False) -> CallOrigin:
        """For a call that is made now, as part of `span`."""
        return cls(current_request_id(), span.headers(), time.time_ns(), is_background)

    def begin(self, tracing: Tracing, name: str) -> TraceSpan:
        """The span of answering the call, after one for the time that it was in Serve's queue."""
        if self.sent_ns:
            tracing.begin("queue", self.trace_headers, started_ns=self.sent_ns).end()
        span = tracing.begin(name, self.trace_headers)
        if self.request_id:
            span.set("tuneyard.request_id", self.request_id)
        return span

    @contextlib.contextmanager
    def working(self, span: TraceSpan) -> Iterator[None]:
        """Work for the request inside the context, and in tasks that start inside it, has its id and the span."""
        background = in_background() if self.is_background else contextlib.nullcontext()
        with working_for(self.request_id), inside_span(span), background:
            yield


UNKNOWN_ORIGIN = CallOrigin()
"""For calls without an HTTP request."""
