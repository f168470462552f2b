"""Metrics in Prometheus's text format, those of several replicas on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fastapi.responses import Response
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric


@dataclasses.dataclass(frozen=True, slots=True)
class _FixedCollector:
    """Gives metric families to prometheus_client's text writer."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def metrics_page(metrics: Iterable[Metric]) -> Response:
    """The answer to GET /metrics."""
    return Response(as_text(metrics), media_type="text/plain; version=0.0.4; charset=utf-8")


def as_text(metrics: Iterable[Metric]) -> str:
    """The metrics as text; families of the same name are merged, as the format requires."""
    merged: dict[str, Metric] = {}
    for family in metrics:
        target = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        target.samples += family.samples
    return generate_latest(_FixedCollector(list(merged.values()))).decode()
