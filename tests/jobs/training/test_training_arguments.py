"""The Trainer's arguments: what the config does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.training.training_arguments import CHECKPOINTING, check_device, training_arguments
from tests.jobs.training.backend_contract import backend_config
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ClusterError, ConfigError


def test_an_evaluation_takes_no_larger_batches_than_the_training(tiny_oss: Path, tmp_path: Path) -> None:
    """The memory plan is that of a training batch: with larger ones the first evaluation could fill the GPU."""
    arguments = training_arguments(backend_config(tiny_oss), tmp_path, 10, 1, has_heldout=True)
    assert arguments.per_device_eval_batch_size == arguments.per_device_train_batch_size


@pytest.mark.parametrize(("precision", "is_on"), [("bf16", True), ("fp32", False)])
def test_the_trainer_gets_precision_and_checkpointing(
    tiny_oss: Path, tmp_path: Path, precision: str, is_on: bool
) -> None:
    """Neither changes a loss by much, so only the memory of a GPU would show that one was lost."""
    config = backend_config(tiny_oss, precision=precision, gradient_checkpointing=is_on)
    arguments = training_arguments(config, tmp_path, 10, 1, has_heldout=False)
    assert (arguments.bf16, getattr(arguments, CHECKPOINTING)) == (is_on, is_on)


def _on_gpu(base: Path, precision: str | None) -> FinetuneConfig:
    config = backend_config(base, precision=precision)
    return config.model_copy(update={"workers": config.workers.model_copy(update={"use_gpu": True})})


def test_bf16_on_a_gpu_without_it_is_an_error_that_is_not_tried_again(tiny_oss: Path) -> None:
    """Ray Train tries again what is no TuneyardError: tests/jobs/workers/test_failure_policy.py."""
    for precision in ("bf16", None):
        with pytest.raises(ConfigError, match=r"the GPU of a worker on .* Set training.precision to fp32"):
            check_device(_on_gpu(tiny_oss, precision), has_gpu=True, has_bf16=False)
        check_device(_on_gpu(tiny_oss, precision), has_gpu=True, has_bf16=True)
    check_device(_on_gpu(tiny_oss, "fp32"), has_gpu=True, has_bf16=False)
    check_device(backend_config(tiny_oss, precision="bf16"), has_gpu=False, has_bf16=False)


def test_a_worker_without_a_gpu_does_not_train_on_its_cpu_instead(tiny_oss: Path) -> None:
    with pytest.raises(ClusterError, match=r"workers.use_gpu is true, but PyTorch finds no GPU"):
        check_device(_on_gpu(tiny_oss, "fp32"), has_gpu=False, has_bf16=False)
