"""The values that a config sets in NeMo's recipe, by NeMo's field names. They can be printed without NeMo."""

from __future__ import annotations

import math
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.nemo_parallelism import plan_batch, resolve_parallelism


def recipe_values(config: FinetuneConfig) -> dict[str, Any]:
    """Returns values for the run.Partial of NeMo's `llm.finetune`, by dotted field name.

    Values that depend on the base or the data are not included: model sizes, number of steps, paths.
    """
    training, parallelism, batch = config.training, resolve_parallelism(config), plan_batch(config)
    nodes = math.ceil(config.workers.num_workers / config.nemo.gpus_per_node)
    values: dict[str, Any] = {
        "trainer.num_nodes": nodes,
        "trainer.devices": config.workers.num_workers // nodes,
        "trainer.accelerator": "gpu" if config.workers.use_gpu else "cpu",
        "trainer.strategy.tensor_model_parallel_size": parallelism.tensor,
        "trainer.strategy.pipeline_model_parallel_size": parallelism.pipeline,
        "trainer.strategy.expert_model_parallel_size": parallelism.expert,
        "trainer.strategy.context_parallel_size": parallelism.context,
        # NeMo's progress bar calls a collective on rank 0 only. With gloo the next checkpoint would then hang.
        "trainer.strategy.replace_progress_bar": False,
        # Ray Train needs complete checkpoints: one that is still being written cannot be reported.
        "trainer.strategy.ckpt_async_save": False,
        "trainer.num_sanity_val_steps": 0,
        "trainer.enable_progress_bar": False,
        "trainer.limit_val_batches": 1.0 if config.data.heldout else 0,
        # The loss of a step is the mean over all its labelled tokens, however they are divided over micro batches and
        # ranks.
        "model.config.calculate_per_token_loss": True,
        "data.seq_length": config.data.max_length,
        "data.micro_batch_size": batch.micro,
        "data.global_batch_size": batch.global_,
        "data.seed": training.seed,
        "data.grouped": config.data.batching == "grouped",
        "data.pad_to": fixed_row_length(config),
        "optim.config.lr": training.learning_rate,
        "optim.config.weight_decay": training.weight_decay,
        "optim.config.adam_beta2": training.adam_beta2,
        "optim.config.adam_eps": 1e-8,
        "optim.config.clip_grad": training.max_grad_norm,
        "optim.config.bf16": config.precision == "bf16",
        "optim.config.use_distributed_optimizer": config.workers.use_gpu,
        "optim.lr_scheduler.schedule": training.schedule,
        "optim.lr_scheduler.warmup_ratio": training.warmup_ratio,
        "log.ckpt.save_optim_on_train_end": True,
        "log.ckpt.monitor": "val_loss" if config.data.heldout else "reduced_train_loss",
        "log.tensorboard": None,
        "log.use_datetime_version": False,
    }
    if parallelism.context > 1:
        # TransformerEngine has learnable sinks with no other kind of context parallelism; Megatron's default is p2p
        # (megatron/core/extensions/transformer_engine.py, 0.15.3).
        values["model.config.cp_comm_type"] = "a2a"
    if training.method == "lora":
        lora = training.lora
        values |= {"peft.dim": lora.rank, "peft.alpha": lora.alpha, "peft.dropout": lora.dropout}
    return values


def fixed_row_length(config: FinetuneConfig) -> int | None:
    """The number of tokens to pad every row to; None pads each batch to its own longest row.

    Pipeline stages exchange tensors of one fixed shape, and context parallelism splits a row into two pieces per rank.
    """
    parallelism = resolve_parallelism(config)
    if parallelism.pipeline == 1 and parallelism.context == 1:
        return None
    unit = 2 * parallelism.context
    return math.ceil(config.data.max_length / unit) * unit
