"""Names and shapes of the tensors of a GPT-OSS checkpoint in Hugging Face format, computed from its config.json.

Sources: models/gpt_oss/modeling_gpt_oss.py in transformers, and openai/gpt-oss-20b for the MXFP4 format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.core.errors import CheckpointError

ARCHITECTURE = "GptOssForCausalLM"
_MXFP4_BLOCK = 32
"""Weights that share one MXFP4 scale. Two of them fit in a byte."""

MXFP4_CONFIG: dict[str, Any] = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
"""`quantization_config` of openai/gpt-oss-20b and openai/gpt-oss-120b."""


def expected_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an unquantised checkpoint with this config.json.

    Expert matrices have the shape [expert, in, out]. Raises CheckpointError if config.json lacks a size.
    """
    hidden, vocabulary = _size(config, "hidden_size"), _size(config, "vocab_size")
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(_size(config, "num_hidden_layers")):
        tensors |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer_tensors(config).items()}
    return tensors


def expected_mxfp4_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint with MXFP4 experts.

    Each expert matrix becomes two tensors: `_blocks` [expert, out, in/32, 16] and `_scales` [expert, out, in/32].
    Raises CheckpointError if config.json lacks a size.
    """
    tensors: dict[str, tuple[int, ...]] = {}
    for name, shape in expected_tensors(config).items():
        if is_expert_matrix(name, shape):
            experts, size_in, size_out = shape
            tensors[f"{name}_blocks"] = (experts, size_out, size_in // _MXFP4_BLOCK, _MXFP4_BLOCK // 2)
            tensors[f"{name}_scales"] = (experts, size_out, size_in // _MXFP4_BLOCK)
        else:
            tensors[name] = shape
    return tensors


def is_expert_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether MXFP4 quantises this tensor."""
    return name.endswith("_proj") and len(shape) == 3


def has_mxfp4_tensors(names: Iterable[str]) -> bool:
    """Whether these tensor names are those of a checkpoint with MXFP4 experts."""
    return any(name.endswith("_blocks") for name in names)


def is_mxfp4(folder: Path) -> bool:
    """Whether the checkpoint's config.json says that its experts are MXFP4. Raises CheckpointError without a config."""
    quantisation = read_json(folder / "config.json").get("quantization_config")
    return isinstance(quantisation, dict) and quantisation.get("quant_method") == "mxfp4"


def _layer_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = _size(config, "hidden_size"), _size(config, "intermediate_size")
    heads, head_dim, experts = (_size(config, key) for key in ("num_attention_heads", "head_dim", "num_local_experts"))
    queries, keys = heads * head_dim, _size(config, "num_key_value_heads") * head_dim
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.q_proj.bias": (queries,),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.k_proj.bias": (keys,),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.v_proj.bias": (keys,),
        "self_attn.o_proj.weight": (hidden, queries),
        "self_attn.o_proj.bias": (hidden,),
        "self_attn.sinks": (heads,),
        "mlp.router.weight": (experts, hidden),
        "mlp.router.bias": (experts,),
        "mlp.experts.gate_up_proj": (experts, hidden, 2 * inner),
        "mlp.experts.gate_up_proj_bias": (experts, 2 * inner),
        "mlp.experts.down_proj": (experts, inner, hidden),
        "mlp.experts.down_proj_bias": (experts, hidden),
    }


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"config.json: {key} is {value!r}, but a GPT-OSS config needs a positive integer there.")
    return value
