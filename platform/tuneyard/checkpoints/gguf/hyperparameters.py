"""The model's sizes and rotary scaling as GGUF keys, and what llama.cpp has no key for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gguf

from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import count_of, listed

GGUF_ARCHITECTURE = "gpt-oss"

_FIXED = {"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "hidden_act": "silu", "attention_bias": True}
"""Fields of config.json whose values are constants in llama.cpp (src/models/openai-moe-iswa.cpp, ggml_swiglu_oai)."""

_YARN_FIELDS = {"rope_type", "rope_theta", "factor", "beta_fast", "beta_slow", "original_max_position_embeddings"}

_NO_KEY_NEEDED = {"truncate"}
"""llama.cpp always rounds YaRN's limits to whole dimensions (ggml_rope_yarn_corr_dims), whatever this field says. What
that costs is part of a file's proof."""


def check_config(config: Mapping[str, Any]) -> None:
    """Raises one CheckpointError with every reason why llama.cpp would compute another model than this config.json's.

    `config` has the rope fields of make_config_portable.
    """
    if problems := list(_problems(config)):
        raise CheckpointError(
            f"llama.cpp cannot run this checkpoint: {count_of(len(problems), 'problem')}\n{listed(problems)}"
        )


def add_hyperparameters(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    """Adds the sizes, the sliding window and YaRN to the file. `config` has passed check_config."""
    rope = config["rope_parameters"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_expert_count(config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("architectures") != [ARCHITECTURE]:
        yield f"config.json: architectures is {config.get('architectures')!r}, expected [{ARCHITECTURE!r}]"
    for field, value in _FIXED.items():
        if config.get(field, value) != value:
            yield f"config.json: {field} is {config[field]!r}, and llama.cpp computes with {value!r}"
    layers = config.get("layer_types")
    expected = ["sliding_attention", "full_attention"]
    if layers is not None and layers != [expected[index % 2] for index in range(len(layers))]:
        yield "config.json: layer_types must be sliding_attention and full_attention by turns"
    rope = config["rope_parameters"]
    if rope.get("rope_type") != "yarn" or rope.keys() != _YARN_FIELDS | rope.keys():
        yield f"config.json: rope_parameters is {rope!r}; it must be yarn, with {', '.join(sorted(_YARN_FIELDS))}"
    elif other := sorted(key for key in rope.keys() - _YARN_FIELDS - _NO_KEY_NEEDED if rope[key] is not None):
        yield f"config.json: rope_parameters has {', '.join(other)}, which llama.cpp has no key for"
