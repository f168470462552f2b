"""WandbRun with the real package, which keeps the run in a file in its offline mode."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from jobs.runs.tracking.messages import StartMessage
from jobs.runs.tracking.tracking_process import TrackingProcess
from tuneyard.configs.experiment_tracking import WandbConfig

HAS_WANDB = (spec := importlib.util.find_spec("wandb")) is not None and spec.origin is not None


@pytest.mark.skipif(not HAS_WANDB, reason="the extra wandb is not installed: pip install 'tuneyard[wandb]'")
def test_a_run_is_written_with_its_metrics_and_without_what_is_not_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = WandbConfig(project="the-project", tags=("a-tag",))
    start = StartMessage(run_id="ftjob-1", name="n", folder=str(tmp_path), wandb=config, settings={"base": "tiny-base"})
    notices = []
    process = TrackingProcess(start, notices.append)
    process.log_points([(step, {"loss": 2.0 / step, "eval_loss": 1.5}) for step in (1, 2, 2, 3)])
    process.end({"state": "succeeded", "model": "m/1"}, succeeded=True)
    assert [(notice.kind, notice.text) for notice in notices] == [("run", "offline (WANDB_MODE)")]
    (file,) = tmp_path.glob("wandb/offline-run-*/run-ftjob-1.wandb")
    content = file.read_bytes()
    for text in ("the-project", "a-tag", "tiny-base", "eval_loss", "0.6666666666666666", "succeeded", "m/1"):
        assert text.encode() in content, text
    assert socket.gethostname().encode() not in content
    assert str(Path(__file__).parents[4]).encode() not in content
    assert not list(tmp_path.rglob("requirements.txt"))
