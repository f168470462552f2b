"""The dashboard shows metrics that the replicas and the gateway really have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.metrics.exposition import as_text
from tests.serve_apps.api_client import completion, post


async def test_the_dashboard_shows_only_metrics_that_exist(tiny_client: httpx.AsyncClient) -> None:
    await post(tiny_client, "/v1/completions", completion())
    gateway = GatewayMetrics("r1")
    with gateway.measure_request() as measurement:
        measurement.record_begin()
        measurement.close("200")
    pages = (await tiny_client.get("/metrics")).text, as_text(await gateway.collect())
    collected = {name for page in pages for name in re.findall(r"^(tuneyard_\w+)\{", page, re.MULTILINE)}
    dashboard = Path("platform/dashboards/serving.json").read_text()
    shown = set(re.findall(r"tuneyard_\w+", dashboard))
    assert len(shown) >= 7
    assert shown <= collected
    names = {target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]}
    assert len(names) >= 9
