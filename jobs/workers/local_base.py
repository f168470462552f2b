"""A run's base model as a folder of this node, also when `model.base` lies on an object store."""

from __future__ import annotations

from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.configs.finetune import FinetuneConfig


def with_local_base(config: FinetuneConfig, *, weights: bool = True) -> FinetuneConfig:
    """The config with `model.base` replaced by a folder that this process can read.

    A base on an object store is copied into the node's cache; `weights=False` copies config and tokenizer only.
    Raises CheckpointError, StorageError or StorageFullError when that fails, and CheckpointError for a base that is not
    safe to load.
    """
    folder = local_folder(config.model.base, weights=weights)
    check_safety(folder)
    return config.model_copy(update={"model": config.model.model_copy(update={"base": str(folder)})})
