"""Loads the model that the transformers backend trains: the base, with adapters for LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch

from jobs.training.lora_targets import lora_config
from jobs.training.model_loading import load_dequantised
from tuneyard.configs.finetune import FinetuneConfig


def load_trainable_model(config: FinetuneConfig) -> Any:
    """The run's base as a transformers model, with fresh adapters when `training.method` is `lora`.

    In fp32; in bf16 when a GPU is used and `training.precision` is `bf16`.
    """
    in_bf16 = config.workers.use_gpu and torch.cuda.is_available() and config.training.precision == "bf16"
    model = load_for_run(config.model.folder, config, torch.bfloat16 if in_bf16 else torch.float32)
    router_aux_loss_coef = config.training.router_aux_loss_coef
    model.config.output_router_logits = router_aux_loss_coef > 0
    model.router_aux_loss_coef = router_aux_loss_coef
    if config.training.method == "full":
        return model
    return peft.get_peft_model(model, lora_config(config.training.lora, model.config.num_hidden_layers))


def load_for_run(folder: Path, config: FinetuneConfig, dtype: torch.dtype) -> Any:
    """The checkpoint in `folder` as an unquantised model, with the config's experts_implementation."""
    on_gpu = config.workers.use_gpu and torch.cuda.is_available()
    return load_dequantised(folder, dtype, on_gpu=on_gpu, experts=config.model.experts_implementation)
