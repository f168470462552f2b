"""Compares Tuneyard's API on Ray Serve with `transformers serve --continuous-batching`.

Both serve one checkpoint with the same library and get the same prompts in turn. Measures tokens/s and the time to the
first text at several numbers of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from serve_apps.deployment.lifecycle import Deployment
from serve_apps.engines.transformers_engine import PAGE_SIZE
from tests.bench.bases import base
from tests.bench.serve_throughput import BASE, CONFIG, replica_rss
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.ports import free_port

STREAMS, TOKENS, ROUNDS = (1, 8, 32), 48, 5
START_S = 180.0


def run() -> dict[str, Any]:
    """Medians over rounds in which the two servers take turns, and the ratio of Tuneyard's to the peer's."""
    config = load_config(ServeConfig, CONFIG)
    http = config.http.model_copy(update={"proxy": "haproxy"})
    config = config.model_copy(update={"http": http, "models": tuple(m for m in config.models if m.model_id == BASE)})
    checkpoint = base(BASE)
    chats = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / "brindle_heldout.jsonl")).examples[: max(STREAMS)]
    prompts = [chat.messages[1].content for chat in chats]
    with Deployment(config, address="local") as deployment, _transformers_serve(checkpoint, config) as (url, process):
        (ours,) = deployment.base_urls
        rows = asyncio.run(_measure({"tuneyard": (ours, BASE), "transformers": (url, str(checkpoint))}, prompts))
        resident = {"transformers": psutil.Process(process.pid).memory_info().rss, "tuneyard": replica_rss()}
    return {
        "tokens": TOKENS,
        "rounds": ROUNDS,
        "streams": rows,
        "rss_mib": {name: size // 2**20 for name, size in resident.items()},
    }


@contextlib.contextmanager
def _transformers_serve(checkpoint: Path, config: ServeConfig) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs `transformers serve` with the cache and batch sizes of the config's engine. Yields its URL and process."""
    engine, port = config.models[0].engine, free_port()
    command = [
        str(Path(sys.executable).with_name("transformers")),
        *("serve", str(checkpoint), "--continuous-batching", "--port", str(port), "--host", "127.0.0.1"),
        *("--device", "cpu", "--dtype", engine.dtype, "--log-level", "error"),
        *("--cb-block-size", str(PAGE_SIZE), "--cb-num-blocks", str(-(-engine.kv_cache_tokens // PAGE_SIZE))),
        *("--cb-max-batch-tokens", str(engine.max_batch_tokens), "--attn-implementation", "eager"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(engine.threads), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_S
            while not _is_up(port):
                assert process.poll() is None, f"the server exited: {' '.join(command)}"
                assert time.monotonic() < deadline, f"transformers serve does not answer after {START_S} s"
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", process
        finally:
            process.kill()


def _is_up(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    return False


async def _measure(servers: dict[str, tuple[str, str]], prompts: list[str]) -> list[dict[str, Any]]:
    rows = []
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=max(STREAMS))) as client:
        for count in STREAMS:
            results: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for number in range(ROUNDS + 1):
                # Each server is first in every second round.
                for name, (url, model) in list(servers.items())[:: -1 if number % 2 else 1]:
                    measured = await _round(client, url, model, prompts[:count])
                    if number:  # the first round warms up
                        results[name].append(measured)
            rates = {name: statistics.median(rate for rate, _ in rounds) for name, rounds in results.items()}
            firsts = {name: statistics.median(first for _, first in rounds) for name, rounds in results.items()}
            rows.append(
                {
                    "streams": count,
                    "tokens_per_s": rates,
                    "first_text_p50_s": firsts,
                    "tokens_per_s_ratio": rates["tuneyard"] / rates["transformers"],
                    "first_text_ratio": firsts["tuneyard"] / firsts["transformers"],
                }
            )
    return rows


async def _round(client: httpx.AsyncClient, url: str, model: str, prompts: list[str]) -> tuple[float, float]:
    """Streams all prompts at once; returns output tokens/s of all together and the median time to the first text."""
    started = time.monotonic()
    answers = await asyncio.gather(*(_stream(client, url, model, prompt) for prompt in prompts))
    took = time.monotonic() - started
    return sum(tokens for tokens, _ in answers) / took, statistics.median(first for _, first in answers)


async def _stream(client: httpx.AsyncClient, url: str, model: str, prompt: str) -> tuple[int, float]:
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    if model == BASE:  # the peer always sends its usage and does not know this option
        body["stream_options"] = {"include_usage": True}
    started, first, tokens = time.monotonic(), None, 0
    async with client.stream("POST", f"{url}/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if first is None and any(choice["text"] for choice in event["choices"]):
                first = time.monotonic() - started
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    assert first is not None
    assert tokens
    return tokens, first
