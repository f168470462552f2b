"""Loads the model that the transformers backend trains: the base, with adapters for LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import peft
import torch

from jobs.training.lora_targets import lora_config
from jobs.training.model_loading import empty_dequantised, load_dequantised
from tuneyard.configs.finetune import FinetuneConfig


def load_trainable_model(config: FinetuneConfig) -> Any:
    """The run's base as a transformers model, with fresh adapters when `training.method` is `lora`.

    In fp32, but the frozen weights under adapters are in bf16 when a GPU trains in bf16.
    """
    model = load_for_run(
        config.model.folder,
        config,
        _training_dtype(config),
        attention=training_attention(config),
        on_gpu=_on_gpu(config),
    )
    return prepare_for_training(model, config)


def empty_trainable_model(config: FinetuneConfig) -> Any:
    """The model of load_trainable_model, but with parameters on PyTorch's meta device: they take no memory."""
    model = empty_dequantised(
        config.model.folder,
        _training_dtype(config),
        on_gpu=_on_gpu(config),
        attention=training_attention(config),
        experts=config.model.experts_implementation,
    )
    with accelerate.init_empty_weights():
        return prepare_for_training(model, config)


def prepare_for_training(model: Any, config: FinetuneConfig) -> Any:
    """The loaded `model`, with fresh adapters when `training.method` is `lora`."""
    # RowTrainer adds the router's loss. transformers' own depends on the batch, and cannot read the masks of packs.
    model.config.output_router_logits = False
    # Training reads no cache, and gradient checkpointing would warn of it.
    model.config.use_cache = False
    if config.training.method == "full":
        return model
    return peft.get_peft_model(model, lora_config(config.training.lora, model.config.num_hidden_layers))


def load_for_run(
    folder: Path, config: FinetuneConfig, dtype: torch.dtype, attention: str = "eager", *, on_gpu: bool = False
) -> Any:
    """The checkpoint in `folder` as an unquantised model, with the config's experts_implementation.

    `on_gpu` says that the caller will move the model to a GPU. An export computes on the CPU, on a GPU node too.
    """
    experts = config.model.experts_implementation
    return load_dequantised(folder, dtype, on_gpu=on_gpu, attention=attention, experts=experts)


def training_attention(config: FinetuneConfig) -> str:
    """transformers' attn_implementation for the run: the config's, or flex_attention on a GPU and eager on a CPU."""
    if not _on_gpu(config) or config.model.attention_implementation == "eager":
        return "eager"
    # Only here, because it imports PyTorch's compiler.
    from jobs.training import flex_attention

    return flex_attention.NAME


def _training_dtype(config: FinetuneConfig) -> torch.dtype:
    frozen_in_bf16 = _on_gpu(config) and config.precision == "bf16" and config.training.method == "lora"
    return torch.bfloat16 if frozen_in_bf16 else torch.float32


def _on_gpu(config: FinetuneConfig) -> bool:
    return config.workers.use_gpu and torch.cuda.is_available()
