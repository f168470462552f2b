"""GPU memory that a NeMo worker takes at least: weights, trained state, activations that every layer keeps, logits.

A lower bound, not a plan: what it counts is kept by Megatron-Core 0.15.3 whichever kernels compute, with NeMo 2.7.3's
recipes for GPT-OSS, which recompute no activations. TransformerEngine and NCCL take more. So a run that does not fit by
this bound cannot run, and one that fits may still be too large. tests/nemo compares the bound with a model of
Megatron's own layers on a CPU: its weights exactly, its kept tensors from below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.nemo_parallelism import Parallelism, resolve_parallelism
from tuneyard.planning.nemo_recipe_values import fixed_row_length
from tuneyard.planning.training.memory_plan import BatchShape, layers_with_gradient

GRADIENT_BYTES = 4
"""Bytes of a trained weight's gradient: bf16_mixed sets grad_reduce_in_fp32."""

MASTER_BYTES, MOMENT_BYTES = 4, 8
"""Bytes of a bf16 weight's copy in fp32, and of AdamW's two moments. The distributed optimizer divides both among the
ranks that hold the same weight."""

LOGIT_BYTES = {"bf16": 6, "fp32": 4}
"""Bytes of a logit at the loss: in bf16 the output layer's value and its copy in fp32, which becomes the softmax in
place (megatron/core/tensor_parallel/cross_entropy.py)."""


@dataclass(frozen=True, slots=True)
class NemoMemory:
    """Bytes on one GPU of one pipeline stage, at least."""

    weights: int
    state: int
    """Gradients of the trained weights, their copies in fp32 and their optimizer state."""
    activations: int
    """What the layers keep for the backward passes of all micro batches that are under way at once."""
    logits: int
    """0 but on the last stage."""

    @property
    def total(self) -> int:
        return self.weights + self.state + self.activations + self.logits


def nemo_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> NemoMemory:
    """The stage that takes most, for `batch`, the largest micro batch; `base` is the content of the base's config.json.

    The layers of a model with pipeline parallelism are divided evenly; check_nemo_config must have passed.
    """
    stages = range(resolve_parallelism(config).pipeline)
    return max((_stage_memory(config, base, batch, stage) for stage in stages), key=lambda memory: memory.total)


def _stage_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, stage: int) -> NemoMemory:
    parallelism = resolve_parallelism(config)
    size = 2 if config.precision == "bf16" else 4
    dense, experts = stage_parameters(base, parallelism, stage)
    is_last = stage == parallelism.pipeline - 1
    layers = int(base["num_hidden_layers"]) // parallelism.pipeline
    in_flight = min(parallelism.pipeline - stage, config.training.gradient_accumulation_steps)
    tokens = batch.rows * math.ceil((fixed_row_length(config) or batch.length) / parallelism.context)
    adapters = 0 if config.training.method == "full" else _adapter_parameters(config, base) * layers
    trained = (adapters, 0) if config.training.method == "lora" else (dense, experts)
    return NemoMemory(
        weights=(dense + experts + adapters) * size,
        state=_state(config, parallelism, *trained),
        activations=in_flight * layers_with_gradient(config, layers) * tokens * values_kept(config, base) * size,
        logits=tokens * int(base["vocab_size"]) * LOGIT_BYTES[config.precision] if is_last else 0,
    )


def stage_parameters(base: Mapping[str, Any], parallelism: Parallelism, stage: int) -> tuple[int, int]:
    """The base's parameters on a rank of pipeline stage `stage`: all but the experts', and those of its experts."""
    of_a_layer, others = {True: 0, False: 0}, {"embed_tokens": 0, "lm_head": 0, "norm": 0}
    for name, shape in expected_tensors(base).items():
        if name.startswith("model.layers.0."):
            of_a_layer[".experts." in name] += math.prod(shape)
        elif not name.startswith("model.layers."):
            others[name.split(".")[-2]] += math.prod(shape)
    layers = int(base["num_hidden_layers"]) // parallelism.pipeline
    dense = layers * of_a_layer[False]
    if stage == 0:
        dense += others["embed_tokens"]
    if stage == parallelism.pipeline - 1:
        dense += others["lm_head"] + others["norm"]
    return dense, layers * of_a_layer[True] // parallelism.expert


def values_kept(config: FinetuneConfig, base: Mapping[str, Any]) -> int:
    """Numbers that a layer keeps of each token for its backward pass, at least.

    The inputs of both norms, queries, keys and values, the attention's output, and what the experts' activation
    function takes of each expert that a token visits. With trained experts also what both of their matrices multiply.
    """
    hidden, inner = int(base["hidden_size"]), int(base["intermediate_size"])
    heads, groups = int(base["num_attention_heads"]), int(base["num_key_value_heads"])
    attention = (2 * heads + 2 * groups) * int(base["head_dim"])
    of_an_expert = 2 * inner + (hidden + inner if config.training.method == "full" else 0)
    return 2 * hidden + attention + int(base["num_experts_per_tok"]) * of_an_expert


def _state(config: FinetuneConfig, parallelism: Parallelism, dense: int, experts: int) -> int:
    """Bytes of gradients, copies in fp32 and moments of the trained parameters of a rank."""
    moments = MOMENT_BYTES + (MASTER_BYTES if config.precision == "bf16" else 0)
    workers = config.workers.num_workers
    same_dense = workers // (parallelism.tensor * parallelism.pipeline)
    same_experts = workers // (parallelism.expert * parallelism.pipeline)
    divided = dense / max(1, same_dense) + experts / max(1, same_experts)
    return math.ceil((dense + experts) * GRADIENT_BYTES + divided * moments)


def _adapter_parameters(config: FinetuneConfig, base: Mapping[str, Any]) -> int:
    """Parameters of a layer's adapters, on average: linear_qkv has one pair of matrices, and linear_proj another."""
    lora, layers, hidden = config.training.lora, int(base["num_hidden_layers"]), int(base["hidden_size"])
    heads, groups, size = (int(base[key]) for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    pairs = hidden + (heads + 2 * groups) * size + heads * size + hidden
    return lora.rank * pairs * min(lora.last_layers or layers, layers) // layers
