"""OpenAI's original form of GPT-OSS: names of tensors and of config fields, and how they follow from Hugging Face's.

Source: https://github.com/openai/gpt-oss, gpt_oss/torch/weights.py and model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tuneyard.core.errors import CheckpointError

SAME_FIELDS = (
    "num_hidden_layers",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "sliding_window",
)
"""Of config.json, named alike in both forms."""

_OUTSIDE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.scale": "model.norm.weight",
    "unembedding.weight": "lm_head.weight",
}
_IN_A_LAYER = {
    "attn.norm.scale": "input_layernorm.weight",
    "attn.out.weight": "self_attn.o_proj.weight",
    "attn.out.bias": "self_attn.o_proj.bias",
    "attn.sinks": "self_attn.sinks",
    "mlp.norm.scale": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.router.weight",
    "mlp.gate.bias": "mlp.router.bias",
    "mlp.mlp1_weight.blocks": "mlp.experts.gate_up_proj_blocks",
    "mlp.mlp1_weight.scales": "mlp.experts.gate_up_proj_scales",
    "mlp.mlp1_bias": "mlp.experts.gate_up_proj_bias",
    "mlp.mlp2_weight.blocks": "mlp.experts.down_proj_blocks",
    "mlp.mlp2_weight.scales": "mlp.experts.down_proj_scales",
    "mlp.mlp2_bias": "mlp.experts.down_proj_bias",
}


@dataclass(frozen=True, slots=True)
class OriginalTensor:
    """A tensor of the original form, and the Hugging Face tensors that make it, stacked along the first axis."""

    name: str
    sources: tuple[str, ...]

    def build(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """Its value. OpenAI keeps norms in fp32."""
        parts = [read(source) for source in self.sources]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        return value.float() if self.name.endswith("norm.scale") else value


def original_tensors(layers: int) -> Iterator[OriginalTensor]:
    """Every tensor of the original form, for so many layers."""
    for ours, theirs in _OUTSIDE.items():
        yield OriginalTensor(ours, (theirs,))
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for kind in ("weight", "bias"):
            sources = tuple(f"{prefix}self_attn.{part}_proj.{kind}" for part in "qkv")
            yield OriginalTensor(f"block.{layer}.attn.qkv.{kind}", sources)
        for ours, theirs in _IN_A_LAYER.items():
            yield OriginalTensor(f"block.{layer}.{ours}", (prefix + theirs,))


def original_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's config.json out of Hugging Face's. Raises CheckpointError when a field is missing."""
    try:
        rope = config.get("rope_parameters") or {**config["rope_scaling"], "rope_theta": config["rope_theta"]}
        return {
            **{name: config[name] for name in SAME_FIELDS},
            "num_experts": config["num_local_experts"],
            "experts_per_token": config["num_experts_per_tok"],
            "swiglu_limit": config.get("swiglu_limit", 7.0),
            "initial_context_length": rope["original_max_position_embeddings"],
            "rope_theta": rope["rope_theta"],
            "rope_scaling_factor": rope["factor"],
            "rope_ntk_alpha": rope["beta_slow"],
            "rope_ntk_beta": rope["beta_fast"],
        }
    except KeyError as e:
        raise CheckpointError(f"config.json: has no {e.args[0]}, which OpenAI's form needs.") from e
