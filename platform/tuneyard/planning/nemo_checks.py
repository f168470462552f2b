"""Refuses a NeMo run that Megatron-Core cannot train, before any GPU is requested."""

from __future__ import annotations

import math
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.wording import listed
from tuneyard.planning.nemo_parallelism import (
    RECIPE_SIZES,
    BatchPlan,
    ModelSizes,
    Parallelism,
    plan_batch,
    resolve_parallelism,
)


def check_nemo_config(config: FinetuneConfig, base: dict[str, Any] | None = None) -> None:
    """Raises ConfigError if NeMo cannot run the config.

    `base` is the content of the base's config.json; None uses the sizes of the config's recipe.
    """
    sizes = RECIPE_SIZES[config.nemo.recipe]
    if base is not None:
        sizes = ModelSizes(base["num_hidden_layers"], base["num_local_experts"], base["num_key_value_heads"])
    parallelism = resolve_parallelism(config)
    if problems := [*_node_problems(config), *_last_layers_problems(config, parallelism)]:
        raise _refusal(problems)
    check_parallelism(parallelism, sizes, config.workers.num_workers, plan_batch(config), packed=False)


def check_parallelism(
    parallelism: Parallelism, sizes: ModelSizes, world_size: int, batch: BatchPlan, *, packed: bool
) -> None:
    """Raises one ConfigError that lists every problem, each with both numbers and the fix.

    `world_size` is the number of workers, each with one GPU.
    """
    problems = [
        *_rank_problems(parallelism, world_size),
        *_model_problems(parallelism, sizes),
        *_batch_problems(parallelism, world_size, batch, packed=packed),
    ]
    if problems:
        raise _refusal(problems)


def _refusal(problems: list[str]) -> ConfigError:
    return ConfigError(f"NeMo cannot run this config:\n{listed(problems)}")


def _node_problems(config: FinetuneConfig) -> list[str]:
    nodes = math.ceil(config.workers.num_workers / config.nemo.gpus_per_node)
    if config.workers.num_workers % nodes == 0:
        return []
    return [
        f"{config.workers.num_workers} workers cannot be distributed evenly over {nodes} nodes of "
        f"{config.nemo.gpus_per_node} GPUs. Set workers.num_workers to a multiple of {nodes}."
    ]


def _last_layers_problems(config: FinetuneConfig, parallelism: Parallelism) -> list[str]:
    last_layers = config.training.lora.last_layers
    if config.training.method != "lora" or last_layers is None or parallelism.pipeline == 1:
        return []
    return [
        f"training.lora.last_layers={last_layers} cannot be combined with pipeline parallelism {parallelism.pipeline}, "
        "because NeMo counts the layers of each stage from 0. Set only one of them."
    ]


def _rank_problems(parallelism: Parallelism, world_size: int) -> list[str]:
    problems = []
    model_ranks, p = parallelism.model_ranks, parallelism
    if world_size % model_ranks:
        problems.append(
            f"{world_size} workers are not a multiple of tensor {p.tensor} × pipeline {p.pipeline} × context "
            f"{p.context} = {model_ranks} ranks of one model copy. Set workers.num_workers to a multiple of "
            f"{model_ranks}."
        )
    # Megatron distributes experts over all ranks of a pipeline stage. Expert tensor parallelism is 1 for GPT-OSS.
    expert_ranks = p.expert * p.pipeline
    if world_size % expert_ranks:
        problems.append(
            f"{world_size} workers are not a multiple of expert {p.expert} × pipeline {p.pipeline} = {expert_ranks}. "
            f"Set workers.num_workers to a multiple of {expert_ranks}, or lower nemo.expert_parallel."
        )
    if p.tensor > 1:
        problems.append(
            f"tensor parallelism {p.tensor} trains incorrectly: Megatron-Core 0.15 does not keep the experts equal on "
            "all tensor ranks (they differ by up to 2e-2 after one step; with expert parallelism by 1e-3). Set "
            "nemo.tensor_parallel to 1."
        )
    return problems


def _model_problems(parallelism: Parallelism, sizes: ModelSizes) -> list[str]:
    pairs = (
        ("pipeline", parallelism.pipeline, "layers", sizes.layers),
        ("expert", parallelism.expert, "experts", sizes.experts),
        ("tensor", parallelism.tensor, "key-value heads", sizes.query_groups),
        # a2a gives each context rank all positions of a part of the heads.
        ("context", parallelism.context, "key-value heads", sizes.query_groups),
    )
    return [
        f"the model's {count} {noun} cannot be divided by {axis} parallelism {ranks}. Set nemo.{axis}_parallel to a "
        f"divisor of {count}."
        for axis, ranks, noun, count in pairs
        if count % ranks
    ]


def _batch_problems(parallelism: Parallelism, world_size: int, batch: BatchPlan, *, packed: bool) -> list[str]:
    problems = []
    data_ranks = max(1, world_size // parallelism.model_ranks)
    rows = batch.micro * data_ranks
    if batch.global_ % rows:
        problems.append(
            f"global batch {batch.global_} is not a multiple of micro batch {batch.micro} × {data_ranks} data-parallel "
            f"ranks = {rows}. Set it to {-(-batch.global_ // rows) * rows}."
        )
    if packed and batch.micro > 1:
        problems.append(
            f"packed rows need micro batch 1, found {batch.micro}. Set it to 1: a pack already holds several rows."
        )
    return problems
