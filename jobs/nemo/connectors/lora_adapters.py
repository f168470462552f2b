"""NeMo's LoRA adapters of attention as PEFT's, for Hugging Face GPT-OSS.

NeMo adapts the fused projection `linear_qkv` with one pair of matrices. In PEFT q_proj, k_proj and v_proj each have a
pair: all three share A, and B is split by rows as the fused weight is. Both add alpha / rank × B A to the weight.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import peft
import torch
from nemo.collections.llm.peft.lora import LoRALinear
from nemo.lightning.io.state import TransformFns
from nemo.lightning.pytorch.callbacks.peft import AdapterWrapper

import jobs.nemo.setup.patched
from tuneyard.core.errors import CheckpointError

_ATTENTION = re.compile(r"(?:.*\.)?decoder\.layers\.(\d+)\.self_attention\.(linear_qkv|linear_proj)")


def peft_adapter(model: Any) -> tuple[peft.LoraConfig, dict[str, torch.Tensor]]:
    """PEFT's config and tensors for the adapters of a NeMo model, by PEFT's names.

    The whole model must be in this process. Raises CheckpointError if it has no adapters, or some of another kind than
    LoRA on attention.
    """
    wrappers = {name: module for name, module in model.named_modules() if isinstance(module, AdapterWrapper)}
    if not wrappers:
        raise CheckpointError("The NeMo checkpoint holds no LoRA adapters. Export it merged, without --form adapter.")
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, wrapper in wrappers.items():
        match = _ATTENTION.fullmatch(name)
        if match is None or not isinstance(wrapper, LoRALinear):
            raise CheckpointError(
                f"The NeMo checkpoint has a {type(wrapper).__name__} on {name}. Only LoRA on attention (linear_qkv, "
                "linear_proj) can be exported as an adapter. Export it merged, without --form adapter."
            )
        layer, linear = match.groups()
        down, up = wrapper.adapter.linear_in.weight, wrapper.adapter.linear_out.weight
        outputs = _split_qkv(model, up) if linear == "linear_qkv" else {"o_proj": up}
        pairs |= {f"layers.{layer}.self_attn.{module}": (down, output) for module, output in outputs.items()}
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = up
    return _config(model, list(pairs), next(iter(wrappers.values())).adapter), tensors


def _split_qkv(model: Any, up: torch.Tensor) -> dict[str, torch.Tensor]:
    """The rows of q, k and v in `linear_out` [q + k + v, rank], by NeMo's own split of the fused weight."""
    context = SimpleNamespace(source=SimpleNamespace(config=model.config))
    return dict(zip(("q_proj", "k_proj", "v_proj"), TransformFns.split_qkv(context, up.detach()), strict=True))


def _config(model: Any, modules: list[str], adapter: Any) -> peft.LoraConfig:
    """The config with which PEFT adapts exactly `modules`. All adapters of a NeMo model have the settings of one."""
    projections = {name.rpartition(".")[2] for name in modules}
    adapts_all_layers = len(modules) == len(projections) * model.config.num_layers
    return peft.LoraConfig(
        r=adapter.dim,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout.p if adapter.dropout is not None else 0.0,
        target_modules=sorted(projections) if adapts_all_layers else modules,
        task_type="CAUSAL_LM",
    )
