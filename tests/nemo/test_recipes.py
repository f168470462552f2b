"""The recipes' defaults are those that the driver reckons with."""

from __future__ import annotations

import pytest

from tuneyard.nemo_parallelism import RECIPE_PARALLELISM, RECIPE_SIZES, ModelSizes, Parallelism

pytestmark = pytest.mark.nemo


@pytest.mark.usefixtures("nemo_fixes")
@pytest.mark.parametrize(("name", "method"), list(RECIPE_PARALLELISM))
def test_defaults(name: str, method: str) -> None:
    from nemo.collections import llm

    scheme = "lora" if method == "lora" else "none"
    recipe = getattr(llm, name).finetune_recipe(name="r", dir="/nowhere", peft_scheme=scheme)
    strategy = recipe.trainer.strategy
    found = Parallelism(
        tensor=strategy.tensor_model_parallel_size,
        pipeline=strategy.pipeline_model_parallel_size,
        expert=strategy.expert_model_parallel_size,
        context=strategy.context_parallel_size,
    )
    assert found == RECIPE_PARALLELISM[name, method]  # type: ignore[index]
    config = recipe.model.config
    sizes = ModelSizes(config.num_layers, config.num_moe_experts, config.num_query_groups)
    assert sizes == RECIPE_SIZES[name]  # type: ignore[index]
