"""The dashboard adds up right when Prometheus scrapes several pods, each of which shows the metrics of all replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client.metrics_core import Metric

from docs.tooling.dashboard_queries import TimeRange, read_panels
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.gateway.metrics import GatewayMetrics
from serve_apps.metrics.exposition import metrics_page
from serve_apps.metrics.replica_metrics import SharedMetrics
from tests.dict_key_value_store import DictKeyValueStore
from tests.prometheus_server import PrometheusServer
from ui.server.listening import open_socket

PATH = Path("platform/dashboards/serving.json")
DASHBOARD = json.loads(PATH.read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SUM = re.compile(r"sum by \((?P<outer>[\w, ]+)\) \(max by \((?P<inner>[\w, ]+)\) \(")
MIN_DURATION_S, TIMEOUT_S = 5.0, 60.0


@pytest.mark.parametrize("query", QUERIES)
def test_a_sum_takes_one_value_of_each_replica(query: str) -> None:
    assert query.count("(") == query.count(")")
    for start in re.finditer(r"\bsum\b", query):
        match = SUM.match(query, start.start())
        assert match is not None, "a series exists once per scraped pod: take max by (…, replica) before the sum"
        assert set(match["inner"].split(", ")) == {*match["outer"].split(", "), "replica"}
    if "sum" not in query:
        assert query.startswith("max by ")


@contextlib.asynccontextmanager
async def serving_pods(pages: Sequence[SharedMetrics]) -> AsyncIterator[list[str]]:
    """A pod per page, which publishes its metrics and shows them at /metrics. Yields their addresses."""
    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for page in pages:
            await stack.enter_async_context(page.publishing())
            server = uvicorn.Server(uvicorn.Config(_metrics_app(page), log_level="warning"))
            socket = open_socket("127.0.0.1", 0)
            addresses.append("{}:{}".format(*socket.getsockname()))
            serving = asyncio.create_task(server.serve(sockets=[socket]))
            stack.push_async_callback(_stop, server, serving)
        yield addresses


def _metrics_app(page: SharedMetrics) -> FastAPI:
    app = FastAPI()

    @app.get("/metrics")
    async def metrics() -> Response:
        return metrics_page(await page.collect_all())

    return app


async def _stop(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await serving


async def generate(engine: MeasuredEngine, request_id: str, max_tokens: int) -> None:
    request = GenerationRequest(request_id, (1, 2, 3), SamplingParams(max_tokens), ())
    async with contextlib.aclosing(engine.generate(request)) as chunks:
        async for _ in chunks:
            pass


def tokens_generated(families: Sequence[Metric]) -> float:
    return sum(s.value for family in families for s in family.samples if s.name == "tuneyard_completion_tokens_total")


@contextlib.asynccontextmanager
async def endless_answers(engines: Sequence[MeasuredEngine]) -> AsyncIterator[None]:
    """An answer of each engine that lasts as long as the context is open."""
    answers = [asyncio.create_task(generate(engine, "endless", 2000)) for engine in engines]
    yield
    for answer in answers:
        answer.cancel()
    await asyncio.gather(*answers, return_exceptions=True)


async def test_prometheus_answers_every_query_and_counts_each_replica_once(tmp_path: Path) -> None:
    """Two replicas and a gateway, each in a pod of its own. A replica answers more short requests meanwhile."""
    engines = [MeasuredEngine(ScriptedEngine([[7]], 0.05), "tiny", "tiny/1", name) for name in ("r1", "r2")]
    gateway = GatewayMetrics("g1")
    store = DictKeyValueStore()
    pages = [
        SharedMetrics("tiny", "r1", engines[0].metrics, store=store),
        SharedMetrics("tiny", "r2", engines[1].metrics, store=store),
        SharedMetrics("gateway", "g1", gateway.collect, shows_all_applications=True, store=store),
    ]
    async with contextlib.AsyncExitStack() as stack:
        prometheus = PrometheusServer(tmp_path, await stack.enter_async_context(serving_pods(pages)))
        stack.callback(prometheus.stop)
        await asyncio.to_thread(prometheus.start)
        started = time.time()
        await stack.enter_async_context(endless_answers(engines))
        without_data = QUERIES
        while without_data or time.time() < started + MIN_DURATION_S:
            assert time.time() < started + TIMEOUT_S, f"no data for {without_data}"
            with gateway.measure_request() as measurement:
                measurement.model = "tiny"
                await generate(engines[0], "short", 4)
                measurement.record_begin()
                measurement.close("200")
            panels = await asyncio.to_thread(read_panels, PATH, prometheus.url, TimeRange(started, time.time(), 0.2))
            answers = {query: answer for panel in panels for query, answer in panel.answers.items()}
            without_data = [query for query, answer in answers.items() if not any(s.points for s in answer)]
    assert list(answers) == QUERIES
    last = {series.legend: series.points[-1][1] for panel in panels for series in panel.series if series.points}
    assert 2 <= last["all tiny tiny/1"] <= 3
    tokens = tokens_generated([family for engine in engines for family in await engine.metrics()])
    assert 0.5 * tokens <= 60 * last["out tiny tiny/1"] <= 1.2 * tokens, "rate() divides by its whole range of 60 s"
