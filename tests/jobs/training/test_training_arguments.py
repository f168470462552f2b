"""The Trainer's arguments: what the config does not say."""

from __future__ import annotations

from pathlib import Path

from jobs.training.training_arguments import training_arguments
from tests.jobs.training.backend_contract import backend_config


def test_an_evaluation_takes_no_larger_batches_than_the_training(tiny_oss: Path, tmp_path: Path) -> None:
    """The memory plan is that of a training batch: with larger ones the first evaluation could fill the GPU."""
    arguments = training_arguments(backend_config(tiny_oss), tmp_path, 10, 1, has_heldout=True)
    assert arguments.per_device_eval_batch_size == arguments.per_device_train_batch_size
