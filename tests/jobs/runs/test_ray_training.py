"""Which of the checkpoints that training kept are exported."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import ray.train
from hypothesis import given

from jobs.runs.ray_training import TrainOutcome, choose_checkpoints
from tests.jobs.runs.test_run_record import config
from tuneyard.core.errors import TrainingError


def saved(step: int, **metrics: float) -> TrainOutcome:
    return TrainOutcome(ray.train.Checkpoint(f"/runs/r/checkpoint_{step}"), {"step": step, **metrics})


def steps(outcome: TrainOutcome) -> list[float]:
    return [each.metrics["step"] for each in (*outcome.earlier, outcome)]


@given(kept=st.sets(st.integers(1, 40), min_size=1, max_size=4), count=st.integers(1, 3))
def test_the_last_ones_are_exported_oldest_first(kept: set[int], count: int) -> None:
    run = config(Path("/storage"), exported_checkpoints=count)
    chosen = choose_checkpoints(run, [saved(step) for step in kept], saved(max(kept)))
    assert steps(chosen) == sorted(kept)[-count:]
    assert all(not each.earlier for each in chosen.earlier)


def test_with_early_stopping_the_last_one_is_the_best() -> None:
    """The manifest has the step of the exported checkpoint, and not that at which training ended."""
    run = config(Path("/storage"), exported_checkpoints=3)
    run = run.model_copy(update={"training": run.training.model_copy(update={"early_stopping_patience": 1})})
    kept = [saved(12, eval_loss=0.9), saved(4, eval_loss=0.8), saved(8, eval_loss=0.5)]
    assert steps(choose_checkpoints(run, kept, saved(12))) == [4, 8]


def test_a_run_without_a_step_has_nothing_to_export() -> None:
    with pytest.raises(TrainingError, match=r"Raise training\.epochs"):
        choose_checkpoints(config(Path("/storage")), [], None)
