"""FinetuneConfig -> NeMo's own GPT-OSS recipe with our values: for Ray Train workers and for any NeMo-Run executor.

    import nemo_run as run
    from jobs.nemo_recipe import build_recipe
    from tuneyard.config import load_config
    from tuneyard.finetune_config import FinetuneConfig

    if __name__ == "__main__":
        recipe = build_recipe(load_config(FinetuneConfig, Path("jobs/configs/gpt_oss_20b_lora.yaml")))
        run.run(recipe, executor=run.LocalExecutor(ntasks_per_node=8, launcher="torchrun"))
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from jobs.nemo_fixes import apply_fixes

apply_fixes()

import nemo_run as run  # noqa: E402
import torch  # noqa: E402
from nemo.collections import llm  # noqa: E402
from nemo.lightning import MegatronMixedPrecision  # noqa: E402

from jobs.nemo_connectors import model_fields  # noqa: E402
from jobs.nemo_data import TokenStoreDataModule  # noqa: E402
from jobs.nemo_schedule import TransformersSchedule  # noqa: E402
from jobs.row_order import steps_of_run  # noqa: E402
from jobs.run_record import RunFolder  # noqa: E402
from jobs.training_backend import TokenFiles  # noqa: E402
from tuneyard.checkpoint import weights_digest  # noqa: E402
from tuneyard.finetune_config import FinetuneConfig  # noqa: E402
from tuneyard.nemo_parallelism import check_nemo_config, plan_batch, resolve_parallelism  # noqa: E402
from tuneyard.token_store import open_token_rows  # noqa: E402


def build_recipe(config: FinetuneConfig, tokens: TokenFiles | None = None) -> run.Partial:
    """`llm.<recipe>.finetune_recipe` as a run.Partial of `llm.finetune`, with data, model sizes, parallelism, optimizer,
    schedule, checkpoints and base of the config. Without `tokens` the data is validated and rendered first.

    The base must have been imported to `nemo_base(config)`. Raises ConfigError for what Megatron could not run,
    DatasetError and CheckpointError as jobs.preflight does.
    """
    base = json.loads((config.model.base / "config.json").read_text(encoding="utf-8"))
    check_nemo_config(config, base)
    tokens = tokens or _rendered(config)
    training, workers, parallelism = config.training, config.workers, resolve_parallelism(config)
    batch = plan_batch(config)
    steps = steps_of_run(len(open_token_rows(tokens.train)), batch.global_, training.epochs, training.max_steps)
    nodes = math.ceil(workers.num_workers / config.nemo.gpus_per_node)

    recipe = getattr(llm, config.nemo.recipe).finetune_recipe(
        name=config.run.name,
        dir=str(checkpoint_folder(config)),
        num_nodes=nodes,
        num_gpus_per_node=workers.num_workers // nodes,
        peft_scheme="lora" if training.method == "lora" else "none",
    )
    recipe.model = run.Config(llm.GPTOSSModel, config=run.Config(llm.GPTOSSConfig, **model_fields(base)))
    # The loss of a step is the mean over its labelled tokens, however they fall into micro batches and ranks.
    recipe.model.config.calculate_per_token_loss = True

    fixed_length = parallelism.pipeline > 1 or parallelism.context > 1
    unit = 2 * parallelism.context
    recipe.data = run.Config(
        TokenStoreDataModule,
        train=str(tokens.train),
        heldout=str(tokens.heldout) if tokens.heldout else None,
        seq_length=config.data.max_length,
        micro_batch_size=batch.micro,
        global_batch_size=batch.global_,
        max_steps=steps.total,
        seed=training.seed,
        grouped=config.batching == "grouped",
        pad_to=math.ceil(config.data.max_length / unit) * unit if fixed_length else None,
    )
    _set_trainer(recipe, config, steps.total, training.eval_every_steps or steps.per_epoch, with_eval=bool(tokens.heldout))
    _set_optimizer(recipe, config)
    if training.method == "lora":
        recipe.peft.target_modules = _adapted_modules(config, base["num_hidden_layers"])
        recipe.peft.dim, recipe.peft.alpha = training.lora.rank, training.lora.alpha
        recipe.peft.dropout = training.lora.dropout
    recipe.resume.restore_config.path = str(nemo_base(config))
    recipe.log.ckpt.every_n_train_steps = training.checkpoint_every_steps or steps.per_epoch
    recipe.log.ckpt.save_optim_on_train_end = True
    recipe.log.ckpt.monitor = "val_loss" if tokens.heldout else "reduced_train_loss"
    recipe.log.tensorboard = None
    recipe.log.use_datetime_version = False
    return recipe


def nemo_base(config: FinetuneConfig) -> Path:
    """Where the base lies in NeMo 2 format, for all runs that start from it."""
    return config.run.storage / "nemo" / weights_digest(config.model.base)[:16]


def checkpoint_folder(config: FinetuneConfig) -> Path:
    """Where a run's NeMo checkpoints lie, on storage that all nodes see."""
    return RunFolder(config).path / "nemo"


def _set_trainer(recipe: Any, config: FinetuneConfig, steps: int, eval_every: int, *, with_eval: bool) -> None:
    trainer, parallelism = recipe.trainer, resolve_parallelism(config)
    strategy = trainer.strategy
    strategy.tensor_model_parallel_size = parallelism.tensor
    strategy.pipeline_model_parallel_size = parallelism.pipeline
    strategy.expert_model_parallel_size = parallelism.expert
    strategy.context_parallel_size = parallelism.context
    # NeMo's own bar calls a collective on rank 0 only; with gloo the next checkpoint would hang.
    strategy.replace_progress_bar = False
    # A checkpoint is reported when it is written; one that is still being written cannot be.
    strategy.ckpt_async_save = False
    trainer.max_steps = steps
    trainer.val_check_interval = min(eval_every, steps)
    trainer.limit_val_batches = 1.0 if with_eval else 0
    trainer.num_sanity_val_steps = 0
    trainer.enable_progress_bar = False
    if config.training.precision == "fp32":
        trainer.plugins = run.Config(
            MegatronMixedPrecision,
            precision="32",
            params_dtype=torch.float32,
            pipeline_dtype=torch.float32,
            autocast_enabled=False,
        )
        strategy.pipeline_dtype = torch.float32
    if not config.workers.use_gpu:
        trainer.accelerator = "cpu"


def _set_optimizer(recipe: Any, config: FinetuneConfig) -> None:
    training, optimizer = config.training, recipe.optim.config
    optimizer.lr = training.learning_rate
    optimizer.weight_decay = training.weight_decay
    optimizer.adam_beta2 = training.adam_beta2
    optimizer.adam_eps = 1e-8
    optimizer.clip_grad = training.max_grad_norm
    optimizer.bf16 = training.precision == "bf16"
    optimizer.use_distributed_optimizer = config.workers.use_gpu
    recipe.optim.lr_scheduler = run.Config(
        TransformersSchedule, schedule=training.schedule, warmup_ratio=training.warmup_ratio
    )


def _adapted_modules(config: FinetuneConfig, layers: int) -> list[str]:
    names, last = ["linear_qkv", "linear_proj"], config.training.lora.last_layers
    if last is None or last >= layers:
        return names
    return [f"*.layers.{layer}.*.{name}" for layer in range(layers - last, layers) for name in names]


def _rendered(config: FinetuneConfig) -> TokenFiles:
    from jobs.preflight import prepare_run

    prepared = prepare_run(config)
    heldout = prepared.heldout_tokens.path if prepared.heldout_tokens is not None else None
    return TokenFiles(prepared.train_tokens.path, heldout)
