"""Autoscaled replicas: their number follows the load, down to none; each request is answered with 200 or 503."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.processes import Command, free_port, running

pytestmark = pytest.mark.integration
CLIENTS = 8


def count_replicas(command: Command) -> int:
    """The running replica processes of the model."""
    return len(command.descendants("ServeReplica:scaled"))


def wait_for_replicas(command: Command, count: int, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while count_replicas(command) != count:
        assert time.monotonic() < deadline, f"{count_replicas(command)} replicas after {limit_s} s, expected {count}"
        time.sleep(0.2)


async def send_requests(root: str, until: float, counts: Counter[int]) -> None:
    """Sends one request after another until the time `until`, and counts their statuses."""
    body: Any = {"model": "scaled", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40}
    async with httpx.AsyncClient(base_url=root, timeout=120) as client:
        while time.monotonic() < until:
            counts[(await client.post("/v1/chat/completions", json=body)).status_code] += 1


async def apply_load(root: str, command: Command, seconds: float) -> tuple[Counter[int], int]:
    """Sends requests from CLIENTS clients. Returns the count of each status, and the largest number of replicas."""
    counts: Counter[int] = Counter()
    until = time.monotonic() + seconds
    clients = asyncio.gather(*(send_requests(root, until, counts) for _ in range(CLIENTS)))
    most_replicas = 0
    while not clients.done():
        most_replicas = max(most_replicas, await asyncio.to_thread(count_replicas, command))
        await asyncio.sleep(0.5)
    await clients
    return counts, most_replicas


def test_replicas_scale_up_under_load_down_to_none_and_up_again(tiny_oss: Path, tmp_path: Path) -> None:
    port = free_port()
    config = {
        "http": {"port": port},
        "models": [
            {
                "model_id": "scaled",
                "checkpoint": str(tiny_oss),
                "engine": {
                    "engine": "scripted",
                    "script": [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>on and on ")],
                    "token_interval_s": 0.02,
                },
                "replicas": {
                    "num_replicas": None,
                    "num_cpus": 0.3,
                    "autoscaling_config": {
                        "min_replicas": 0,
                        "initial_replicas": 1,
                        "max_replicas": 2,
                        "target_ongoing_requests": 2,
                        "upscale_delay_s": 1,
                        "downscale_delay_s": 4,
                    },
                },
            }
        ],
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ("-m", "serve_apps.deploy", "--config", str(tmp_path / "serve.yaml"), "--address", "local")
    with running(tmp_path, tmp_path / "home", *arguments) as command:
        command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
        root = f"http://127.0.0.1:{port}"
        counts, most_replicas = asyncio.run(apply_load(root, command, 25))
        assert most_replicas == 2
        assert counts[200] > CLIENTS
        assert set(counts) <= {200, 503}
        wait_for_replicas(command, 0, limit_s=120)
        counts, most_replicas = asyncio.run(apply_load(root, command, 5))
        assert set(counts) <= {200, 503}
        assert counts[200] > 0
        assert most_replicas >= 1
