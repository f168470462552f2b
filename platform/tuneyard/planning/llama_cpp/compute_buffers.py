"""The bytes of llama.cpp's compute buffers, and the cells of its KV cache.

Source for the cells: llama.cpp's src/llama-kv-cache-iswa.cpp. Compute buffers have no formula there, because ggml lets
tensors share memory: `compute_bytes` was fitted to the sizes that xllamacpp 2026.10 reports when it loads models of
four shapes, 20B's among them, and is within 3 % of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tuneyard.configs.engines.llama_cpp import SLOT_CELLS, LlamaCppConfig


def cache_cells(config: LlamaCppConfig, model: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens per slot in the KV cache of a layer with a sliding window, and of one without."""
    if config.swa_full:
        return config.slot_cells, config.slot_cells
    window = math.ceil((int(model["sliding_window"]) + config.n_ubatch) / SLOT_CELLS) * SLOT_CELLS
    return min(window, config.slot_cells), config.slot_cells


def compute_bytes(config: LlamaCppConfig, model: Mapping[str, Any], window: int, full: int) -> int:
    """The larger of attention and experts, and the two masks, which stay for all layers.

    Without flash attention the scores of all heads are in memory at once, in fp32: much the largest part of it. With
    it, keys and values that the cache holds in fp32 are copied to f16.
    """
    hidden, heads = int(model["hidden_size"]), int(model["num_attention_heads"])
    head_dim, tokens = int(model["head_dim"]), min(config.n_ubatch, config.n_parallel * config.slot_cells)
    attention = tokens * (12 * heads * head_dim + 16 * hidden)
    if config.flash_attn == "off":
        attention += tokens * 4 * heads * max(window, full)
        masks = 4 * tokens * (window + full)
    else:
        copied = (config.cache_type_k, config.cache_type_v).count("f32")
        attention += copied * 2 * config.n_parallel * max(window, full) * int(model["num_key_value_heads"]) * head_dim
        masks = 2 * tokens * (window + full)
    experts = tokens * (12 * int(model["num_experts_per_tok"]) * int(model["intermediate_size"]) + 20 * hidden)
    logits = 4 * config.n_parallel * int(model["vocab_size"])
    return max(attention, experts) + masks + logits
