"""The registry, on SQLite as a laptop has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.checkpoints.registry import ModelRegistry
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
