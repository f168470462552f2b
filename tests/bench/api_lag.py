"""What the API adds to an engine's tokens: lag per token and time to the first one at 64 streams, one hop and gateway;
and the requests/s of both, and of the same API under plain uvicorn.

A scripted engine gives a token every 20 ms; how much later than that a client sees it is the lag.
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

from serve_apps.deployment import Deployment
from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.bench.bases import TINY, base
from tests.harmony_text import encode_spelled_out
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config

STREAMS, TOKENS, INTERVAL_S = 64, 200, 0.02
SCRIPT = "<|channel|>final<|message|>" + "on and " * 400
REQUESTS, CLIENTS = 4096, 64


def run() -> dict[str, Any]:
    """With Serve's settings as the environment has them; they are named in the result."""
    tiny = base(TINY)  # its tokenizer is needed, its weights are not
    script = [encode_spelled_out(tiny, SCRIPT)]
    model = {
        "model_id": "tiny",
        "checkpoint": str(tiny),
        "route_prefix": "/direct",
        "engine": {"engine": "scripted", "script": script, "token_interval_s": INTERVAL_S},
        "replicas": {"num_cpus": 0.4, "max_ongoing_requests": 256},
    }
    config = {"http": {"port": 18431}, "gateway": {"num_cpus": 0.4}, "models": [model]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        with Deployment(load_config(ServeConfig, path), address="local"):
            root = "http://127.0.0.1:18431"
            result = {
                name: asyncio.run(_measure(url)) for name, url in (("one_hop", f"{root}/direct"), ("gateway", root))
            }
    with _plain(tiny) as url:
        result["plain_uvicorn"] = asyncio.run(_measure(url))
    alone = asyncio.run(_engine_alone(script))
    for way in ("one_hop", "gateway"):
        found, plain = result[way], result["plain_uvicorn"]
        found["requests_against_plain_uvicorn"] = found["requests_per_s"] / plain["requests_per_s"]
        found["added_p50_ms"], found["added_p95_ms"] = (
            found[f"token_lag_{share}_ms"] - alone[f"token_lag_{share}_ms"] for share in ("p50", "p95")
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
    """The same engine and API in a process of its own, without Ray."""
    command = [sys.executable, "-m", "tests.bench.plain_server", str(checkpoint), SCRIPT, str(INTERVAL_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


async def _measure(url: str) -> dict[str, float]:
    # The client shares the cores with what is measured; httpx took most of a core for so many streams.
    connector = aiohttp.TCPConnector(limit=STREAMS + CLIENTS)
    url = f"{url}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as client:
        await asyncio.gather(*(_stream(client, url) for _ in range(4)))  # warms it up
        streams = await asyncio.gather(*(_stream(client, url) for _ in range(STREAMS)))
        started = time.monotonic()
        await asyncio.gather(*(_client(client, url, REQUESTS // CLIENTS) for _ in range(CLIENTS)))
        rate = REQUESTS / (time.monotonic() - started)
    return {
        **_lags([arrivals for _, arrivals in streams]),
        "first_token_p50_ms": 1000 * statistics.median(first for first, _ in streams),
        "requests_per_s": rate,
    }


async def _engine_alone(script: list[list[int]]) -> dict[str, float]:
    """The lag that the engine's own timers have, with as many streams in one event loop and nothing around it."""
    engine = ScriptedEngine(script, token_interval_s=INTERVAL_S)

    async def stream(number: int) -> list[float]:
        request = GenerationRequest(str(number), (1,), SamplingParams(TOKENS), ())
        return [time.monotonic() async for _ in engine.generate(request)]

    return _lags(await asyncio.gather(*(stream(number) for number in range(STREAMS))))


def _lags(streams: list[list[float]]) -> dict[str, float]:
    """How much later than the engine's beat tokens came, each stream against its earliest one."""
    lags = []
    for arrivals in streams:
        beats = [arrival - place * INTERVAL_S for place, arrival in enumerate(arrivals)]
        lags += [beat - min(beats) for beat in beats]
    lags.sort()
    return {
        "token_lag_p50_ms": 1000 * lags[len(lags) // 2],
        "token_lag_p95_ms": 1000 * lags[int(len(lags) * 0.95)],
    }


async def _stream(client: aiohttp.ClientSession, url: str) -> tuple[float, list[float]]:
    """Time to the first token, and when each came."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": TOKENS}
    started = time.monotonic()
    arrivals: list[float] = []
    async with client.post(url, json=body) as response:
        async for line in response.content:
            if b'"content":"' in line and b'"content":""' not in line:
                arrivals.append(time.monotonic())
    return arrivals[0] - started, arrivals


async def _client(client: aiohttp.ClientSession, url: str, count: int) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for _ in range(count):
        async with client.post(url, json=body) as response:
            await response.read()
