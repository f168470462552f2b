"""The checkpoints that a run registers beside its last one, and what one that fails means for the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import ray.train
from mlflow.exceptions import MlflowException
from ray.exceptions import WorkerCrashedError

from jobs.runs.finetuning import publish_earlier
from jobs.runs.ray_training import TrainOutcome
from jobs.runs.registration import register_checkpoint
from jobs.runs.run_record import RunRecord
from tests.jobs.runs.test_registration import write_manifest
from tests.jobs.runs.test_run_record import config
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.registry import NEWEST, ModelRegistry
from tuneyard.core.errors import CheckpointError


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("the proof fails"),
        WorkerCrashedError(),
        MlflowException("database is locked"),
        OSError(28, "full"),
    ],
)
def test_one_that_fails_is_left_out_and_a_repeated_run_adds_it(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = ModelRegistry(tmp_path / "home")
    run = registry.start_run("m", "r", {}, None)
    failing = {4.0}
    models = tmp_path / "models" / "m"
    published: dict[float, tuple[CheckpointManifest, str]] = {}

    def export(trained: TrainOutcome) -> tuple[CheckpointManifest, str]:
        step = trained.metrics["step"]
        if step in failing:
            raise error
        if step not in published:
            folder = models / str(len(published) + 1)
            published[step] = write_manifest(folder, run, step), str(folder)
        return published[step]

    at = {step: TrainOutcome(ray.train.Checkpoint("/none"), {"step": step}) for step in (4.0, 8.0, 12.0)}
    outcome = replace(at[12.0], earlier=(at[4.0], at[8.0]))
    for _ in range(2):
        record = RunRecord(inputs_fingerprint="i", mlflow_run_id=run)
        register_checkpoint(registry, config(tmp_path), *export(outcome), record)
        publish_earlier(outcome, config(tmp_path), registry, record, export)
        assert (record.version, record.checkpoint) == (1, str(models / "1"))
        if failing:
            assert "[finetune] the checkpoint of step 4 is left out:" in capsys.readouterr().out
            assert {version.version: version.step for version in registry.versions("m")} == {1: 12, 2: 8}
        failing.clear()
    assert {version.version: version.step for version in registry.versions("m")} == {1: 12, 2: 8, 3: 4}
    assert registry.aliases("m") == {NEWEST: 1}
