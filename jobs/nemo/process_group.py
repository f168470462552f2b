"""Runs NeMo's MegatronStrategy in a process group that Ray Train or torchrun has created."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from megatron.core import parallel_state
from nemo.lightning import _strategy_lib

import jobs.nemo.setup.patched


def local_world_size() -> int:
    """Number of ranks on this node; 1 without a process group."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


class ExistingGroupEnvironment(TorchElasticEnvironment):
    """Lightning's cluster environment with the ranks of the existing process group."""

    def world_size(self) -> int:
        return dist.get_world_size()

    def global_rank(self) -> int:
        return dist.get_rank()

    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", 0))


def use_existing_process_group(strategy: Any) -> None:
    """Makes a MegatronStrategy use the existing process group; changes nothing if there is none.

    If a group exists, NeMo returns from setup_distributed before it creates Megatron's own groups
    (nemo/lightning/pytorch/strategies/megatron_strategy.py, 2.7.3). The strategy is patched to create them.
    """
    if not dist.is_initialized():
        return
    strategy.cluster_environment = ExistingGroupEnvironment()
    strategy._configure_launcher = lambda *_, **__: None  # all ranks are running already
    setup_distributed = strategy.setup_distributed

    def setup_distributed_and_megatron() -> None:
        setup_distributed()
        if not parallel_state.model_parallel_is_initialized():
            _strategy_lib.init_model_parallel(strategy.model)
            if strategy.data_sampler:
                strategy.data_sampler.setup(strategy.cluster_environment.global_rank())

    strategy.setup_distributed = setup_distributed_and_megatron
