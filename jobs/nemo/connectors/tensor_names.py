"""Tensor names of Hugging Face and of NeMo, with and without TransformerEngine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class NemoTensorNames:
    """NeMo's names for the tensors whose names depend on TransformerEngine.

    A leading `**.` stands for the path of the layer, as in NeMo's apply_transforms.
    """

    input_norm: str
    """Weight of the norm before attention. TransformerEngine fuses it into the projection that follows."""

    experts_are_modules: bool
    """True if each expert is a module of its own; False if TransformerEngine groups them in one module."""

    @classmethod
    def from_model(cls, model: Any) -> NemoTensorNames:
        """The names that a NeMo model's state dict has."""
        keys = list(model.module.state_dict() if hasattr(model, "module") else model.state_dict())
        is_fused = any(key.endswith("self_attention.linear_qkv.layer_norm_weight") for key in keys)
        norm = "self_attention.linear_qkv.layer_norm_weight" if is_fused else "input_layernorm.weight"
        return cls(f"**.{norm}", any(".experts.local_experts." in key for key in keys))

    def expert(self, linear: Literal["linear_fc1", "linear_fc2"], kind: Literal["weight", "bias"]) -> str:
        """Pattern for the weight or bias of one linear layer in all experts."""
        if self.experts_are_modules:
            return f"**.mlp.experts.local_experts.*.{linear}.{kind}"
        return f"**.mlp.experts.{linear}.{kind}*"


def hf_to_nemo_names(names: NemoTensorNames) -> dict[str, str]:
    """NeMo's name for each Hugging Face tensor that is renamed only: its values and shape stay."""
    return {
        "model.embed_tokens.weight": "embedding.word_embeddings.weight",
        "model.norm.weight": "decoder.final_layernorm.weight",
        "lm_head.weight": "output_layer.weight",
        "**.input_layernorm.weight": names.input_norm,
        "**.self_attn.o_proj.weight": "**.self_attention.linear_proj.weight",
        "**.self_attn.o_proj.bias": "**.self_attention.linear_proj.bias",
        "**.self_attn.sinks": "**.self_attention.core_attention.softmax_offset",
        "**.post_attention_layernorm.weight": "**.pre_mlp_layernorm.weight",
        "**.mlp.router.weight": "**.mlp.router.weight",
        "**.mlp.router.bias": "**.mlp.router.bias",
    }
