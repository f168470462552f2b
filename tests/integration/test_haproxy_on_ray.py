"""Behind HAProxy on real Ray: an answer outlives a change of replicas, and a deployment's end prints no error.

On a cluster that runs, the hard stop is set where Ray Serve is started; where it runs already, a warning names it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.harmony_text import encode_spelled_out
from tests.integration.clusters import cluster
from tests.integration.processes import Command, free_port, running

pytestmark = pytest.mark.integration
HARD_STOP_S = 4
"""A hard stop in the environment that is too short for the deployment."""
TOKENS = 120
TOKEN_INTERVAL_S = 0.1


@pytest.fixture(scope="module")
def deployment(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, str]]:
    """Two scripted models; an answer takes 12 s. At the end Ctrl-C stops the deployment, and no error is printed."""
    folder, port = tmp_path_factory.mktemp("haproxy"), free_port()
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>" + "on and on " * TOKENS)]
    engine = {"engine": "scripted", "script": script, "token_interval_s": TOKEN_INTERVAL_S}
    replicas = {"num_cpus": 0.5, "answer_timeout_s": 60, "health_check_period_s": 1}
    models = [
        {"model_id": name, "checkpoint": str(tiny_oss), "route_prefix": f"/{name}", "engine": engine}
        | {"replicas": replicas}
        for name in ("steady", "changing")
    ]
    config = {"http": {"port": port, "proxy": "haproxy"}, "models": models}
    (folder / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ("-m", "serve_apps.deploy", "--config", str(folder / "serve.yaml"), "--address", "local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", str(HARD_STOP_S))
        with running(folder, folder / "home", *arguments) as command:
            command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
            yield command, f"http://127.0.0.1:{port}"
            assert command.interrupt() == 0, command.output
            assert command.output.partition("[serve] stopping")[2].strip() == ""


def test_an_answer_outlives_a_change_of_replicas(deployment: tuple[Command, str]) -> None:
    """HAProxy is started anew during the answer, which goes on for longer than the hard stop in the environment."""
    command, root = deployment
    body = {"model": "steady", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": TOKENS}
    (changing,) = command.descendants("ServeReplica:changing")
    # The last change of replicas at the start may have left one that still ends.
    command.wait_for(lambda: len(command.descendants("haproxy.cfg")) == 1, "the end of earlier HAProxy processes")
    first = {process.pid for process in command.descendants("haproxy.cfg")}
    events: list[str] = []
    second_at = None
    with httpx.stream("POST", f"{root}/steady/v1/chat/completions", json=body, timeout=60) as response:
        for line in response.iter_lines():
            events += [line] if line.startswith("data: ") else []
            if len(events) == 10:
                os.kill(changing.pid, signal.SIGKILL)
            if second_at is None and {p.pid for p in command.descendants("haproxy.cfg")} - first:
                second_at = time.monotonic()
        ended_at = time.monotonic()
    assert second_at is not None, "HAProxy was not started anew during the answer"
    assert ended_at - second_at > HARD_STOP_S + 1
    assert events[-1] == "data: [DONE]"
    assert "warning" not in command.output


def test_a_running_clusters_hard_stop_is_raised_or_named(tiny_oss: Path, tmp_path: Path) -> None:
    """The nodes' environment has a short hard stop. The first deployment raises it; a later one, with longer answers,
    finds Ray Serve running and warns."""
    engine = {"engine": "scripted", "script": [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>Yes.")]}
    replicas = {"num_cpus": 0.5, "answer_timeout_s": 60}
    model = {"model_id": "m", "checkpoint": str(tiny_oss), "engine": engine, "replicas": replicas}
    config = {"http": {"port": free_port(), "proxy": "haproxy"}, "models": [model]}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
        patch.setenv("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", str(HARD_STOP_S))
        patch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", str(free_port()))
        patch.setenv("RAY_SERVE_HAPROXY_METRICS_PORT", str(free_port()))
        patch.setenv("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "1")
        with cluster(tmp_path / "cluster", None, "--num-cpus", "2") as running_cluster:
            code, output = running_cluster.run("serve", "deploy", str(path))
            assert code == 0, output
            assert "warning" not in output
            longer = ("--set", "models.0.replicas.answer_timeout_s=120")
            code, output = running_cluster.run("serve", "deploy", str(path), *longer)
            assert code == 0, output
            assert "still run 90 s after a replica starts or stops, and needs 150 s" in output
