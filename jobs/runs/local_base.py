"""A run's base where this process can read it, wherever it lies."""

from __future__ import annotations

from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.configs.finetune import FinetuneConfig


def with_local_base(config: FinetuneConfig, *, weights: bool = True) -> FinetuneConfig:
    """The config with `model.base` as a folder of this node: the base itself, or a copy out of the node's cache."""
    folder = local_folder(config.model.base, weights=weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"base": str(folder)})})
