"""MegatronStrategy in a process group that Ray Train, or torchrun, has made."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from megatron.core import parallel_state
from nemo.lightning import _strategy_lib

GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What tells a process of its group; one outside of it must not inherit them."""


def local_world_size() -> int:
    """Ranks on this node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


class GroupEnvironment(TorchElasticEnvironment):
    """Ranks as the existing group has them."""

    def world_size(self) -> int:
        return dist.get_world_size()

    def global_rank(self) -> int:
        return dist.get_rank()

    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", 0))


def keep_process_group(strategy: Any) -> None:
    """Makes a MegatronStrategy use the group that exists; without one it is left as it is.

    NeMo returns from setup_distributed early when a group exists, before it makes Megatron's own groups
    (nemo/lightning/pytorch/strategies/megatron_strategy.py, 2.7.3).
    """
    if not dist.is_initialized():
        return
    strategy.cluster_environment = GroupEnvironment()
    strategy._configure_launcher = lambda *_, **__: None  # every rank runs already
    set_up = strategy.setup_distributed

    def set_up_model_parallel_too() -> None:
        set_up()
        if not parallel_state.model_parallel_is_initialized():
            _strategy_lib.init_model_parallel(strategy.model)
            if strategy.data_sampler:
                strategy.data_sampler.setup(strategy.cluster_environment.global_rank())

    strategy.setup_distributed = set_up_model_parallel_too
