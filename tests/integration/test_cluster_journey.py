"""A cluster that shares only an object store: one node is killed during training, another while it serves."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.integration.clusters import Cluster, cluster
from tests.integration.conftest import write_finetune_config
from tests.integration.processes import free_port, run, running
from tests.integration.test_finetune_on_ray import logged_steps
from tests.object_store import ObjectStore
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.storage.folder import StorageFolder

pytestmark = pytest.mark.integration
STEPS, EVERY = 30, 5
STORAGE = "s3://bucket/tuneyard"


@pytest.fixture(scope="module")
def store(store: ObjectStore) -> Iterator[ObjectStore]:
    """The object store, which is also the storage of runs and models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEYARD_STORAGE", STORAGE)
        yield store


@pytest.fixture(scope="module")
def nodes(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and two workers. They start after `store`, to inherit its keys in their environment."""
    assert store
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        started.join("one")
        started.join("two")
        yield started


def reported_checkpoints(run_name: str) -> list[str]:
    """The checkpoints of a run that Ray Train's snapshot names."""
    state = StorageFolder.open(STORAGE).child("runs", run_name, "ray_train")
    snapshot = state.read("checkpoint_manager_snapshot.json") or b""
    return [name for name in state.names() if name.startswith("checkpoint_20") and name.encode() in snapshot]


def submit_command(nodes: Cluster, config: Path, name: str, *more: str) -> tuple[str, ...]:
    """The arguments of `python` that submit the config as the run `name`."""
    return nodes.command("jobs", "submit", str(config), "--set", f"run.name={name}", *more)


@pytest.fixture(scope="module")
def config(tiny_oss: Path, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run on two workers whose base is on the object store too."""
    assert store
    folder = tmp_path_factory.mktemp("run")
    code, output = run(
        folder, folder / "home", "-m", "tuneyard.cli", "models", "copy", str(tiny_oss), "s3://bucket/base/1"
    )
    assert code == 0, output
    sections = {"model": {"base": "s3://bucket/base/1"}, "workers": {"num_workers": 2, "spread": True}}
    return write_finetune_config(folder, tiny_oss, sections, max_steps=STEPS, checkpoint_every_steps=EVERY)


def test_the_doctor_reports_the_nodes_and_the_store(nodes: Cluster) -> None:
    code, output = nodes.run("cluster", "doctor")
    assert code == 0, output
    assert "every node answers (3 nodes)" in output
    assert f"{STORAGE} can be written and read" in output
    assert "the dashboard requires a token" in output
    assert "only its owner can read the token file (3 nodes)" in output


def test_a_run_survives_the_death_of_a_node_with_the_same_losses(nodes: Cluster, config: Path, tmp_path: Path) -> None:
    """The run is compared with an uninterrupted one."""
    code, output = run(tmp_path, nodes.home, *submit_command(nodes, config, "whole", "--set", "run.model_name=whole"))
    assert code == 0, output
    assert f"registered whole/1 (@newest) at {STORAGE}/models/whole/1" in output
    # One worker per node; elastic, so that the run continues on the remaining node.
    elastic = [f"--set=workers.{field}" for field in ("min_workers=1", "cpus_per_worker=2")]
    with running(tmp_path, nodes.home, *submit_command(nodes, config, "cut", *elastic)) as command:
        command.wait_for(lambda: bool(reported_checkpoints("cut")), "the first checkpoint")
        nodes.kill("one")
        assert command.process.wait(300) == 0, command.output
    assert "registered tiny-support/1 (@newest)" in command.output
    assert "has left; the cluster has 2 nodes now. If it ran a worker" in command.output
    assert "the workers started again (1 now): " in command.output
    cut, whole = logged_steps(nodes.home, "loss", "tiny-support"), logged_steps(nodes.home, "loss", "whole")
    restarts = [step for (before, _), (step, _) in itertools.pairwise(cut) if step <= before]
    # No step is repeated if the node died before the step after the checkpoint.
    assert len(restarts) <= 1
    assert 1 not in restarts, "the run started again at step 1"
    # Each step has the same rows, on one worker as on two.
    assert dict(cut) == pytest.approx(dict(whole), rel=1e-4)


def test_a_run_survives_an_outage_of_the_store(
    nodes: Cluster, store: ObjectStore, config: Path, tmp_path: Path
) -> None:
    """The store is down for three seconds while a checkpoint is due."""
    command = submit_command(nodes, config, "hiccup", "--set", "run.model_name=hiccup", "--set", "workers.spread=false")
    with running(tmp_path, nodes.home, *command) as started:
        started.wait_for(lambda: bool(reported_checkpoints("hiccup")), "the first checkpoint")
        store.stop()
        time.sleep(3)
        store.start()
        assert started.process.wait(300) == 0, started.output
    losses = logged_steps(nodes.home, "loss", "hiccup")
    assert dict(losses) == pytest.approx(dict(logged_steps(nodes.home, "loss", "whole")), rel=1e-5)


def test_a_trained_model_is_served_by_other_nodes_and_survives_the_death_of_one(nodes: Cluster, tmp_path: Path) -> None:
    nodes.join("three")
    serve, port = tmp_path / "serve.yaml", free_port()
    replicas = {"num_replicas": 2, "num_cpus": 1.2, "health_check_period_s": 1}
    model = {"model_id": "support", "checkpoint": "tiny-support@newest", "replicas": replicas}
    serve.write_text(yaml.safe_dump({"http": {"port": port}, "models": [model]}))
    code, output = nodes.run("serve", "deploy", str(serve))
    assert code == 0, output
    assert list((nodes.cache_of("three") / "checkpoints").iterdir()), "the new node has no copy of the checkpoint"
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=2, timeout=60)
    messages: Any = [{"role": "user", "content": "hi"}]
    version = ModelRegistry(nodes.home).find("tiny-support@newest")
    for number in range(30):
        if number == 3:
            nodes.kill("three")
        answer = client.chat.completions.with_raw_response.create(model="support", messages=messages, max_tokens=4)
        assert answer.headers["x-tuneyard-model-version"] == f"tiny-support/{version.version}"
        time.sleep(0.2)
    code, output = nodes.run("serve", "stop")
    assert code == 0, output


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs the right to mount, to give one node a disk that others do not have",
)
def test_storage_on_one_nodes_disk_is_refused_before_training(nodes: Cluster, tiny_oss: Path, tmp_path: Path) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    home = tmp_path / "home"
    home.mkdir()
    nodes.join("four", hidden=home)
    code, output = run(tmp_path, home, *submit_command(nodes, config, "local", "--set", f"run.storage={home}"))
    assert code == 1
    assert f"run.storage: {home} is missing or different on" in output
    assert "Traceback" not in output
