"""A GPT-OSS in OpenAI's original format, MXFP4 experts, and the same weights dequantised in Hugging Face form.

Format: https://github.com/openai/gpt-oss, gpt_oss/torch/weights.py and model.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from tests.mxfp4 import from_mxfp4, to_mxfp4

_SAME = (
    "num_hidden_layers",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "sliding_window",
)


def write_original(base: Path, original: Path, dequantised: Path) -> None:
    """From the Hugging Face folder `base`: its expert matrices rounded to MXFP4, in both forms."""
    model = transformers.GptOssForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    state = model.state_dict()
    config = model.config
    weights = {
        "embedding.weight": state["model.embed_tokens.weight"],
        "unembedding.weight": state["lm_head.weight"],
        "norm.scale": state["model.norm.weight"].float(),
    }
    for layer in range(config.num_hidden_layers):
        weights |= _layer(state, f"model.layers.{layer}.", f"block.{layer}.")
    for folder in (original, dequantised):
        folder.mkdir()
        for path in base.glob("*token*.json"):
            shutil.copy(path, folder)
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, original / "model.safetensors")
    (original / "config.json").write_text(json.dumps(_original_config(config)))
    model.save_pretrained(dequantised)


def _layer(state: dict[str, Any], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    """One layer in OpenAI's names; `state`'s experts become what MXFP4 makes of them."""
    weights = {
        f"{theirs}attn.norm.scale": state[f"{ours}input_layernorm.weight"].float(),
        f"{theirs}mlp.norm.scale": state[f"{ours}post_attention_layernorm.weight"].float(),
        f"{theirs}attn.sinks": state[f"{ours}self_attn.sinks"],
    }
    for kind in ("weight", "bias"):
        parts = [state[f"{ours}self_attn.{name}_proj.{kind}"] for name in "qkv"]
        weights[f"{theirs}attn.qkv.{kind}"] = torch.cat(parts)
        weights[f"{theirs}attn.out.{kind}"] = state[f"{ours}self_attn.o_proj.{kind}"]
        weights[f"{theirs}mlp.gate.{kind}"] = state[f"{ours}mlp.router.{kind}"]
    for ours_name, theirs_name in (("gate_up_proj", "mlp1"), ("down_proj", "mlp2")):
        matrix = state[f"{ours}mlp.experts.{ours_name}"]  # [expert, in, out]; OpenAI's are [expert, out, in]
        blocks, scales = to_mxfp4(matrix.transpose(1, 2).float())
        weights[f"{theirs}mlp.{theirs_name}_weight.blocks"] = blocks
        weights[f"{theirs}mlp.{theirs_name}_weight.scales"] = scales
        weights[f"{theirs}mlp.{theirs_name}_bias"] = state[f"{ours}mlp.experts.{ours_name}_bias"]
        matrix.copy_(from_mxfp4(blocks, scales).transpose(1, 2))
    return weights


def _original_config(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {**config.rope_scaling, "rope_theta": config.rope_theta}
    return {
        **{name: getattr(config, name) for name in _SAME},
        "num_experts": config.num_local_experts,
        "experts_per_token": config.num_experts_per_tok,
        "swiglu_limit": 7.0,
        "initial_context_length": rope["original_max_position_embeddings"],
        "rope_theta": rope["rope_theta"],
        "rope_scaling_factor": rope["factor"],
        "rope_ntk_alpha": rope["beta_slow"],
        "rope_ntk_beta": rope["beta_fast"],
    }
