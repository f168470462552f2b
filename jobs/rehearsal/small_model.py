"""A small model in the form of a run's base: the same fields, tensor names and files, with few layers and experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from jobs.bases.checkpoint_files import write_weights
from jobs.bases.published_form import END_TOKENS, NAMED_TOKENS, published_config, write_published_form
from jobs.bases.tiny_oss import VOCABULARY, random_weights, train_tiny_tokenizer
from jobs.checkpoints.published_weights import write_published_weights
from tuneyard.checkpoints.adoption import adopt_checkpoint
from tuneyard.planning.nemo_parallelism import Parallelism

HIDDEN = 64
"""Also the experts' inner size: the published models have square matrices, which hide a missing transposition."""

WINDOW = 16
"""Tokens of the sliding window, fewer than a row has."""

MIN_EXPERTS, MIN_LAYERS, MIN_KEY_VALUE_HEADS = 8, 2, 2


def small_sizes(base: Mapping[str, Any], parallelism: Parallelism) -> dict[str, Any]:
    """The fields of config.json that the small model changes, so that its layers, experts and heads can be divided.

    `base` is the content of the base's config.json.
    """
    layers = math.lcm(MIN_LAYERS, parallelism.pipeline)  # even: window and full attention take turns
    heads = math.lcm(MIN_KEY_VALUE_HEADS, parallelism.tensor, parallelism.context)
    # Two experts on each rank, because one is another code path.
    experts = parallelism.expert * max(2, math.ceil(MIN_EXPERTS / parallelism.expert))
    queries_per_head = max(1, min(2, int(base["num_attention_heads"]) // int(base["num_key_value_heads"])))
    return {
        "head_dim": int(base["head_dim"]),
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_attention_heads": heads * queries_per_head,
        "num_experts_per_tok": min(int(base.get("num_experts_per_tok", 4)), experts),
        "num_hidden_layers": layers,
        "num_key_value_heads": heads,
        "num_local_experts": experts,
        "sliding_window": WINDOW,
        "vocab_size": VOCABULARY,
    }


def build_small_base(
    base: Mapping[str, Any], parallelism: Parallelism, target: Path, *, published: bool, adopted: bool
) -> dict[str, Any]:
    """Builds the small model in the new folder `target` and returns the content of its config.json.

    `published` gives the weights the form in which OpenAI publishes them, with experts in MXFP4; otherwise they are
    BF16 in one file. `adopted` adds the manifest that `tuneyard models adopt` writes.
    """
    tokenizer = train_tiny_tokenizer()
    sizes = small_sizes(base, parallelism)
    config = published_config(sizes, tokenizer)
    # What the base's own config.json says about everything but sizes, tokens and the form of the weights.
    own = {name: value for name, value in base.items() if name not in ("quantization_config", "layer_types")}
    config |= own | sizes | _token_ids(config | own, tokenizer) | {"experts_per_token": sizes["num_experts_per_tok"]}
    plain = target.with_name(f"{target.name}-bf16") if published else target
    plain.mkdir(parents=True)
    write_published_form(plain, config, tokenizer)
    write_weights(plain, random_weights(config, seed=0))
    if published:
        write_published_weights(plain, target)
    if adopted:
        adopt_checkpoint(target, "rehearsal")
    return config


def _token_ids(config: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """The special tokens that `config` names, one or several each, by their ids in the small vocabulary."""
    ids: dict[str, Any] = {}
    for name, token in NAMED_TOKENS.items():
        field = f"{name}_id"
        if isinstance(config.get(field), list):
            ids[field] = [tokenizer.token_to_id(end) for end in END_TOKENS[: len(config[field])]]
        elif config.get(field) is not None:
            ids[field] = tokenizer.token_to_id(token)
    return ids
