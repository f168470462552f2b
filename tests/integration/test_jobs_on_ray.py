"""`tuneyard jobs` on a real Ray cluster with a job server: submit, follow, list, stop, resume, deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.integration.clusters import cluster
from tests.integration.conftest import write_finetune_config
from tests.integration.processes import free_port, run, running
from tests.integration.test_finetune_on_ray import last_step, logged_steps
from tuneyard.checkpoints.validation import validate_hf_checkpoint

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard's address of a new cluster: a head without CPUs, and one worker with two."""
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        nodes.join("worker")
        yield nodes.address


def submit_command(config: Path, tiny_oss: Path, server: str, *more: str) -> tuple[str, ...]:
    """The arguments of `python` that submit the demo's config from the checkout, with a small base and little data."""
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


def run_tuneyard(folder: Path, home: Path, server: str, *arguments: str) -> tuple[int, str]:
    """Runs `tuneyard ARGUMENTS` against the server; returns the exit code and the output."""
    return run(folder, home, "-m", "tuneyard.cli", *arguments, "--address", server)


def test_a_submitted_run_trains_and_its_log_is_followed(tiny_oss: Path, tmp_path: Path, job_server: str) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    home = tmp_path / "home"
    code, output = run(tmp_path, home, *submit_command(config, tiny_oss, job_server))
    assert code == 0, output
    assert "[finetune] Ray: the running cluster" in output
    assert "registered tiny-support/1 (@newest)" in output
    validate_hf_checkpoint(home / "models" / "tiny-support" / "1", base=tiny_oss)
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "list")
    assert code == 0
    assert "SUCCEEDED   submitted" in output
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "status", "submitted")
    assert code == 0
    assert "training: step 4/4  loss" in output
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "resume", "submitted")
    assert code == 1
    assert "has succeeded" in output


def test_a_run_that_can_never_be_placed_is_not_submitted(tiny_oss: Path, tmp_path: Path, job_server: str) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    for setting, message in (
        ("workers.num_workers=3", "CPU: 3 needed, 2 available"),
        ("workers.cpus_per_worker=4", "CPU: 4 needed, 2 available"),
        ("workers.memory_gib_per_worker=100000", "memory: 100000.0 GiB needed"),
    ):
        command = submit_command(config, tiny_oss, job_server, "--set", "run.name=too-much", "--set", setting)
        code, output = run(tmp_path, tmp_path / "home", *command)
        assert code == 1
        assert "can never be placed on this Ray cluster" in output
        assert message in output
    _, output = run_tuneyard(tmp_path, tmp_path / "home", job_server, "jobs", "list")
    assert "too-much" not in output


def test_the_command_fails_when_its_job_fails(tiny_oss: Path, tmp_path: Path, job_server: str) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    code, output = run(tmp_path, tmp_path / "home", *submit_command(config, tmp_path / "nothing", job_server))
    assert code == 1
    assert "holds no config.json, so it is not a base checkpoint" in output


def test_ctrl_c_detaches_stop_ends_the_job_and_resume_continues_it(
    tiny_oss: Path, tmp_path: Path, job_server: str
) -> None:
    """The config is outside the checkout, in a folder with a space in its name."""
    steps = 60
    config = write_finetune_config(tmp_path, tiny_oss, max_steps=steps, checkpoint_every_steps=5)
    home = tmp_path / "home"
    state = home / "runs" / "tiny" / "ray_train"
    command = ("-m", "tuneyard.cli", "jobs", "submit", str(config), "--address", job_server)
    with running(tmp_path, home, *command, "--set", "workers.num_workers=1") as submitted:
        submitted.wait_for(lambda: last_step(state) >= 10, "second checkpoint")
        assert submitted.interrupt() == 130
        assert "continues. Follow it again: tuneyard jobs logs -f raysubmit_" in submitted.output
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "stop", "tiny")
    assert code == 0
    assert "is being stopped" in output
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "logs", "tiny", "-f")
    assert code == 1
    assert " stopped: " in output
    assert "Interrupted. Checkpoints are kept" in output
    assert "SIGTERM" not in output
    stopped_at = last_step(state)
    assert 10 <= stopped_at < steps
    code, output = run_tuneyard(tmp_path, home, job_server, "jobs", "resume", "tiny")
    assert code == 0, output
    assert "registered tiny-support/1 (@newest)" in output
    assert all(step > 5 for step, _ in logged_steps(home, "loss")[stopped_at:])


def test_submit_with_deploy_serves_the_result_after_the_job_has_ended(
    tiny_oss: Path, tmp_path: Path, job_server: str
) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    home = tmp_path / "home"
    port = free_port()
    serve = tmp_path / "serve.yaml"
    model = {"model_id": "support", "checkpoint": "tiny-support@newest", "replicas": {"num_cpus": 0.5}}
    serve.write_text(yaml.safe_dump({"http": {"port": port}, "models": [model]}))
    command = submit_command(config, tiny_oss, job_server, "--set", "run.name=served", "--deploy", str(serve))
    code, output = run(tmp_path, home, *command)
    assert code == 0, output
    assert "the deployment stays on the cluster" in output
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    messages: Any = [{"role": "user", "content": "hi"}]
    answer = client.chat.completions.create(model="support", messages=messages, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    code, output = run_tuneyard(tmp_path, home, job_server, "serve", "status")
    assert code == 0
    assert "support  RUNNING" in output
    code, output = run_tuneyard(tmp_path, home, job_server, "serve", "deploy", str(serve))
    assert code == 0, output
    code, output = run_tuneyard(tmp_path, home, job_server, "serve", "stop")
    assert code == 0
    with pytest.raises(openai.APIError):
        client.chat.completions.create(model="support", messages=messages, max_tokens=4)
