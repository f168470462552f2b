"""Many streams, with clients that disconnect at any moment: no text is lost or repeated, no request remains.

Runs for 20 seconds, or for TUNEYARD_SOAK_S seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from pathlib import Path

import httpx
import psutil
import pytest

from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

pytestmark = pytest.mark.integration
STREAMS, SECONDS = 64, float(os.environ.get("TUNEYARD_SOAK_S", "20"))
TEXT = " ".join(f"n{number}" for number in range(60))
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "count"}], "stream": True}


async def read_stream(client: httpx.AsyncClient, max_events: int | None) -> str:
    """Streams one answer and returns its text. Disconnects after `max_events` events; None reads to the end."""
    text, events = "", 0
    async with client.stream("POST", "/v1/chat/completions", json=BODY) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if not line or line.startswith(":") or line == "data: [DONE]":
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text += choice["delta"].get("content") or ""
            events += 1
            if max_events is not None and events >= max_events:
                return text
    assert text == TEXT, "an answer that was read to its end is incomplete"
    return text


async def run_client(root: str, seed: int, until: float) -> tuple[int, int]:
    """Streams answers until the time `until`; returns how many it read to the end and how many it left early."""
    rng = random.Random(seed)
    complete = disconnected = 0
    async with httpx.AsyncClient(base_url=root, timeout=60) as client:
        while time.monotonic() < until:
            max_events = rng.choice([None, rng.randint(0, 60)])
            assert TEXT.startswith(await read_stream(client, max_events))
            complete += max_events is None
            disconnected += max_events is not None
    return complete, disconnected


def test_streams_with_clients_that_disconnect(tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    script = [encode_spelled_out(tiny_oss, f"<|channel|>final<|message|>{TEXT}<|return|>")]
    served = ServedApi(ScriptedEngine(script, token_interval_s=0.01), codec)
    try:

        async def load(seconds: float) -> list[tuple[int, int]]:
            until = time.monotonic() + seconds
            return await asyncio.gather(*(run_client(served.root, seed, until) for seed in range(STREAMS)))

        asyncio.run(load(3))  # so that caches are filled before memory is measured
        gc.collect()
        before = psutil.Process().memory_info().rss
        counts = asyncio.run(load(SECONDS))
        gc.collect()
        grown_mib = (psutil.Process().memory_info().rss - before) / 2**20
        assert sum(complete for complete, _ in counts) > STREAMS
        assert sum(disconnected for _, disconnected in counts) > STREAMS
        deadline = time.monotonic() + 10
        while httpx.get(f"{served.root}/healthz", timeout=10).json()["requests"]:
            assert time.monotonic() < deadline, "requests still run in the engine"
            time.sleep(0.05)
        assert grown_mib < 64
    finally:
        served.stop()
