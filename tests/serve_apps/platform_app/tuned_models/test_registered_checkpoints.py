"""A run's registered checkpoints, as jobs find them and as models delete them, in a real registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.platform_app.fine_tuning.execution.registry_run_records import RegistryRunRecords
from serve_apps.platform_app.fine_tuning.execution.run_records import TrainedModel
from serve_apps.platform_app.tuned_models.registry_model_files import RegistryModelFiles
from tuneyard.checkpoints.registry import ModelRegistry

JOB = "ftjob-1"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """Of a run that has registered its last checkpoint, at step 12, and then those of steps 8 and 4."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "home"))
    registry = ModelRegistry()
    run, other = (registry.start_run(JOB, name, {}, None) for name in ("own", "other"))
    for version, (step, run_id) in enumerate([(12, run), (8, run), (4, run), (6, other), (16, run)], 1):
        folder = tmp_path / "models" / str(version)
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w", encoding="utf-8")
        registry.register(JOB, folder, run_id, {"metric.step": str(step)}, "newest" if version == 1 else None)
    return registry


async def test_the_last_checkpoint_is_found_with_those_before_it(registry: ModelRegistry, tmp_path: Path) -> None:
    """Others are not the run's, or come after the checkpoint that is the run's model."""

    async def open_registry() -> ModelRegistry:
        return registry

    def trained(version: int, step: int) -> TrainedModel:
        return TrainedModel(f"{JOB}/{version}", str(tmp_path / "models" / str(version)), step)

    found = await RegistryRunRecords(open_registry).result(JOB)
    assert found is not None
    assert (found.version, found.step, found.earlier) == (f"{JOB}/1", 12, (trained(3, 4), trained(2, 8)))
    assert await RegistryRunRecords(open_registry).result("ftjob-2") is None


@pytest.mark.usefixtures("registry")
async def test_one_version_is_deleted_with_its_files(tmp_path: Path) -> None:
    files, models = RegistryModelFiles(), tmp_path / "models"
    registry = await files.registry()
    registry._client.set_registered_model_alias(JOB, "production", "3")
    assert await files.aliases(JOB) == await files.aliases(f"{JOB}/3") == ["production"]
    assert await files.aliases(f"{JOB}/1") == await files.aliases(f"{JOB}/2") == []
    for _ in range(2):  # a step may be repeated
        await files.delete_version(f"{JOB}/2", str(models / "2"))
    assert [version.version for version in registry.versions(JOB)] == [1, 3, 4, 5]
    assert sorted(path.name for path in models.iterdir() if (path / "weights").exists()) == ["1", "3", "4", "5"]
    await files.delete(JOB, str(models))
    await files.delete_version(f"{JOB}/3", str(models / "3"))
    assert registry.versions(JOB) == []
    assert not models.exists()
