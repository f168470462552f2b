"""Which checkpoint jobs.export takes, and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.export import main
from jobs.runs.checkpoint_export import find_checkpoint
from jobs.runs.run_record import RunFolder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, ConfigError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run without checkpoints."""
    config = FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(tmp_path)},
            "model": {"base": "b"},
            "data": {"train": "t"},
        }
    )
    folder, record = RunFolder.open(config, "a" * 64)
    record.mlflow_run_id = "id"
    folder.save(record)
    return tmp_path / "runs" / "r"


def add_checkpoint(run: Path, name: str) -> Path:
    folder = run / "ray_train" / name
    folder.mkdir(parents=True)
    return folder


def test_a_run_gives_its_newest_checkpoint_and_a_checkpoint_itself(run: Path) -> None:
    first, last = (add_checkpoint(run, f"checkpoint_2026-11-27_17-11-0{second}.5") for second in (3, 4))
    results = [
        {"checkpoint_dir_name": folder.name, "metrics": {"step": step}} for step, folder in ((4, first), (8, last))
    ]
    (run / "ray_train" / "checkpoint_manager_snapshot.json").write_text(json.dumps({"checkpoint_results": results}))
    newest, chosen = find_checkpoint(run, None, []), find_checkpoint(first, None, [])
    assert (newest.folder, newest.metrics, newest.run_id) == (last, {"step": 8}, "id")
    assert (chosen.folder, chosen.metrics, chosen.config) == (first, {"step": 4}, newest.config)


def test_a_checkpoint_that_is_still_written_is_not_the_newest(run: Path) -> None:
    """Ray Train copies the files of a checkpoint into its folder, and lists the folder when it is complete."""
    complete = add_checkpoint(run, "checkpoint_2026-11-27_17-11-03.5")
    add_checkpoint(run, "checkpoint_2026-11-27_17-11-04.5")
    state = {"checkpoint_results": [{"checkpoint_dir_name": complete.name, "metrics": {"step": 4}}]}
    (run / "ray_train" / "checkpoint_manager_snapshot.json").write_text(json.dumps(state))
    assert find_checkpoint(run, None, []).folder == complete


def test_a_nemo_checkpoint_has_the_step_of_its_name(run: Path) -> None:
    folder = run / "nemo" / "step-0000300"
    folder.mkdir(parents=True)
    assert find_checkpoint(folder, None, []).metrics == {"step": 300.0}


def test_what_cannot_be_exported_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"this run has no checkpoint yet. It writes one every training\."):
        find_checkpoint(run, None, [])
    with pytest.raises(CheckpointError, match=r"no such folder\. Give the folder of a run"):
        find_checkpoint(tmp_path / "nowhere", None, [])
    with pytest.raises(ConfigError, match=r"does not lie in the folder of a run.*Add --config FILE"):
        find_checkpoint(tmp_path, None, [])
    with pytest.raises(ConfigError, match="--set changes fields of --config"):
        find_checkpoint(run, None, ["run.model_name=x"])
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
