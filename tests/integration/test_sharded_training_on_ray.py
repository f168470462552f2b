"""A sharded run (FSDP2) of two Ray Train workers: a worker is killed, the run goes on, and its export is proved."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.integration.conftest import finetune_command, write_finetune_config
from tests.integration.processes import running
from tests.integration.test_finetune_on_ray import logged_steps
from tests.mxfp4_base import publish_mxfp4
from tuneyard.checkpoints.validation import validate_hf_checkpoint

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.long)])
def test_a_sharded_run_continues_after_a_killed_worker(tiny_oss: Path, tmp_path: Path, method: str) -> None:
    """Of one method, unless it is asked for: tests/jobs/training/sharding has all of them without Ray, sooner."""
    base = tmp_path / "published"
    publish_mxfp4(tiny_oss, base)
    config = write_finetune_config(
        tmp_path,
        base,
        {"workers": {"num_workers": 2, "min_workers": 1}},
        method=method,
        sharding="fsdp2",
        max_steps=24,
        checkpoint_every_steps=4,
        gradient_accumulation_steps=2,
        early_stopping_patience=100,
    )
    home = tmp_path / "home"
    snapshot = home / "runs" / "tiny" / "ray_train" / "checkpoint_manager_snapshot.json"
    with running(tmp_path, home, *finetune_command(config)) as command:
        command.wait_for(lambda: snapshot.exists() and "checkpoint_" in snapshot.read_text(), "first checkpoint")
        command.kill_training_worker()
        assert command.process.wait(300) == 0, command.output
    losses = logged_steps(home, "loss")
    steps = [step for step, _ in losses]
    assert set(steps) == set(range(1, 25))
    # No step is repeated if the worker died before the step after the checkpoint.
    restarts = [step for before, step in itertools.pairwise(steps) if step <= before]
    assert all(step > 4 for step in restarts), "the run started again at its beginning"
    first: dict[int, float] = {}
    for step, loss in losses:
        assert loss == pytest.approx(first.setdefault(step, loss), rel=1e-4), step
    manifest = validate_hf_checkpoint(home / "models" / "tiny-support" / "1", base=base)
    assert manifest.proof["mean_kl"] < 0.01
