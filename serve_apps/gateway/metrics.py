"""GatewayMetrics: answers by model and status, time to the first event, running requests."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from starlette.requests import ClientDisconnect

from tuneyard.core.errors import RequestError

_BEGIN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class GatewayMetrics:
    """The metrics of one replica of the gateway, in a Prometheus registry of its own."""

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "tuneyard_gateway_answers",
            "Answers by HTTP status; `cut`: a stream that ended with an error event, or a client that disconnected.",
            ["model", "status", "replica"],
            registry=self._registry,
        )
        self._begin = Histogram(
            "tuneyard_gateway_begin_seconds",
            "From request to the answer, or to a stream's first event.",
            ["model", "replica"],
            buckets=_BEGIN_BUCKETS_S,
            registry=self._registry,
        )
        self._running = Gauge(
            "tuneyard_gateway_running_requests", "Requests being answered.", ["replica"], registry=self._registry
        ).labels(replica=replica)

    async def collect(self) -> list[Metric]:
        """The current values, as prometheus_client's metric families."""
        return list(self._registry.collect())

    def measure_request(self) -> RequestMeasurement:
        """The measurement of one request; enter it as a context manager when the request arrives."""
        return RequestMeasurement(self)

    def count_start(self) -> None:
        self._running.inc()

    def count_begin(self, model: str, seconds: float) -> None:
        self._begin.labels(model, self._replica).observe(seconds)

    def count_end(self, model: str, status: str) -> None:
        self._running.dec()
        self._answers.labels(model, status, self._replica).inc()


class RequestMeasurement:
    """Measures one request, from entering the context to `close`.

    An exception inside the context closes it with the exception's status. Otherwise call `close` when the answer has
    ended; for a stream that is after the context.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._started_at = time.monotonic()
        self._is_open = False
        self.model = ""
        """The model's id. Set it once the model is found; a name that only a client made up labels no metric."""

    def __enter__(self) -> Self:
        self._metrics.count_start()
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.close(_status_of(error))

    def record_begin(self) -> None:
        """The answer, or the first event of its stream, is there."""
        self._metrics.count_begin(self.model, time.monotonic() - self._started_at)

    def close(self, status: str) -> None:
        """The answer has ended; `status` is its HTTP status or "cut". Further calls do nothing."""
        if self._is_open:
            self._is_open = False
            self._metrics.count_end(self.model, status)


def _status_of(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return str(error.status_code)
    return "500" if isinstance(error, Exception) and not isinstance(error, ClientDisconnect) else "cut"
