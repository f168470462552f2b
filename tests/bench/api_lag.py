"""Latency that the API adds to an engine, and requests/s: on a model's route, through the gateway, and without Ray.

A scripted engine generates a token every 20 ms in each of 64 streams. The lag of a token is how much later than that
the client receives it. `waiting` is a model whose engine runs 4 requests at a time and gets 36: the time to the first
byte of each, which a client needs to see that it is served, and to the first token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.lifecycle import Deployment
from tests.bench.bases import TINY, base
from tests.harmony_text import encode_spelled_out
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config

STREAMS, TOKENS, INTERVAL_S = 64, 200, 0.02
SCRIPT = "<|channel|>final<|message|>" + "on and " * 400
REQUESTS, CLIENTS = 4096, 64
BATCH, WAITING = 4, 32


def run() -> dict[str, Any]:
    """Measures lag, time to the first token and requests/s; the result names the environment's RAY_SERVE_ variables."""
    tiny = base(TINY)  # its tokenizer is needed, its weights are not
    script = [encode_spelled_out(tiny, SCRIPT)]
    model = {
        "model_id": "tiny",
        "checkpoint": str(tiny),
        "route_prefix": "/direct",
        "engine": {"engine": "scripted", "script": script, "token_interval_s": INTERVAL_S},
        "replicas": {"num_cpus": 0.4, "max_ongoing_requests": 256},
    }
    full = {
        "model_id": "full",
        "checkpoint": str(tiny),
        "route_prefix": "/full",
        "engine": {"max_concurrent_requests": BATCH},
        "replicas": {"num_cpus": 0.4, "max_ongoing_requests": BATCH},
    }
    config = {"http": {"port": 18431}, "gateway": {"num_cpus": 0.4}, "models": [model, full]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        with Deployment(load_config(ServeConfig, path), address="local"):
            root = "http://127.0.0.1:18431"
            result = {
                name: asyncio.run(_measure(url)) for name, url in (("one_hop", f"{root}/direct"), ("gateway", root))
            }
            result["waiting"] = asyncio.run(_measure_waiting(f"{root}/full"))
            result["waiting_at_gateway"] = asyncio.run(_measure_waiting(root))
    with _plain(tiny) as url:
        result["plain_uvicorn"] = asyncio.run(_measure(url))
    alone = asyncio.run(_engine_alone(script))
    for route in ("one_hop", "gateway"):
        figures, plain = result[route], result["plain_uvicorn"]
        figures["requests_against_plain_uvicorn"] = figures["requests_per_s"] / plain["requests_per_s"]
        figures["added_p50_ms"], figures["added_p95_ms"] = (
            figures[f"token_lag_{share}_ms"] - alone[f"token_lag_{share}_ms"] for share in ("p50", "p95")
        )
    settings = {name: value for name, value in os.environ.items() if name.startswith("RAY_SERVE_")}
    return {
        "streams": STREAMS,
        "token_interval_s": INTERVAL_S,
        "serve_settings": settings,
        "engine_alone": alone,
        **result,
    }


@contextlib.contextmanager
def _plain(checkpoint: Path) -> Iterator[str]:
    """The same engine and API in a separate process, without Ray. Yields its URL."""
    command = [sys.executable, "-m", "tests.bench.plain_server", str(checkpoint), SCRIPT, str(INTERVAL_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


async def _measure(url: str) -> dict[str, float]:
    # The client shares the CPU with the server; with 64 streams, httpx used most of a core.
    connector = aiohttp.TCPConnector(limit=STREAMS + CLIENTS)
    url = f"{url}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as client:
        await asyncio.gather(*(_stream(client, url) for _ in range(4)))  # warms it up
        streams = await asyncio.gather(*(_stream(client, url) for _ in range(STREAMS)))
        started = time.monotonic()
        await asyncio.gather(*(_send_requests(client, url, REQUESTS // CLIENTS) for _ in range(CLIENTS)))
        rate = REQUESTS / (time.monotonic() - started)
    return {
        **_lags([arrivals for _, arrivals in streams]),
        "first_token_p50_ms": 1000 * statistics.median(first for first, _ in streams),
        "requests_per_s": rate,
    }


async def _measure_waiting(url: str) -> dict[str, float]:
    connector = aiohttp.TCPConnector(limit=BATCH + WAITING)
    url = f"{url}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as client:
        await _begin(client, url)
        times = sorted(await asyncio.gather(*(_begin(client, url) for _ in range(BATCH + WAITING))))
    first_bytes, first_tokens = zip(*times, strict=True)
    return {
        "first_byte_p50_ms": 1000 * statistics.median(first_bytes),
        "first_byte_max_ms": 1000 * max(first_bytes),
        "first_token_p50_ms": 1000 * statistics.median(first_tokens),
        "first_token_max_ms": 1000 * max(first_tokens),
    }


async def _begin(client: aiohttp.ClientSession, url: str) -> tuple[float, float]:
    """Streams an answer to its end. The time to the first byte, and to the first token, in seconds."""
    body = {"model": "full", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": TOKENS}
    started = time.monotonic()
    arrivals: list[float] = []
    async with client.post(url, json=body) as response:
        await response.content.readany()
        first_byte = time.monotonic() - started
        async for line in response.content:
            if line.startswith(b"data: ") and not arrivals:
                arrivals.append(time.monotonic() - started)
    return first_byte, arrivals[0]


async def _engine_alone(script: list[list[int]]) -> dict[str, float]:
    """The lag of the engine's own timers: the same number of streams in one event loop, without the API."""
    engine = ScriptedEngine(script, token_interval_s=INTERVAL_S)

    async def stream(number: int) -> list[float]:
        request = GenerationRequest(str(number), (1,), SamplingParams(TOKENS), ())
        return [time.monotonic() async for chunk in engine.generate(request) if chunk.token_ids]

    return _lags(await asyncio.gather(*(stream(number) for number in range(STREAMS))))


def _lags(streams: list[list[float]]) -> dict[str, float]:
    """Median and 95th percentile of the lag. In each stream, the token that came earliest has the lag zero."""
    lags = []
    for arrivals in streams:
        starts = [arrival - index * INTERVAL_S for index, arrival in enumerate(arrivals)]
        lags += [start - min(starts) for start in starts]
    lags.sort()
    return {
        "token_lag_p50_ms": 1000 * lags[len(lags) // 2],
        "token_lag_p95_ms": 1000 * lags[int(len(lags) * 0.95)],
    }


async def _stream(client: aiohttp.ClientSession, url: str) -> tuple[float, list[float]]:
    """The time to the first token, and the arrival time of each token, in seconds."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": TOKENS}
    started = time.monotonic()
    arrivals: list[float] = []
    async with client.post(url, json=body) as response:
        async for line in response.content:
            if b'"content":"' in line and b'"content":""' not in line:
                arrivals.append(time.monotonic())
    return arrivals[0] - started, arrivals


async def _send_requests(client: aiohttp.ClientSession, url: str, count: int) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for _ in range(count):
        async with client.post(url, json=body) as response:
            await response.read()
