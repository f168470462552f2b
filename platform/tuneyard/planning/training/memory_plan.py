"""GPU memory of a training worker of the transformers backend: weights, trained state, activations, logits.

The formulas count what PyTorch's autograd keeps in transformers' GPT-OSS (modeling_gpt_oss.py, integrations/moe.py,
5.24) and in PEFT's LoRA layers. On an H100 with the shapes of 20B they were within 3 % of the measured peak
(docs/figures.md); tests compare them with the tensors that autograd saves on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.resources import GIB
from tuneyard.planning.disk_space import count_parameters, count_trained_parameters

STATE_BYTES = 12
"""Bytes of a trained weight outside of the backward pass: the fp32 weight and AdamW's two fp32 moments."""

GRADIENT_BYTES = 4
"""Bytes of a trained weight's fp32 gradient."""

BUCKET_BYTES = 4
"""Bytes of a trained weight in the buffers in which several workers add up their gradients. DistributedDataParallel
holds them all the time, beside the gradients (gradient_as_bucket_view is False)."""

LOGIT_BYTES = 12
"""Bytes of a logit at the loss, at most: its fp32 value, its log-probability and its gradient."""

SCORE_COPIES, SCORE_COPIES_AT_WORK = 1, 4
"""Copies of each attention score that eager attention keeps for the backward pass, and that a layer has at work."""


@dataclass(frozen=True, slots=True)
class BatchShape:
    """One forward pass."""

    rows: int
    length: int
    """Tokens of the longest row; the others are padded to it."""
    places: int
    """Positions whose logits are computed: of each row, all at which any row has a label."""


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes on one GPU."""

    weights: int
    """Frozen weights. The trained ones are in `state`."""
    state: int
    """Trained weights and their optimizer state, in fp32; with several workers the buffers for gradients too."""
    gradients: int
    activations: int
    """What the backward pass needs of all layers."""
    layer: int
    """What one layer takes at work beyond that."""
    logits: int

    @property
    def peak(self) -> int:
        """The largest sum at one time: at the loss, in the backward pass of a layer, or in the optimizer's step."""
        always = self.weights + self.state
        at_loss = self.activations + self.logits
        in_backward = self.activations + self.layer + self.gradients
        return always + max(at_loss, in_backward)


def training_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> TrainingMemory:
    """Memory of a worker, from the content of the base's config.json and the largest batch."""
    size = 2 if config.precision == "bf16" else 4
    trained = count_trained_parameters(config, base)
    is_lora = config.training.method == "lora"
    layers = int(base["num_hidden_layers"])
    tokens = batch.rows * batch.length
    layer = layer_activations(config, base, batch)
    hidden = tokens * int(base["hidden_size"]) * size
    is_eager = uses_eager_attention(config)
    scores = batch.rows * int(base["num_attention_heads"]) * batch.length**2 * size if is_eager else 0
    if config.uses_gradient_checkpointing:
        kept, at_work = layers * hidden, layer + SCORE_COPIES_AT_WORK * scores
    else:
        kept, at_work = layers * (layer + SCORE_COPIES * scores), (SCORE_COPIES_AT_WORK - SCORE_COPIES) * scores
    if is_lora and config.training.lora.experts:
        at_work += _adapted_experts(base, size)
    return TrainingMemory(
        weights=count_parameters(base) * size if is_lora else 0,
        state=trained * (STATE_BYTES + (BUCKET_BYTES if config.workers.num_workers > 1 else 0)),
        gradients=trained * GRADIENT_BYTES,
        activations=kept,
        layer=at_work,
        logits=batch.rows * batch.places * int(base["vocab_size"]) * LOGIT_BYTES,
    )


def layer_activations(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> int:
    """Bytes that the backward pass of one layer needs, without attention scores.

    By token: the inputs of both norms in fp32; the inputs of the adapters of q, k, v and o; q, k, v and the output of
    attention; and for each expert of the token its gate and up projections, the clamped gate, its sigmoid, up + 1,
    their product, and the output.
    """
    size = 2 if config.precision == "bf16" else 4
    hidden, inner = int(base["hidden_size"]), int(base["intermediate_size"])
    heads = int(base["num_attention_heads"]) * int(base["head_dim"])
    keys = int(base["num_key_value_heads"]) * int(base["head_dim"])
    norms = 2 * 4 * hidden
    inputs = 3 * hidden * size if size == 2 else hidden * size
    attention = (3 * heads + 2 * keys) * size
    experts = int(base["num_experts_per_tok"]) * (6 * inner + hidden) * size
    return batch.rows * batch.length * (norms + inputs + attention + experts)


def uses_eager_attention(config: FinetuneConfig) -> bool:
    """Whether attention holds a score for each pair of tokens."""
    return not config.workers.use_gpu or config.model.attention_implementation == "eager"


def _adapted_experts(base: Mapping[str, Any], size: int) -> int:
    """PEFT adds expert adapters to the weights: per layer an adapted copy of both matrices, and the larger gradient."""
    shapes = {name.rpartition(".")[2]: math.prod(shape) for name, shape in expected_tensors(base).items()}
    gate_up, down = shapes["gate_up_proj"], shapes["down_proj"]
    return (2 * gate_up + down) * size


def in_gib(size: float) -> str:
    """Bytes as text."""
    return f"{size / GIB:.1f} GiB"
