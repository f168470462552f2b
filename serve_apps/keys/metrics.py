"""KeyMetrics: whether usage is written and limits are shared, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric


class KeyMetrics:
    """The metrics of one process about its API keys, in a Prometheus registry of its own. No metric names a key."""

    def __init__(self, replica: str = "") -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self.usage_failures = self._counter("key_usage_failures", "Tries to write the usage of API keys that failed.")
        self.local_limits = self._counter(
            "key_local_limits", "Decisions about limits that a replica took alone, because Redis did not answer."
        )
        gauge = Gauge(
            "tuneyard_key_shared_limits_up",
            "1 while the limits of API keys are counted in Redis, 0 while Redis does not answer.",
            ["replica"],
            registry=self._registry,
        )
        self._is_up = gauge

    def set_shared_limits_up(self, is_up: bool) -> None:
        """Without a call, as without Redis, the metric has no value."""
        self._is_up.labels(replica=self._replica).set(is_up)

    def collect(self) -> list[Metric]:
        """The current values, as prometheus_client's metric families."""
        return list(self._registry.collect())

    def _counter(self, name: str, description: str) -> Counter:
        counter = Counter(f"tuneyard_{name}", description, ["replica"], registry=self._registry)
        return counter.labels(replica=self._replica)
