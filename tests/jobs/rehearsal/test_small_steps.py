"""The small run's steps: what goes wrong before there is a Ray is a step too."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.rehearsal.report import RehearsalReport
from jobs.rehearsal.small_steps import rehearse_small_run
from tuneyard.configs.finetune import FinetuneConfig


@pytest.mark.parametrize(
    ("rows", "words"), [(None, "train.jsonl"), ('{"messages": 1}', "train.jsonl:1"), ("", "train.jsonl")]
)
def test_data_that_the_small_run_cannot_use_fails_the_step_prepare(
    rows: str | None, words: str, tiny_oss: Path, tmp_path: Path
) -> None:
    if rows is not None:
        (tmp_path / "train.jsonl").write_text(rows)
    config = FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m", "storage": str(tmp_path / "storage")},
            "model": {"base": str(tiny_oss)},
            "data": {"train": str(tmp_path / "train.jsonl")},
        }
    )
    report = RehearsalReport(lambda _: None)
    rehearse_small_run(report, config, tmp_path)
    assert [(result.name, result.status) for result in report.results] == [("prepare", "failed")]
    assert words in report.failed[0].text
    assert report.as_json()["failed_step"] == "prepare"
