"""TracingMiddleware: the span of an HTTP request, from its arrival to the last byte that was sent."""

from __future__ import annotations

from typing import Any

from serve_apps.http_front.browser_guard import route_path
from serve_apps.tracing.request_id import current_request_id
from serve_apps.tracing.span import TraceSpan, inside_span
from serve_apps.tracing.tracing import Tracing

UNTRACED_PATHS = ("/healthz", "/readyz", "/metrics", "/version", "/openapi.json")
"""Routes that load balancers and Prometheus request every few seconds; they are not traced."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class TracingMiddleware:
    """ASGI middleware. The span continues the trace of the request's `traceparent`; its name is method and route."""

    def __init__(self, app: Any, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or route_path(scope) in UNTRACED_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # OpenTelemetry's name for every other method, which a client may make up.
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        span = self._tracing.begin(method, headers)
        span.set("http.request.method", method)
        span.set("tuneyard.request_id", current_request_id())
        is_complete = False

        async def send_traced(message: Any) -> None:
            nonlocal is_complete
            await send(message)
            if message["type"] == "http.response.start":
                _set_status(span, message["status"])
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                is_complete = True
                _set_route(span, scope, method)
                span.end()

        with span, inside_span(span):
            try:
                await self._app(scope, receive, send_traced)
            finally:
                # Also of a request that is cancelled: a client may leave between [DONE] and the end of the body.
                _set_route(span, scope, method)
            if not is_complete:
                span.fail("client_disconnected")


def _set_status(span: TraceSpan, status: int) -> None:
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))


def _set_route(span: TraceSpan, scope: Any, method: str) -> None:
    """The route's pattern, and not the request's path, which may hold any text."""
    pattern = getattr(scope.get("route"), "path", None)
    if pattern is not None:
        span.set("http.route", pattern)
        span.rename(f"{method} {pattern}")
