"""NeMo's model config from a Hugging Face config.json, and back: sizes, attention window, YaRN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nemo.collections.llm import GPTOSSConfig
from nemo.collections.llm.gpt.model.base import HAVE_TE, local_layer_spec

import jobs.nemo.setup.patched

if TYPE_CHECKING:
    from transformers import GptOssConfig

YARN_MSCALE = {"yarn_mscale": 1.0, "yarn_mscale_all_dim": 0.0}
"""Multiplies YaRN's rotary embeddings by the attention factor 0.1 ln(scaling factor) + 1, as transformers and OpenAI's
reference implementation do.

NeMo 2.7.3 sets yarn_mscale_all_dim to 1.0, with which Megatron-Core divides the factor out again
(megatron/core/models/common/embeddings/yarn_rotary_pos_embedding.py, _yarn_get_concentration_factor).
"""


def forward_without_mask(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """NeMo's forward step without `attention_mask`: Megatron then builds the causal and the sliding-window mask itself.

    NeMo's own forward step requires a mask in the batch.
    """
    result: torch.Tensor = model(
        input_ids=batch["tokens"], position_ids=batch["position_ids"], labels=batch["labels"], attention_mask=None
    )
    return result


WITHOUT_TRANSFORMER_ENGINE: dict[str, Any] = {
    "transformer_layer_spec": local_layer_spec,
    "forward_step_fn": forward_without_mask,
    "moe_grouped_gemm": False,
    "moe_permute_fusion": False,
    "masked_softmax_fusion": False,
    "gradient_accumulation_fusion": False,
    "bias_dropout_fusion": False,
    "apply_rope_fusion": False,
    "cross_entropy_loss_fusion": False,
}
"""GPTOSSConfig fields that select Megatron-Core's own layers, for machines without TransformerEngine."""


def model_config(source: dict[str, Any], **overrides: Any) -> GPTOSSConfig:
    """NeMo's config for the Hugging Face config.json `source`; `overrides` replace single fields."""
    return GPTOSSConfig(**model_fields(source) | overrides)


def model_fields(source: dict[str, Any]) -> dict[str, Any]:
    """GPTOSSConfig's fields for the Hugging Face config.json `source`. All sizes come from `source`."""
    rope = source.get("rope_scaling") or source["rope_parameters"]
    theta = source.get("rope_theta") or source["rope_parameters"]["rope_theta"]
    fields: dict[str, Any] = {
        "num_layers": source["num_hidden_layers"],
        "num_moe_experts": source["num_local_experts"],
        "moe_router_topk": source["num_experts_per_tok"],
        "hidden_size": source["hidden_size"],
        "ffn_hidden_size": source["intermediate_size"],
        "moe_ffn_hidden_size": source["intermediate_size"],
        "num_attention_heads": source["num_attention_heads"],
        "num_query_groups": source["num_key_value_heads"],
        "kv_channels": source["head_dim"],
        "vocab_size": source["vocab_size"],
        "make_vocab_size_divisible_by": 1,
        "seq_length": source["max_position_embeddings"],
        "layernorm_epsilon": source.get("rms_norm_eps", 1e-5),
        "rotary_base": int(theta),
        "yarn_rotary_scaling_factor": float(rope["factor"]),
        "yarn_original_max_position_embeddings": rope["original_max_position_embeddings"],
        "yarn_beta_fast": float(rope["beta_fast"]),
        "yarn_beta_slow": float(rope["beta_slow"]),
        "yarn_correction_range_round_to_int": bool(rope.get("truncate", False)),
        "window_size": window_size_for_nemo(source["sliding_window"]),
        **YARN_MSCALE,
    }
    return fields | ({} if HAVE_TE else WITHOUT_TRANSFORMER_ENGINE)


def window_size_for_nemo(sliding_window: int) -> tuple[int, int]:
    """NeMo's `window_size` for an attention window of `sliding_window` tokens, the attending token included.

    `window_size` counts the tokens to the left and to the right of the attending token, which makes one less than
    `sliding_window`. NeMo 2.7.3's default of (128, 0) is a window of 129 tokens, where transformers and OpenAI's
    reference implementation have 128.
    """
    return (sliding_window - 1, 0)


def sliding_window_of(config: GPTOSSConfig) -> int:
    """Tokens in a NeMo model's attention window, the attending token included: inverse of window_size_for_nemo."""
    return int(config.window_size[0]) + 1


def hf_config(source: GPTOSSConfig) -> GptOssConfig:
    """transformers' config for a NeMo model: the inverse of `model_config`."""
    from transformers import GptOssConfig

    return GptOssConfig(
        num_hidden_layers=source.num_layers,
        num_local_experts=source.num_moe_experts,
        num_experts_per_tok=source.moe_router_topk,
        hidden_size=source.hidden_size,
        intermediate_size=source.moe_ffn_hidden_size,
        num_attention_heads=source.num_attention_heads,
        num_key_value_heads=source.num_query_groups,
        head_dim=source.kv_channels,
        vocab_size=source.vocab_size,
        sliding_window=sliding_window_of(source),
        max_position_embeddings=source.seq_length,
        rms_norm_eps=source.layernorm_epsilon,
        rope_theta=float(source.rotary_base),
        rope_scaling={
            "rope_type": "yarn",
            "factor": source.yarn_rotary_scaling_factor,
            "beta_fast": source.yarn_beta_fast,
            "beta_slow": source.yarn_beta_slow,
            "truncate": source.yarn_correction_range_round_to_int,
            "original_max_position_embeddings": source.yarn_original_max_position_embeddings,
        },
    )
