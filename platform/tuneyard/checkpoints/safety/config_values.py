"""The values that fields of config.json may have: with others a loader fails in ways of its own, or never ends.

Only fields that are there are checked: whether all are there is checked by layout/, which computes the tensors from
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeGuard

from tuneyard.core.wording import short_repr

MAX_LAYERS = 1000
"""Layers of the largest model that is read. gpt-oss-120b has 36. What is computed for each layer must end."""

MAX_SIZE = 2**31 - 1
"""llama.cpp and torch hold sizes and places in 32 bits with a sign."""

SIZES = (
    "head_dim",
    "hidden_size",
    "initial_context_length",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_key_value_heads",
    "num_experts",
    "num_local_experts",
    "sliding_window",
    "vocab_size",
)
EXPERTS_PER_TOKEN = ("experts_per_token", "num_experts_per_tok")
POSITIVE = ("rms_norm_eps", "rope_theta", "swiglu_alpha", "swiglu_limit")
NOT_NEGATIVE = ("attention_dropout", "initializer_range", "router_aux_loss_coef")
BOOLEANS = ("output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "use_cache")

FIXED: dict[str, Any] = {
    "attention_bias": True,
    "chunk_size_feed_forward": 0,
    "hidden_act": "silu",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "model_type": "gpt_oss",
    "torchscript": False,
    "use_bfloat16": False,
}
"""Fields that choose other code or leave out weights -> their value in every GPT-OSS."""

TOKENS = ("bos_token_id", "pad_token_id", "sep_token_id")
LAYER_TYPES = ("sliding_attention", "full_attention")
ROPE_TYPES = ("yarn", "default")
DTYPES = ("bfloat16", "float16", "float32", "auto")


def value_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each field of config.json whose value no GPT-OSS can have."""
    # A field of null is one that is not there.
    given = {field: value for field, value in config.items() if value is not None}
    for fields, is_valid, expected in _rules(given):
        yield from _problems(given, fields, is_valid, expected)
    for field, value in FIXED.items():
        # null would count as false.
        yield from _problems(config, [field], partial(_is_same, value), repr(value))
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if _is_size(heads) and _is_size(groups) and heads % groups:
        yield (
            f"config.json: num_attention_heads is {heads}, which is no multiple of num_key_value_heads, {groups}. A "
            "loader would fail. Copy config.json again from the model's source."
        )


def _rules(config: Mapping[str, Any]) -> Iterator[tuple[Iterable[str], Callable[[Any], bool], str]]:
    """Fields, whether a value is valid for them, and the valid values in words."""
    layers, experts = config.get("num_hidden_layers"), config.get("num_local_experts")
    size = config.get("vocab_size")
    tokens = size if _is_size(size) else MAX_SIZE
    chosen = experts if _is_size(experts) else MAX_SIZE
    yield ["num_hidden_layers"], lambda value: _is_size(value, MAX_LAYERS), f"an integer from 1 to {MAX_LAYERS}"
    yield SIZES, _is_size, f"an integer from 1 to {MAX_SIZE}"
    yield EXPERTS_PER_TOKEN, lambda value: _is_size(value, chosen), "an integer from 1 to num_local_experts"
    yield POSITIVE, lambda value: _is_number(value) and value > 0, "a positive number"
    yield NOT_NEGATIVE, lambda value: _is_number(value) and value >= 0, "a number from 0 on"
    yield BOOLEANS, lambda value: type(value) is bool, "true or false"
    yield TOKENS, lambda value: _is_token(value, tokens), "the id of a token, or null"
    yield ["eos_token_id"], lambda value: _are_tokens(value, tokens), "the id of a token, or an array of ids"
    yield ["dtype", "torch_dtype"], lambda value: value in (None, *DTYPES), " or ".join(DTYPES)
    yield (
        ["layer_types"],
        lambda value: _are_layer_types(value, layers),
        f"as many as num_hidden_layers of {' and '.join(LAYER_TYPES)}",
    )
    yield ["rope_parameters", "rope_scaling"], _is_rope, f"an object of numbers and rope_type {' or '.join(ROPE_TYPES)}"
    yield ["quantization_config"], lambda value: value is None or isinstance(value, dict), "an object"


def _problems(
    config: Mapping[str, Any], fields: Iterable[str], is_valid: Callable[[Any], bool], expected: str
) -> Iterator[str]:
    for field in fields:
        if field in config and not is_valid(config[field]):
            yield (
                f"config.json: {field} is {short_repr(config[field])}, but must be {expected}. A loader would fail, "
                "compute something else or never end. Copy config.json again from the model's source."
            )


def _is_size(value: object, largest: int = MAX_SIZE) -> TypeGuard[int]:
    return type(value) is int and 1 <= value <= largest


def _is_number(value: object) -> bool:
    """Whether it is a number that fits into 64 bits: JSON's reader also makes NaN and infinity."""
    return type(value) in (int, float) and abs(value) < 1e18 and math.isfinite(value)  # type: ignore[arg-type]


def _is_same(value: object, found: object) -> bool:
    return type(found) is type(value) and found == value


def _is_token(value: object, size: int) -> bool:
    return value is None or (type(value) is int and 0 <= value < size)


def _are_tokens(value: object, size: int) -> bool:
    return all(_is_token(token, size) for token in (value if isinstance(value, list) else [value]))


def _are_layer_types(value: object, layers: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == layers and all(layer in LAYER_TYPES for layer in value)


def _is_rope(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or any(value.get(key, "yarn") not in ROPE_TYPES for key in ("rope_type", "type")):
        return False
    numbers = [item for key, item in value.items() if key not in ("rope_type", "type", "truncate") and item is not None]
    return all(_is_number(number) and number > 0 for number in numbers)
