"""Which runs are tracked, under which id, and what leaves the cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.runs.tracking.opening import open_tracking, public_settings
from tuneyard.checkpoints.registry import RUN_FOLDER
from tuneyard.configs.finetune import FinetuneConfig

WRITES_START = """
import sys
from jobs.runs.tracking.messages import Notice
open(sys.argv[1], "w").write(sys.stdin.readline())
print(Notice(kind="run", text="https://wandb.example/r").as_line(), end="")
print(Notice(kind="warning", text="the server is lost").as_line(), end="")
"""
PARAMS = {"base": "s3://bucket/bases/gpt-oss-20b?region=eu", RUN_FOLDER: "/mnt/secret/runs/r", "training.epochs": "2"}


def config(folder: Path, wandb: dict[str, Any] | None) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(folder)},
            "model": {"base": str(folder / "base")},
            "data": {"train": str(folder / "chats.jsonl")},
            "wandb": wandb,
        }
    )


def test_a_run_whose_config_names_no_service_has_none(tmp_path: Path) -> None:
    assert open_tracking(config(tmp_path, None), PARAMS, "a" * 32, {}.__setitem__) is None


@pytest.mark.parametrize(("run_id", "expected"), [(None, "r-aaaaaaaa"), ("ftjob-1", "ftjob-1")])
def test_a_run_is_opened_with_its_settings_and_tells_the_registry(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], run_id: str | None, expected: str
) -> None:
    tags: dict[str, str] = {}
    command = (sys.executable, "-c", WRITES_START, str(tmp_path / "start"))
    asked = config(tmp_path, {"project": "p", "tags": ["one"], "run_id": run_id})
    process = open_tracking(asked, PARAMS, "a" * 32, tags.__setitem__, command)
    assert process is not None
    process.end({}, succeeded=True)
    start = json.loads((tmp_path / "start").read_text())
    assert (start["run_id"], start["name"], start["wandb"]["tags"]) == (expected, "r", ["one"])
    assert start["settings"] == {"base": "gpt-oss-20b", "training.epochs": 2}
    assert start["folder"] == str(tmp_path / "runs" / "r" / "wandb")
    assert tags == {"wandb.run": "https://wandb.example/r", "wandb.warning": "the server is lost"}
    assert "Weights & Biases: the server is lost. Training is not affected" in capfd.readouterr().out


def test_a_process_that_cannot_start_costs_a_warning(tmp_path: Path) -> None:
    tags: dict[str, str] = {}
    asked = config(tmp_path, {"project": "p"})
    assert open_tracking(asked, PARAMS, "a" * 32, tags.__setitem__, (str(tmp_path / "none"),)) is None
    assert tags["wandb.warning"].startswith("its process cannot start: ")


def test_settings_hold_no_locations() -> None:
    params = {"base": "/mnt/models/base", RUN_FOLDER: "/x", "base_digest": "12e34"}
    training = {"training.learning_rate": "0.005", "training.method": "lora", "training.max_steps": "None"}
    assert public_settings(params | training) == {
        "base": "base",
        "base_digest": "12e34",
        "training.learning_rate": 0.005,
        "training.method": "lora",
        "training.max_steps": "None",
    }
