"""What Megatron-Core cannot run is refused with both numbers, on any machine, without NeMo."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.planning.nemo_checks import check_parallelism
from tuneyard.planning.nemo_parallelism import RECIPE_PARALLELISM, RECIPE_SIZES, BatchPlan, ModelSizes, Parallelism
from tuneyard.planning.nemo_recipe_values import recipe_values

SMALL = ModelSizes(layers=24, experts=32, query_groups=8)


@pytest.mark.parametrize(
    ("recipe", "world_size"),
    [
        (("gpt_oss_20b", "lora"), 8),
        (("gpt_oss_20b", "full"), 8),
        (("gpt_oss_120b", "lora"), 8),
        (("gpt_oss_120b", "full"), 32),
    ],
)
def test_the_recipes_run_where_they_can(recipe: tuple[str, str], world_size: int) -> None:
    parallelism, sizes = RECIPE_PARALLELISM[recipe], RECIPE_SIZES[recipe[0]]  # type: ignore[index]
    check_parallelism(parallelism, sizes, world_size, BatchPlan(1, 128), packed=False)


def test_the_stock_120b_recipe_for_8_gpus_is_refused() -> None:
    """NeMo builds it without an error, but it needs 32."""
    parallelism = RECIPE_PARALLELISM["gpt_oss_120b", "full"]
    with pytest.raises(ConfigError, match=r"8 workers are not a multiple of expert 8 × pipeline 4 = 32"):
        check_parallelism(parallelism, RECIPE_SIZES["gpt_oss_120b"], 8, BatchPlan(1, 128), packed=False)


@pytest.mark.parametrize(
    ("parallelism", "world_size", "batch", "packed", "message"),
    [
        (Parallelism(pipeline=3), 8, BatchPlan(1, 8), False, r"8 workers are not a multiple of .* = 3 ranks"),
        (Parallelism(pipeline=5), 5, BatchPlan(1, 8), False, r"24 layers cannot be divided by pipeline parallel"),
        (Parallelism(expert=7), 7, BatchPlan(1, 7), False, r"32 experts cannot be divided by expert parallelism 7"),
        (Parallelism(context=3), 3, BatchPlan(1, 1), False, r"8 key-value heads cannot be divided by context parallel"),
        (Parallelism(tensor=2), 2, BatchPlan(1, 8), False, r"tensor parallelism 2 trains incorrectly"),
        (Parallelism(), 4, BatchPlan(2, 12), False, r"global batch 12 is not a multiple of .* = 8. Set it to 16"),
        (Parallelism(), 1, BatchPlan(2, 2), True, r"packed rows need micro batch 1, found 2"),
    ],
)
def test_what_cannot_run_is_named(
    parallelism: Parallelism, world_size: int, batch: BatchPlan, packed: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parallelism(parallelism, SMALL, world_size, batch, packed=packed)


@given(
    pipeline=st.sampled_from([1, 2, 3, 4]),
    expert=st.sampled_from([1, 2, 4, 8]),
    world_size=st.integers(1, 64),
    micro=st.integers(1, 4),
    steps=st.integers(1, 4),
)
def test_whatever_passes_divides_evenly(pipeline: int, expert: int, world_size: int, micro: int, steps: int) -> None:
    parallelism = Parallelism(pipeline=pipeline, expert=expert)
    batch = BatchPlan(micro, micro * steps * max(1, world_size // pipeline))
    try:
        check_parallelism(parallelism, SMALL, world_size, batch, packed=False)
    except ConfigError as e:
        assert str(world_size) in str(e)
        return
    assert world_size % pipeline == 0
    assert world_size % (expert * pipeline) == 0
    assert batch.global_ % (micro * world_size // pipeline) == 0


def test_context_parallelism_is_of_the_kind_that_sinks_allow() -> None:
    config = FinetuneConfig.model_validate(
        {
            "run": {"name": "r", "model_name": "m"},
            "model": {"base": "b"},
            "data": {"train": "t"},
            "training": {"backend": "nemo"},
            "workers": {"num_workers": 2},
        }
    )
    assert "model.config.cp_comm_type" not in recipe_values(config)
    nemo = config.nemo.model_copy(update={"context_parallel": 2})
    assert recipe_values(config.model_copy(update={"nemo": nemo}))["model.config.cp_comm_type"] == "a2a"
