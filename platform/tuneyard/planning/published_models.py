"""Sizes of the published GPT-OSS models, to plan before there is a checkpoint."""

from __future__ import annotations

PUBLISHED = {
    size: {
        "num_hidden_layers": layers,
        "num_local_experts": experts,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "max_position_embeddings": 131072,
    }
    for size, layers, experts in (("20b", 24, 32), ("120b", 36, 128))
}
"""By size, what config.json of openai/gpt-oss-20b and openai/gpt-oss-120b says."""
