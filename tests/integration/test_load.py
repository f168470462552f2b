"""Many streams, and clients that leave at any moment: nothing lost, nothing doubled, nothing left behind.

For 20 seconds, or TUNEYARD_SOAK_S.
"""

from __future__ import annotations

import asyncio
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
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec

pytestmark = pytest.mark.integration
STREAMS, SECONDS = 64, float(os.environ.get("TUNEYARD_SOAK_S", "20"))
TEXT = " ".join(f"n{number}" for number in range(60))
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "count"}], "stream": True}


async def one_stream(client: httpx.AsyncClient, leaves_after: int | None) -> str:
    """The text that came, until the end or until the client leaves."""
    text, events = "", 0
    async with client.stream("POST", "/v1/chat/completions", json=BODY) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if not line or line == "data: [DONE]":
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text += choice["delta"].get("content") or ""
            events += 1
            if leaves_after is not None and events >= leaves_after:
                return text
    assert text == TEXT, "a whole answer is whole"
    return text


async def one_client(root: str, seed: int, until: float) -> tuple[int, int]:
    """Streams until the time is over; how many were read to their end, and how many were left."""
    rng = random.Random(seed)
    whole = left = 0
    async with httpx.AsyncClient(base_url=root, timeout=60) as client:
        while time.monotonic() < until:
            leaves_after = rng.choice([None, rng.randint(0, 60)])
            assert TEXT.startswith(await one_stream(client, leaves_after))
            whole, left = whole + (leaves_after is None), left + (leaves_after is not None)
    return whole, left


def test_streams_with_clients_that_leave(tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    script = [encode_spelled_out(tiny_oss, f"<|channel|>final<|message|>{TEXT}<|return|>")]
    served = ServedApi(ScriptedEngine(script, token_interval_s=0.01), codec)
    try:

        async def load(seconds: float) -> list[tuple[int, int]]:
            until = time.monotonic() + seconds
            return await asyncio.gather(*(one_client(served.root, seed, until) for seed in range(STREAMS)))

        asyncio.run(load(3))  # what grows once, has grown
        before = psutil.Process().memory_info().rss
        counts = asyncio.run(load(SECONDS))
        grown_mib = (psutil.Process().memory_info().rss - before) / 2**20
        assert sum(whole for whole, _ in counts) > STREAMS
        assert sum(left for _, left in counts) > STREAMS
        deadline = time.monotonic() + 10
        while httpx.get(f"{served.root}/healthz", timeout=10).json()["requests"]:
            assert time.monotonic() < deadline, "requests were left in the engine"
            time.sleep(0.05)
        assert grown_mib < 64
    finally:
        served.stop()
