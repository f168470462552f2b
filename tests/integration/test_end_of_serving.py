"""Start and end of a deployment: on a slow machine it starts later, and Ctrl-C ends it soon and silently."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.processes import free_port, running
from tests.integration.slow_proxy import slow_proxy_environment

pytestmark = pytest.mark.integration

DRAINING_S = 30
"""Seconds that Ray Serve keeps each replica open for load balancers outside Ray, if nothing shortens it."""


def test_two_models_end_together_and_without_an_error_of_ray(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with Ray Serve's settings for throughput, and although Serve kills a proxy that took too long to start."""
    monkeypatch.setenv("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
    for name, value in slow_proxy_environment(tmp_path / "slow").items():
        monkeypatch.setenv(name, value)
    engine = {"engine": "scripted", "script": [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>Hi<|return|>")]}
    model = {"checkpoint": str(tiny_oss), "engine": engine, "replicas": {"num_cpus": 0.5}}
    models = [model | {"model_id": name, "route_prefix": f"/{name}"} for name in ("one", "two")]
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump({"http": {"port": free_port()}, "models": models}), encoding="utf-8")
    arguments = ("-m", "serve_apps.deploy", "--config", str(config), "--address", "local")
    with running(tmp_path, tmp_path / "home", *arguments) as command:
        command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
        assert "is not ready after" in command.output, command.output
        processes = command.descendants()
        started = time.monotonic()
        assert command.interrupt() == 0, command.output
        assert time.monotonic() - started < 2 * DRAINING_S, command.output
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []
        assert command.output.strip().endswith("[serve] stopping"), command.output
