"""How a NeMo run is distributed over GPUs: parallelism, batch sizes, and the values of NeMo's recipes.

Plain arithmetic, because NeMo is not installed where the driver runs. The recipes' values are those of
nemo/collections/llm/recipes/gpt_oss_20b.py and gpt_oss_120b.py (2.7.3); tests/nemo compares them with the real recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.published_models import PUBLISHED

RecipeName = Literal["gpt_oss_20b", "gpt_oss_120b"]
Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Number of ranks along each axis. A rank is one worker process with one GPU.

    Expert parallelism takes no ranks of its own: it uses those of data parallelism.
    """

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    context: int = 1

    @property
    def model_ranks(self) -> int:
        """Ranks that together hold one copy of the model, without its experts."""
        return self.tensor * self.pipeline * self.context


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """The numbers of a model that parallelism must divide."""

    layers: int
    experts: int
    query_groups: int
    """Key-value heads."""

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> ModelSizes:
        """The sizes in the content of a config.json."""
        return cls(model["num_hidden_layers"], model["num_local_experts"], model["num_key_value_heads"])


RECIPE_PARALLELISM: dict[tuple[RecipeName, Method], Parallelism] = {
    ("gpt_oss_20b", "lora"): Parallelism(),
    ("gpt_oss_20b", "full"): Parallelism(pipeline=2, expert=4),
    ("gpt_oss_120b", "lora"): Parallelism(expert=8),
    ("gpt_oss_120b", "full"): Parallelism(pipeline=4, expert=8),
}
RECIPE_SIZES: dict[RecipeName, ModelSizes] = {
    "gpt_oss_20b": ModelSizes.of(PUBLISHED["20b"]),
    "gpt_oss_120b": ModelSizes.of(PUBLISHED["120b"]),
}


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """NeMo's batch sizes in rows."""

    micro: int
    """Rows per forward pass of one model copy."""
    global_: int
    """Rows per optimizer step of the whole run."""


def resolve_parallelism(config: FinetuneConfig) -> Parallelism:
    """The parallelism of a run: the config's values, with the recipe's where the config has null."""
    nemo = config.nemo
    recipe = RECIPE_PARALLELISM[nemo.recipe, config.training.method]
    return Parallelism(
        tensor=nemo.tensor_parallel or recipe.tensor,
        pipeline=nemo.pipeline_parallel or recipe.pipeline,
        expert=nemo.expert_parallel or recipe.expert,
        context=nemo.context_parallel or recipe.context,
    )


def plan_batch(config: FinetuneConfig) -> BatchPlan:
    """The batch sizes of a run. `batch_size_per_worker` is the micro batch of one model copy, not of one GPU."""
    training = config.training
    data_ranks = max(1, config.workers.num_workers // resolve_parallelism(config).model_ranks)
    micro = training.batch_size_per_worker
    return BatchPlan(micro, micro * training.gradient_accumulation_steps * data_ranks)
