"""transformers.TrainingArguments from a run's config."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import transformers

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ClusterError, ConfigError

CHECKPOINTING = (
    "activation_checkpointing"
    if hasattr(transformers.TrainingArguments, "activation_checkpointing")
    else "gradient_checkpointing"
)
"""The name of the argument, which transformers 5 renames."""

UNUSED_SAVE_STEPS = 500
"""transformers' default of save_steps. It must be a number even when checkpoints are written once per epoch."""


def training_arguments(
    config: FinetuneConfig, output_dir: Path, total_steps: int, accumulation_steps: int, *, has_heldout: bool
) -> transformers.TrainingArguments:
    """The Trainer's arguments for a run of `total_steps` optimizer steps; checkpoints are written to `output_dir`."""
    training = config.training
    save_steps = training.checkpoint_every_steps
    eval_steps = training.eval_every_steps
    stops_early = training.early_stopping_patience is not None
    return transformers.TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=math.ceil(total_steps * training.warmup_ratio),
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        max_grad_norm=training.max_grad_norm,
        per_device_train_batch_size=training.batch_size_per_worker,
        # Not more: the logits of a larger batch could take more memory than planning.training.memory_plan allows for.
        per_device_eval_batch_size=training.batch_size_per_worker,
        gradient_accumulation_steps=accumulation_steps,
        bf16=config.precision == "bf16",
        **_checkpointing(config),
        seed=training.seed,
        use_cpu=not config.workers.use_gpu,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no" if not has_heldout else ("steps" if eval_steps else "epoch"),
        eval_steps=eval_steps,
        save_strategy="steps" if save_steps else "epoch",
        save_steps=save_steps or UNUSED_SAVE_STEPS,
        save_total_limit=1,
        metric_for_best_model="eval_loss" if stops_early else None,
        greater_is_better=False if stops_early else None,
        # Otherwise early stopping counts its patience from 0 after a resume.
        restore_callback_states_from_checkpoint=True,
        prediction_loss_only=True,
        # "non_padding" sums attention_mask, which packed batches do not have. They have next to no padding.
        include_num_input_tokens_seen="all" if config.data.batching == "packed" else "non_padding",
        remove_unused_columns=False,
        dataloader_pin_memory=config.workers.use_gpu,
        ddp_find_unused_parameters=False,
        # Otherwise a sharded model's gradients would be whole on each worker until the last batch of a step.
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": config.training.sharding == "fsdp2"}},
        disable_tqdm=True,
        report_to=[],
        label_names=["labels"],
    )


def check_device(config: FinetuneConfig, *, has_gpu: bool, has_bf16: bool) -> None:
    """Raises what another try would find too: ClusterError without a GPU, ConfigError for bf16 on a GPU without it.

    `has_gpu` and `has_bf16` are what PyTorch says of this worker.
    """
    if not config.workers.use_gpu:
        return
    if not has_gpu:
        raise ClusterError(
            f"workers.use_gpu is true, but PyTorch finds no GPU in a worker on {socket.gethostname()}. Install PyTorch "
            "for CUDA and NVIDIA's driver there, or set workers.use_gpu to false."
        )
    if config.precision == "bf16" and not has_bf16:
        raise ConfigError(
            f"training.precision is bf16, which the GPU of a worker on {socket.gethostname()} does not have. Set "
            "training.precision to fp32, or workers.accelerator_type to a GPU with bf16 (A100 and newer)."
        )


def _checkpointing(config: FinetuneConfig) -> dict[str, Any]:
    """The arguments that turn gradient checkpointing on. The reentrant kind finds no gradient in frozen embeddings."""
    if not config.uses_gradient_checkpointing:
        return {}
    return {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}}
