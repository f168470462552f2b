"""A run's folder: it resumes with the same inputs, refuses others, and is never deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.runs.run_record import RunFolder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import TrainingError


def config(storage: Path, **run: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(storage), **run},
            "model": {"base": "b"},
            "data": {"train": "t"},
        }
    )


def test_the_same_inputs_resume_with_what_was_saved(tmp_path: Path) -> None:
    folder, record = RunFolder.open(config(tmp_path), "a" * 64)
    record.mlflow_run_id = "run"
    folder.save(record)
    again, reopened = RunFolder.open(config(tmp_path), "a" * 64)
    assert reopened == record
    assert FinetuneConfig.model_validate_json(again.storage.read("config.json") or b"") == config(tmp_path)


def test_other_inputs_are_refused_with_both_fingerprints(tmp_path: Path) -> None:
    RunFolder.open(config(tmp_path), "a" * 64)
    with pytest.raises(TrainingError, match=r"inputs aaaaaaaaaaaa, now bbbbbbbbbbbb.*run.resume=false"):
        RunFolder.open(config(tmp_path), "b" * 64)


def test_starting_over_moves_the_old_run_aside(tmp_path: Path) -> None:
    folder, record = RunFolder.open(config(tmp_path), "a" * 64)
    record.version = 7
    folder.save(record)
    _, fresh = RunFolder.open(config(tmp_path, resume=False), "b" * 64)
    assert fresh.version is None
    (old,) = (tmp_path / "runs").glob("r.old-*")
    assert '"version": 7' in (old / "run.json").read_text()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder, _ = RunFolder.open(config(tmp_path), "a" * 64)
    folder.storage.write("run.json", b"{")
    with pytest.raises(TrainingError, match=r"run\.json is damaged"):
        RunFolder.open(config(tmp_path), "a" * 64)
