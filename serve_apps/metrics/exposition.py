"""Prometheus's text format, of the metrics of several replicas."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fastapi.responses import Response
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric


@dataclasses.dataclass(frozen=True, slots=True)
class _Families:
    """What prometheus_client writes as text."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def metrics_page(metrics: Iterable[Metric]) -> Response:
    """The answer to GET /metrics."""
    return Response(as_text(metrics), media_type="text/plain; version=0.0.4; charset=utf-8")


def as_text(metrics: Iterable[Metric]) -> str:
    """Families that occur more than once become one, as the format demands."""
    merged: dict[str, Metric] = {}
    for family in metrics:
        known = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        known.samples += family.samples
    return generate_latest(_Families(list(merged.values()))).decode()
