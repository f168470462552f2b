"""Compares Tuneyard's API on Ray Serve with `transformers serve --continuous-batching`.

All serve one checkpoint, with one thread each, and get the same prompts in turn: Tuneyard with the peer's own library
and with llama.cpp. Measures tokens/s and the time to the first text at several numbers of streams.
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

from serve_apps.engines.transformers_engine import PAGE_SIZE
from serve_apps.lifecycle import Deployment
from tests.bench.bases import base
from tests.bench.serve_throughput import BASE, CONFIG, replica_rss
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.ports import free_port

STREAMS, TOKENS, ROUNDS = (1, 8), 48, 3
LLAMA_CPP = ("f32", "q8_0")
START_S = 180.0
PEER = "transformers serve"


def run() -> dict[str, Any]:
    """Medians over rounds in which the two servers take turns, and the ratio of Tuneyard's to the peer's."""
    from serve_apps.engines.llama_cpp.llama_server import describe_build

    config = load_config(ServeConfig, CONFIG)
    http = config.http.model_copy(update={"proxy": "haproxy"})
    (model,) = (m for m in config.models if m.model_id == BASE)
    # Only one of them computes at a time: less than a CPU for each, so that all run on two.
    replicas = model.replicas.model_copy(update={"num_cpus": 0.5})
    models = [model.model_copy(update={"replicas": replicas, "engine": EngineConfig()})]
    for weights in LLAMA_CPP:
        section = LlamaCppConfig(weights=GgufType(weights), n_parallel=max(STREAMS), n_ctx=max(STREAMS) * 512)
        engine = EngineConfig(engine="llama_cpp", llama_cpp=section)
        name = f"{BASE}-{weights}"
        update = {"model_id": name, "route_prefix": f"/{weights}", "engine": engine, "replicas": replicas}
        models.append(model.model_copy(update=update))
    config = config.model_copy(update={"http": http, "models": tuple(models)})
    checkpoint = base(BASE)
    chats = load_chat_dataset(str(CHECKOUT / "jobs" / "data" / "brindle_heldout.jsonl")).examples[: max(STREAMS)]
    prompts = [chat.messages[1].content for chat in chats]
    with Deployment(config, address="local") as deployment, _transformers_serve(checkpoint, config) as (url, process):
        ours = {m.model_id: (base_url, m.model_id) for m, base_url in zip(models, deployment.base_urls, strict=True)}
        rows = asyncio.run(_measure({**ours, PEER: (url, str(checkpoint))}, prompts))
        resident = {PEER: psutil.Process(process.pid).memory_info().rss, "largest replica": replica_rss()}
    return {
        "tokens": TOKENS,
        "rounds": ROUNDS,
        "llama_cpp_build": describe_build(),
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
                    "tokens_per_s_ratio": {name: rate / rates[PEER] for name, rate in rates.items() if name != PEER},
                    "first_text_ratio": {name: first / firsts[PEER] for name, first in firsts.items() if name != PEER},
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
    if model.startswith(BASE):  # the peer always sends its usage and does not know this option
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
