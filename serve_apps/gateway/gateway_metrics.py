"""What a gateway counts: answers by model and status, how soon they begin, how many are running."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from starlette.requests import ClientDisconnect

from tuneyard.core.errors import RequestError

_BEGIN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class GatewayMetrics:
    """Of one replica of the gateway; it has a registry of its own."""

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "tuneyard_gateway_answers",
            "Answers by HTTP status; `cut`: a stream that ended with an error event, or a client that left.",
            ["model", "status", "replica"],
            registry=self._registry,
        )
        self._begin = Histogram(
            "tuneyard_gateway_begin_seconds",
            "From request to the answer, or a stream's first event.",
            ["model", "replica"],
            buckets=_BEGIN_S,
            registry=self._registry,
        )
        self._running = Gauge(
            "tuneyard_gateway_running_requests", "Requests being answered.", ["replica"], registry=self._registry
        ).labels(replica=replica)

    async def collect(self) -> list[Metric]:
        """As prometheus_client's families."""
        return list(self._registry.collect())

    def request(self) -> GatewayRequest:
        """For a request that has come in."""
        return GatewayRequest(self)

    def _count(self, model: str, status: str) -> None:
        self._answers.labels(model, status, self._replica).inc()


class GatewayRequest:
    """Context manager. What is raised inside counts by its status; any other answer ends with `close`, a stream's after
    the context.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self._is_open = False
        self.model = ""
        """Its id, once it is known: what clients make up names no series."""

    def __enter__(self) -> Self:
        self._metrics._running.inc()
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.close(_status_of(error))

    def began(self) -> None:
        """The answer is there, or the first event of it."""
        self._metrics._begin.labels(self.model, self._metrics._replica).observe(time.monotonic() - self._started)

    def close(self, status: str) -> None:
        """The answer has ended; only the first call counts."""
        if self._is_open:
            self._is_open = False
            self._metrics._running.dec()
            self._metrics._count(self.model, status)


def _status_of(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return str(error.status_code)
    return "500" if isinstance(error, Exception) and not isinstance(error, ClientDisconnect) else "cut"
