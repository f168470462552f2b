"""The fully finetuned model of a checkpoint, whole and in fp32, in the main memory of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException

from jobs.training.model_loading import empty_dequantised
from jobs.training.sharding.sharded_state import is_sharded_checkpoint, load_weights
from jobs.training.trainable_model import load_for_run
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError


def load_trained_model(config: FinetuneConfig, checkpoint: Path) -> Any:
    """The model of a checkpoint of full finetuning. Memory is that of one copy, also for a sharded checkpoint.

    Raises CheckpointError if files of a sharded checkpoint are missing or do not fit the base.
    """
    if not is_sharded_checkpoint(checkpoint):
        return load_for_run(checkpoint, config, torch.float32).eval()
    experts = config.model.experts_implementation
    model = empty_dequantised(config.model.folder, torch.float32, on_gpu=False, experts=experts)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(torch.empty_like(weight, device="cpu")))
    try:
        load_weights(model, checkpoint)
    except CheckpointException as e:
        error, _ = next(iter(e.failures.values()))
        raise CheckpointError(f"{checkpoint} cannot be exported: {error}") from e
    return model.eval()
