"""The registry, on SQLite as a laptop has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuneyard.checkpoints.registry import ModelRegistry, ModelVersion
from tuneyard.core.errors import RegistryError


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    return ModelRegistry(tmp_path_factory.mktemp("registry"))


def test_versions_point_at_checkpoints_and_the_alias_moves(registry: ModelRegistry, tmp_path: Path) -> None:
    run = registry.start_run("support", "run-1", {"epochs": 2}, None)
    registry.log_points(run, [(1, {"loss": 1.5})])
    registry.end_run(run, succeeded=True)
    one = registry.register("support", tmp_path / "with space" / "1", run, {"base_digest": "b"})
    two = registry.register("support", tmp_path / "2", run, {})
    assert (one.version, two.version) == (1, 2)
    assert registry.find("support@newest").version == 2
    assert registry.find("support/1").tags["base_digest"] == "b"
    assert registry.find("support/1").run_id == run
    assert registry.find("support/1").checkpoint == str(tmp_path / "with space" / "1")
    assert [v.version for v in registry.versions("support")] == [1, 2]


def test_a_run_that_registers_again_keeps_its_version(registry: ModelRegistry, tmp_path: Path) -> None:
    """It was killed in the middle of its registration; another run's version of the same checkpoint is its own."""
    run, other = (registry.start_run("repeated", name, {}, None) for name in ("r", "other"))
    first = registry.register("repeated", tmp_path / "1", run, {}, alias="earlier")
    assert registry.register("repeated", tmp_path / "1", run, {}).version == first.version
    assert registry.find("repeated@newest").version == first.version
    assert registry.register("repeated", tmp_path / "1", other, {}).version == first.version + 1
    assert len(registry.versions("repeated")) == 2


def test_more_models_than_mlflow_answers_at_once_are_all_named(tmp_path: Path) -> None:
    """The fine-tuning API registers a model per job."""
    registry = ModelRegistry(tmp_path)
    names = [f"job-{number:03}" for number in range(101)]
    for name in names:
        registry._client.create_registered_model(name)
    assert registry.names() == names
    assert list(registry.all_aliases()) == names


def test_a_run_that_has_ended_takes_tags(registry: ModelRegistry) -> None:
    run = registry.start_run("tagged", "r", {}, None)
    registry.end_run(run, succeeded=True)
    registry.set_tag(run, "wandb.run", "https://wandb.example/r")
    assert registry.run_tags(run)["wandb.run"] == "https://wandb.example/r"


def test_a_version_is_deleted_with_its_aliases(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.register("pruned", tmp_path / "1", None, {})
    registry.register("pruned", tmp_path / "2", None, {}, alias=None)
    registry.register("pruned", tmp_path / "3", None, {}, alias="production")
    assert registry.aliases("pruned") == {"newest": 1, "production": 3}
    for _ in range(2):
        registry.delete_version("pruned", 3)
    assert [version.version for version in registry.versions("pruned")] == [1, 2]
    assert registry.aliases("pruned") == {"newest": 1}
    registry.delete_version("never registered", 1)


def test_a_resumed_run_keeps_its_id(registry: ModelRegistry) -> None:
    run = registry.start_run("resumed", "r", {}, None)
    assert registry.start_run("resumed", "r", {}, run) == run
    with pytest.raises(RegistryError, match="If MLFLOW_TRACKING_URI was changed"):
        registry.start_run("resumed", "r", {}, "0" * 32)


def test_unknown_references_say_what_there_is(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.register("known", tmp_path, None, {})
    with pytest.raises(RegistryError, match=r"known@production is not in .*Registered versions: known/1"):
        registry.find("known@production")
    with pytest.raises(RegistryError, match=r"No model of that name"):
        registry.find("unknown/1")
    with pytest.raises(RegistryError, match=r"Write name@alias or name/version"):
        registry.find("what?")


OPENING = """
import pathlib, sys, time
import mlflow
from tuneyard.checkpoints.registry import ModelRegistry

home, name = pathlib.Path(sys.argv[1]), sys.argv[2]
(home / name).touch()
while len(list(home.glob("ready-*"))) < 3:
    time.sleep(0.01)
ModelRegistry(home).start_run(name, name, {}, None)
"""


def test_several_processes_open_a_new_registry_at_once(tmp_path: Path) -> None:
    """As the driver of the first job and the API that watches it do."""
    commands = [[sys.executable, "-W", "ignore", "-c", OPENING, str(tmp_path), f"ready-{n}"] for n in range(3)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors


NEW = """
import pathlib, sys
from mlflow.store.tracking import sqlalchemy_store
from tuneyard.checkpoints.registry import ModelRegistry
print("begins", flush=True)
ModelRegistry(pathlib.Path(sys.argv[1]))
"""


def test_a_process_that_is_killed_while_it_creates_the_registry_leaves_no_broken_one(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "ignore", "-c", NEW, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not any(path.stat().st_size for path in tmp_path.glob("mlflow.db*") if path.suffix != ".lock"):
            assert process.poll() is None
        process.kill()
    registry = ModelRegistry(tmp_path)
    assert registry.start_run("new", "new", {}, None)
    assert not list(tmp_path.glob("mlflow.db.new*"))


@pytest.mark.parametrize(("text", "step"), [("12", 12), ("4.0", 4), ("abc", None), ("nan", None), ("inf", None)])
def test_a_step_that_someone_else_wrote_is_none(text: str, step: int | None) -> None:
    assert ModelVersion("m", 1, "/c", None, {"metric.step": text}).step == step
