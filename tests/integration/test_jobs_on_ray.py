"""`tuneyard jobs` against a real Ray cluster with its job server: submitted, followed, listed, stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import write_finetune_config
from tests.integration.processes import free_port, run, running
from tuneyard.checkpoint import validate_hf_checkpoint

pytestmark = pytest.mark.integration

HEAD = """
import ray, sys, time
ray.init(address="local", num_cpus=2, include_dashboard=True, dashboard_port=int(sys.argv[1]))
print("head is up", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard's address of a cluster of this test's own."""
    folder = tmp_path_factory.mktemp("cluster")
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        # The job's `python` is the one that the cluster's machines find.
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        with running(folder, folder / "home", "-c", HEAD, str(port)) as head:
            url = f"http://127.0.0.1:{port}"
            head.wait_for(lambda: "head is up" in head.output and _answers(f"{url}/api/jobs/"), "job server")
            yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code in (200, 401)  # 401: it wants the cluster's token
    except httpx.HTTPError:
        return False


def submit(config: Path, tiny_oss: Path, server: str, *more: str) -> tuple[str, ...]:
    """The demo's config from the checkout, with a small base and little data."""
    sets = {
        "run.name": "submitted",
        "run.model_name": "tiny-support",
        "model.base": tiny_oss,
        "data.train": config.parent / "train.jsonl",
        "data.heldout": config.parent / "heldout.jsonl",
        "data.max_length": 1024,
        "training.max_steps": 4,
        "training.lora.last_layers": 1,
        "workers.num_workers": 1,
    }
    arguments = [part for field, value in sets.items() for part in ("--set", f"{field}={value}")]
    command = ("-m", "tuneyard.cli", "jobs", "submit", "jobs/configs/demo_cpu.yaml", "--address", server)
    return (*command, *arguments, *more)


def test_a_submitted_run_trains_and_its_log_is_followed(tiny_oss: Path, tmp_path: Path, job_server: str) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    home = tmp_path / "home"
    code, output = run(tmp_path, home, *submit(config, tiny_oss, job_server))
    assert code == 0, output
    assert "[finetune] Ray: the running cluster" in output
    assert "registered tiny-support/1 (@newest)" in output
    validate_hf_checkpoint(home / "models" / "tiny-support" / "1", base=tiny_oss)
    code, output = run(tmp_path, home, "-m", "tuneyard.cli", "jobs", "list", "--address", job_server)
    assert code == 0
    assert "SUCCEEDED   submitted" in output


def test_a_failed_job_is_a_failed_command_and_stop_ends_one(tiny_oss: Path, tmp_path: Path, job_server: str) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    code, output = run(tmp_path, tmp_path / "home", *submit(config, tmp_path / "nothing", job_server))
    assert code == 1
    assert "holds no config.json: no base checkpoint there" in output
    endless = submit(config, tiny_oss, job_server, "--set", "training.max_steps=100000", "--no-wait")
    code, output = run(tmp_path, tmp_path / "home", *endless)
    assert code == 0, output
    job = output.split("submitted ")[1].split(";")[0]
    on_cluster = ("--address", job_server)
    code, output = run(tmp_path, tmp_path / "home", "-m", "tuneyard.cli", "jobs", "stop", job, *on_cluster)
    assert code == 0
    assert "is being stopped" in output
    code, output = run(tmp_path, tmp_path / "home", "-m", "tuneyard.cli", "jobs", "logs", job, "--follow", *on_cluster)
    assert code == 1
    assert f"{job} stopped" in output
