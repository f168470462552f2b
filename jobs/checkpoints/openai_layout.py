"""OpenAI's original form of GPT-OSS: its tensor names and config fields, and how to make them from Hugging Face's.

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
"""Fields of config.json that have the same name and value in both forms."""

_MODEL_TENSORS = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.scale": "model.norm.weight",
    "unembedding.weight": "lm_head.weight",
}
"""Hugging Face's name by OpenAI's name."""

_LAYER_TENSORS = {
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
"""Hugging Face's name by OpenAI's name, both without the layer's prefix."""


@dataclass(frozen=True, slots=True)
class OriginalTensor:
    """A tensor of the original form. Its value is the Hugging Face tensors `sources`, joined along the first axis."""

    name: str
    sources: tuple[str, ...]

    def build(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The tensor's value; `read` returns a Hugging Face tensor by name. OpenAI stores norms in fp32."""
        tensors = [read(source) for source in self.sources]
        value = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        return value.float() if self.name.endswith("norm.scale") else value


def original_tensors(layers: int) -> Iterator[OriginalTensor]:
    """All tensors of the original form of a model with `layers` layers."""
    for original, hugging_face in _MODEL_TENSORS.items():
        yield OriginalTensor(original, (hugging_face,))
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for kind in ("weight", "bias"):
            sources = tuple(f"{prefix}self_attn.{projection}_proj.{kind}" for projection in "qkv")
            yield OriginalTensor(f"block.{layer}.attn.qkv.{kind}", sources)
        for original, hugging_face in _LAYER_TENSORS.items():
            yield OriginalTensor(f"block.{layer}.{original}", (prefix + hugging_face,))


def original_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's config.json from Hugging Face's. Raises CheckpointError when a field is missing."""
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
        raise CheckpointError(f"config.json has no field {e.args[0]}, which OpenAI's form needs.") from e
