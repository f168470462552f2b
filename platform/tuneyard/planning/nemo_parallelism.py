"""How a NeMo run is spread over GPUs, and everything that cannot work, found before a GPU is asked for.

Plain arithmetic, without NeMo: the driver needs none. Defaults are those of the recipes in
nemo/collections/llm/recipes/gpt_oss_20b.py and gpt_oss_120b.py (2.7.3); tests/nemo holds them against the real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError

RecipeName = Literal["gpt_oss_20b", "gpt_oss_120b"]
Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Ranks per model copy along each axis; expert parallelism shares the data-parallel ranks."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    context: int = 1

    @property
    def model_ranks(self) -> int:
        """Ranks that hold one copy of all but the experts."""
        return self.tensor * self.pipeline * self.context


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What parallelism must divide."""

    layers: int
    experts: int
    query_groups: int


RECIPE_PARALLELISM: dict[tuple[RecipeName, Method], Parallelism] = {
    ("gpt_oss_20b", "lora"): Parallelism(),
    ("gpt_oss_20b", "full"): Parallelism(pipeline=2, expert=4),
    ("gpt_oss_120b", "lora"): Parallelism(expert=8),
    ("gpt_oss_120b", "full"): Parallelism(pipeline=4, expert=8),
}
RECIPE_SIZES: dict[RecipeName, ModelSizes] = {
    "gpt_oss_20b": ModelSizes(layers=24, experts=32, query_groups=8),
    "gpt_oss_120b": ModelSizes(layers=36, experts=128, query_groups=8),
}


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Rows per forward pass and rank, and rows per optimizer step over all ranks."""

    micro: int
    global_: int


def resolve_parallelism(config: FinetuneConfig) -> Parallelism:
    """The config's, with the recipe's where the config says null."""
    nemo = config.nemo
    stock = RECIPE_PARALLELISM[nemo.recipe, config.training.method]
    return Parallelism(
        tensor=nemo.tensor_parallel or stock.tensor,
        pipeline=nemo.pipeline_parallel or stock.pipeline,
        expert=nemo.expert_parallel or stock.expert,
        context=nemo.context_parallel or stock.context,
    )


def plan_batch(config: FinetuneConfig) -> BatchPlan:
    """Rows per micro batch and per step: `batch_size_per_worker` is one data-parallel rank's micro batch."""
    training = config.training
    data_ranks = max(1, config.workers.num_workers // resolve_parallelism(config).model_ranks)
    micro = training.batch_size_per_worker
    return BatchPlan(micro, micro * training.gradient_accumulation_steps * data_ranks)


def check_nemo_config(config: FinetuneConfig, base: dict[str, Any] | None = None) -> None:
    """check_parallelism of a config; sizes from `base`, a config.json's content, else those of the recipe."""
    sizes = RECIPE_SIZES[config.nemo.recipe]
    if base is not None:
        sizes = ModelSizes(base["num_hidden_layers"], base["num_local_experts"], base["num_key_value_heads"])
    nodes = math.ceil(config.workers.num_workers / config.nemo.gpus_per_node)
    if config.workers.num_workers % nodes:
        raise ConfigError(
            f"NeMo cannot run this config:\n  {config.workers.num_workers} workers cannot be shared evenly by {nodes} "
            f"nodes of {config.nemo.gpus_per_node} GPUs. Set workers.num_workers to a multiple of {nodes}."
        )
    parallelism = resolve_parallelism(config)
    last_layers = config.training.lora.last_layers
    if config.training.method == "lora" and last_layers is not None and parallelism.pipeline > 1:
        raise ConfigError(
            f"NeMo cannot run this config:\n  training.lora.last_layers={last_layers} with pipeline parallelism "
            f"{parallelism.pipeline}: NeMo counts each stage's layers from 0. Set one of them only."
        )
    check_parallelism(parallelism, sizes, config.workers.num_workers, plan_batch(config), packed=False)


def check_parallelism(
    parallelism: Parallelism, sizes: ModelSizes, world_size: int, batch: BatchPlan, *, packed: bool
) -> None:
    """Raises ConfigError that lists, each with both numbers and the fix, all that Megatron could not run."""
    problems = [
        *_rank_problems(parallelism, world_size),
        *_model_problems(parallelism, sizes),
        *_batch_problems(parallelism, world_size, batch, packed=packed),
    ]
    if problems:
        raise ConfigError("\n  ".join(["NeMo cannot run this config:", *problems]))


def _rank_problems(parallelism: Parallelism, world_size: int) -> list[str]:
    problems = []
    model, p = parallelism.model_ranks, parallelism
    if world_size % model:
        problems.append(
            f"{world_size} workers are no multiple of tensor {p.tensor} × pipeline {p.pipeline} × context {p.context} "
            f"= {model} ranks of one model copy. Set workers.num_workers to a multiple of {model}."
        )
    # Megatron lays expert ranks out over everything but the pipeline; expert tensor parallelism is 1 for GPT-OSS.
    if world_size % (p.expert * p.pipeline):
        needed = p.expert * p.pipeline
        problems.append(
            f"{world_size} workers are no multiple of expert {p.expert} × pipeline {p.pipeline} = {needed}. Set "
            f"workers.num_workers to a multiple of {needed}, or lower the expert parallelism."
        )
    if p.tensor > 1:
        problems.append(
            f"tensor parallelism {p.tensor} trains wrongly: Megatron-Core 0.15 does not keep the experts equal between "
            "tensor ranks (off by up to 2e-2 after one step; with expert parallelism, by 1e-3). Set tensor "
            "parallelism 1."
        )
    return problems


def _model_problems(parallelism: Parallelism, sizes: ModelSizes) -> list[str]:
    pairs = (
        ("pipeline", parallelism.pipeline, "layers", sizes.layers),
        ("expert", parallelism.expert, "experts", sizes.experts),
        ("tensor", parallelism.tensor, "key-value heads", sizes.query_groups),
    )
    return [
        f"the model's {count} {what} cannot be shared by {axis} parallelism {ranks}. Choose a divisor of {count}."
        for axis, ranks, what, count in pairs
        if count % ranks
    ]


def _batch_problems(parallelism: Parallelism, world_size: int, batch: BatchPlan, *, packed: bool) -> list[str]:
    problems = []
    data_ranks = max(1, world_size // parallelism.model_ranks)
    step = batch.micro * data_ranks
    if batch.global_ % step:
        problems.append(
            f"global batch {batch.global_} is no multiple of micro batch {batch.micro} × {data_ranks} data-parallel "
            f"ranks = {step}. Set it to {-(-batch.global_ // step) * step}."
        )
    if packed and batch.micro > 1:
        problems.append(
            f"packed rows need micro batch 1, found {batch.micro}. Set 1: a pack holds several rows already."
        )
    return problems
