"""LoRA's targets: the modules of GPT-OSS that get adapters in the transformers backend, as a PEFT config.

NeMo's backend adapts Megatron's modules instead; jobs/nemo/recipe.py names them.
"""

from __future__ import annotations

from typing import Any

import peft

from tuneyard.configs.training import LoraConfig

ATTENTION_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]
"""Always adapted."""

EXPERT_PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
"""Adapted with `training.lora.experts`. They are parameters, not modules: all experts of a layer share one tensor."""


def lora_config(lora: LoraConfig, layers: int) -> peft.LoraConfig:
    """PEFT's config for the adapters of `training.lora` on a GPT-OSS model of `layers` layers."""
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ATTENTION_MODULES,
        target_parameters=_expert_parameters(layers, lora.last_layers) if lora.experts else None,
        **_adapted_layers(layers, lora.last_layers),
        task_type="CAUSAL_LM",
    )


def _expert_parameters(layers: int, last_layers: int | None) -> list[str]:
    """The names of the adapted parameters. PEFT's fields that restrict layers apply to modules only."""
    if last_layers is None or last_layers >= layers:
        return EXPERT_PARAMETERS
    return [f"layers.{layer}.{name}" for layer in range(layers - last_layers, layers) for name in EXPERT_PARAMETERS]


def _adapted_layers(layers: int, last_layers: int | None) -> dict[str, Any]:
    """PEFT's fields that restrict adapters to the last layers; empty for adapters on all layers."""
    if last_layers is None or last_layers >= layers:
        return {}
    return {"layers_to_transform": list(range(layers - last_layers, layers)), "layers_pattern": "layers"}
