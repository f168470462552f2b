"""Builds NeMo's GPT-OSS recipe with the values of a FinetuneConfig, for Ray Train workers and NeMo-Run executors.

Outside this folder, call jobs.nemo_recipe.build_recipe.
"""

from __future__ import annotations

import json
from typing import Any

import nemo_run as run
import torch
from nemo.collections import llm
from nemo.collections.llm.recipes.precision.mixed_precision import bf16_mixed
from nemo.lightning import MegatronMixedPrecision

import jobs.nemo.setup.patched
from jobs.nemo.checkpoint_folders import checkpoint_folder, nemo_base
from jobs.nemo.connectors.model_config import model_fields
from jobs.nemo.data_module import TokenStoreDataModule
from jobs.nemo.schedule import TransformersSchedule
from jobs.nemo.setup.run_seed import RunSeed
from jobs.training.backend import TokenFiles
from jobs.training.row_order import steps_of_run
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.nemo_checks import check_nemo_config
from tuneyard.planning.nemo_parallelism import plan_batch
from tuneyard.planning.nemo_recipe_values import recipe_values
from tuneyard.training_data.token_store import open_token_rows


def build_recipe(config: FinetuneConfig, tokens: TokenFiles) -> run.Partial:
    """NeMo's recipe `config.nemo.recipe` as a run.Partial of `llm.finetune`, with the values of `config`.

    These are data, model sizes, parallelism, optimizer, schedule, checkpoints and the base. The base must be at
    `nemo_base(config)` (jobs.nemo.checkpoint_folders) when the recipe runs. Raises ConfigError for a config that
    Megatron cannot run.
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
        recipe.peft.target_modules = _lora_target_modules(config, base["num_hidden_layers"])
    recipe.trainer.max_steps = steps.total
    recipe.trainer.val_check_interval = min(training.eval_every_steps or steps.per_epoch, steps.total)
    recipe.log.ckpt.every_n_train_steps = training.checkpoint_every_steps or steps.per_epoch
    recipe.trainer.callbacks = [*recipe.trainer.callbacks, run.Config(RunSeed, seed=training.seed)]
    recipe.resume.restore_config.path = str(nemo_base(config))
    for field, value in recipe_values(config).items():
        set_field(recipe, field, value)
    return recipe


def stock_recipe(config: FinetuneConfig) -> run.Partial:
    """NeMo's unchanged recipe for `config.nemo.recipe` and `config.training.method`."""
    finetune_recipe = getattr(llm, config.nemo.recipe).finetune_recipe
    scheme = "lora" if config.training.method == "lora" else "none"
    return finetune_recipe(name=config.run.name, dir=str(checkpoint_folder(config)), peft_scheme=scheme)


def set_field(recipe: Any, field: str, value: Any) -> None:
    """Sets the dotted `field` of nested run.Configs."""
    *parents, name = field.split(".")
    for parent in parents:
        recipe = getattr(recipe, parent)
    setattr(recipe, name, value)


def megatron_precision(config: FinetuneConfig) -> run.Config[MegatronMixedPrecision]:
    """The precision plugin: bf16 with fp32 gradients and master weights as in NeMo's recipes, or fp32 throughout."""
    if config.precision == "bf16":
        return bf16_mixed()
    return run.Config(
        MegatronMixedPrecision,
        precision="32",
        params_dtype=torch.float32,
        pipeline_dtype=torch.float32,
        autocast_enabled=False,
    )


def _lora_target_modules(config: FinetuneConfig, layers: int) -> list[str]:
    """Attention projections that get adapters: in all `layers` layers, or in the last `lora.last_layers`."""
    names, last = ["linear_qkv", "linear_proj"], config.training.lora.last_layers
    if last is None or last >= layers:
        return names
    return [f"*.layers.{layer}.*.{name}" for layer in range(layers - last, layers) for name in names]
