"""Metrics of several replicas become one valid page."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.metrics.exposition import as_text
from tests.serve_apps.api_client import CHAT, client_of
from tests.serve_apps.conftest import ModelFactory


async def test_metrics_of_two_replicas_are_one_page(make_model: ModelFactory) -> None:
    async def metrics_of(replica: str, requests: int) -> list[Metric]:
        model = make_model("<|channel|>final<|message|>hi<|return|>")
        model.engine = engine = MeasuredEngine(model.engine, "tiny", "tiny/1", replica=replica)
        async with client_of(model) as client:
            for _ in range(requests):
                assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        return await engine.metrics()

    page = as_text([*await metrics_of("a", 1), *await metrics_of("b", 2)])
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert page.count("# TYPE tuneyard_requests_total counter") == 1
    ended = {
        sample.labels["replica"]: sample.value
        for sample in families["tuneyard_requests"].samples
        if sample.labels.get("outcome") == "stop" and sample.name.endswith("_total")
    }
    assert ended == {"a": 1, "b": 2}
