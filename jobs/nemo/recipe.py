"""FinetuneConfig -> NeMo's own GPT-OSS recipe with our values: for Ray Train workers and for any NeMo-Run executor.

The public way in is jobs.nemo_recipe.build_recipe.
"""

from __future__ import annotations

import json
from typing import Any

from jobs.nemo.fixes import apply_fixes

apply_fixes()

import nemo_run as run  # noqa: E402
import torch  # noqa: E402
from nemo.collections import llm  # noqa: E402
from nemo.collections.llm.recipes.precision.mixed_precision import bf16_mixed  # noqa: E402
from nemo.lightning import MegatronMixedPrecision  # noqa: E402

from jobs.nemo.connectors import model_fields  # noqa: E402
from jobs.nemo.data import TokenStoreDataModule  # noqa: E402
from jobs.nemo.folders import checkpoint_folder, nemo_base  # noqa: E402
from jobs.nemo.schedule import TransformersSchedule  # noqa: E402
from jobs.training.backend import TokenFiles  # noqa: E402
from jobs.training.row_order import steps_of_run  # noqa: E402
from tuneyard.configs.finetune import FinetuneConfig  # noqa: E402
from tuneyard.planning.nemo_parallelism import check_nemo_config, plan_batch  # noqa: E402
from tuneyard.planning.nemo_recipe_values import recipe_values  # noqa: E402
from tuneyard.training_data.token_store import open_token_rows  # noqa: E402


def build_recipe(config: FinetuneConfig, tokens: TokenFiles) -> run.Partial:
    """`llm.<recipe>.finetune_recipe` as a run.Partial of `llm.finetune`, with the config's data, model sizes,
    parallelism, optimizer, schedule, checkpoints and base.

    The base must have been imported to `nemo_base(config)` (jobs.nemo.folders). Raises ConfigError for what Megatron
    could not run.
    """
    base = json.loads((config.model.folder / "config.json").read_text(encoding="utf-8"))
    check_nemo_config(config, base)
    training, batch = config.training, plan_batch(config)
    steps = steps_of_run(len(open_token_rows(tokens.train)), batch.global_, training.epochs, training.max_steps)
    recipe = stock_recipe(config)
    recipe.model = run.Config(llm.GPTOSSModel, config=run.Config(llm.GPTOSSConfig, **model_fields(base)))
    recipe.data = run.Config(
        TokenStoreDataModule,
        train=str(tokens.train),
        heldout=str(tokens.heldout) if tokens.heldout else None,
        max_steps=steps.total,
    )
    recipe.optim.lr_scheduler = run.Config(TransformersSchedule)
    recipe.trainer.plugins = megatron_precision(config)
    recipe.trainer.strategy.pipeline_dtype = recipe.trainer.plugins.pipeline_dtype
    if training.method == "lora":
        recipe.peft.target_modules = _adapted_modules(config, base["num_hidden_layers"])
    recipe.trainer.max_steps = steps.total
    recipe.trainer.val_check_interval = min(training.eval_every_steps or steps.per_epoch, steps.total)
    recipe.log.ckpt.every_n_train_steps = training.checkpoint_every_steps or steps.per_epoch
    recipe.resume.restore_config.path = str(nemo_base(config))
    for field, value in recipe_values(config).items():
        set_field(recipe, field, value)
    return recipe


def stock_recipe(config: FinetuneConfig) -> run.Partial:
    """NeMo's own recipe for the config's name and method."""
    finetune_recipe = getattr(llm, config.nemo.recipe).finetune_recipe
    scheme = "lora" if config.training.method == "lora" else "none"
    return finetune_recipe(name=config.run.name, dir=str(checkpoint_folder(config)), peft_scheme=scheme)


def set_field(recipe: Any, field: str, value: Any) -> None:
    """Sets a dotted field of nested run.Configs."""
    *parents, name = field.split(".")
    for parent in parents:
        recipe = getattr(recipe, parent)
    setattr(recipe, name, value)


def megatron_precision(config: FinetuneConfig) -> run.Config[MegatronMixedPrecision]:
    """The recipes' bf16 with fp32 gradients and main weights, or plain fp32."""
    if config.training.precision == "bf16":
        return bf16_mixed()
    return run.Config(
        MegatronMixedPrecision,
        precision="32",
        params_dtype=torch.float32,
        pipeline_dtype=torch.float32,
        autocast_enabled=False,
    )


def _adapted_modules(config: FinetuneConfig, layers: int) -> list[str]:
    names, last = ["linear_qkv", "linear_proj"], config.training.lora.last_layers
    if last is None or last >= layers:
        return names
    return [f"*.layers.{layer}.*.{name}" for layer in range(layers - last, layers) for name in names]
