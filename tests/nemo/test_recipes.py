"""NeMo's four recipes: their defaults are those in tuneyard.planning, and they accept the shipped configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.jobs.training.backend_contract import stored, token_rows
from tests.nemo.recipe_table import CONFIGS, FOLDER, table
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config
from tuneyard.planning.nemo_parallelism import RECIPE_PARALLELISM, RECIPE_SIZES, ModelSizes, Parallelism
from tuneyard.planning.nemo_recipe_values import recipe_values

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]


@pytest.mark.parametrize(("name", "method"), list(RECIPE_PARALLELISM))
def test_defaults(name: str, method: str) -> None:
    from nemo.collections import llm

    scheme = "lora" if method == "lora" else "none"
    recipe = getattr(llm, name).finetune_recipe(name="r", dir="/nowhere", peft_scheme=scheme)
    strategy = recipe.trainer.strategy
    parallelism = Parallelism(
        tensor=strategy.tensor_model_parallel_size,
        pipeline=strategy.pipeline_model_parallel_size,
        expert=strategy.expert_model_parallel_size,
        context=strategy.context_parallel_size,
    )
    assert parallelism == RECIPE_PARALLELISM[name, method]  # type: ignore[index]
    config = recipe.model.config
    sizes = ModelSizes(config.num_layers, config.num_moe_experts, config.num_query_groups)
    assert sizes == RECIPE_SIZES[name]  # type: ignore[index]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_build_recipes(name: str, tiny_oss: Path, tmp_path: Path) -> None:
    """With a base whose config.json has the published sizes; its weights are those of the tiny model."""
    import fiddle

    from jobs.nemo_recipe import build_recipe

    base = tmp_path / "base"
    base.mkdir()
    shutil.copy(tiny_oss / "model.safetensors", base)  # nemo_base(config) reads the files' sizes
    source = json.loads((tiny_oss / "config.json").read_text())
    sizes = RECIPE_SIZES["gpt_oss_120b" if "120b" in name else "gpt_oss_20b"]
    source |= {
        "num_hidden_layers": sizes.layers,
        "num_local_experts": sizes.experts,
        "num_key_value_heads": sizes.query_groups,
    }
    (base / "config.json").write_text(json.dumps(source))
    config = load_config(FinetuneConfig, FOLDER / f"{name}.yaml", [f"model.base={base}"])
    tokens = stored(token_rows(tiny_oss), tmp_path / "tokens")
    recipe = build_recipe(config, tokens)
    for field, value in recipe_values(config).items():
        built = recipe
        for name_part in field.split("."):
            built = getattr(built, name_part)
        assert built == value, field
    strategy, model = fiddle.build(recipe.trainer.strategy), fiddle.build(recipe.model)
    assert fiddle.build(recipe.optim.config).lr == {"lora": 1e-4, "full": 5e-6}[config.training.method]
    assert strategy.expert_model_parallel_size == RECIPE_PARALLELISM[config.nemo.recipe, config.training.method].expert
    assert model.config.num_moe_experts == sizes.experts
    assert recipe.trainer.max_steps == 3 * -(-24 // recipe.data.global_batch_size)


def test_the_table_in_the_docs_is_up_to_date() -> None:
    text = Path("docs/nemo.md").read_text(encoding="utf-8")
    assert "\n\n" + "\n".join(table()) + "\n\n" in text, (
        "Replace the table with the output of: python -m tests.nemo.recipe_table"
    )
