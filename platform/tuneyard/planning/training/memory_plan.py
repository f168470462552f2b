"""GPU memory of a training worker of the transformers backend: weights, trained state, activations, logits.

The formulas count what PyTorch's autograd keeps in transformers' GPT-OSS (modeling_gpt_oss.py, integrations/moe.py,
5.24) and in PEFT's LoRA layers. On an H100 with the shapes of 20B they were within 3 % of the measured peak
(docs/figures.md); tests compare them with the tensors that autograd saves on a CPU.

With `training.sharding: fsdp2`, weights, trained state and gradients are divided by the number of workers. Beside them
a worker holds the whole weights of two layers, the one that computes and the one that is being gathered for it, and the
whole gradients of two layers, of which one is being added up. Each of these tensors is padded so that all workers have
equal parts along its first axis (torch/distributed/fsdp/_fully_shard, 2.13).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.resources import GIB
from tuneyard.planning.disk_space import count_trained_parameters

STORED_BYTES, STATE_BYTES = 4, 12
"""Bytes of a trained weight: in fp32 alone, and with AdamW's two fp32 moments."""

GRADIENT_BYTES = 4
"""Bytes of a trained weight's fp32 gradient."""

BUCKET_BYTES = 4
"""Bytes of a trained weight in the buffers in which several workers add up their gradients. DistributedDataParallel
holds them all the time, beside the gradients (gradient_as_bucket_view is False)."""

LOGIT_BYTES, HELDOUT_LOGIT_BYTES = 12, 10
"""Bytes of a logit at the loss, at most: its fp32 value, its log-probability and its gradient. Without a backward pass:
its value in bf16 and in fp32, and its log-probability."""

FLEX_BLOCK = 128
"""Tokens: rows for flex_attention are padded to a multiple of its block, so that it is compiled for few lengths."""

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
    gathered_head: int
    """The whole output head and its whole gradient; 0 without sharding."""
    gathered_layers: int
    """The whole weights of two layers, and the whole gradients of their trained weights; 0 without sharding."""
    heldout: int
    """What an evaluation takes beyond weights and state: the logits of a batch of held-out rows, or a layer at work."""

    @property
    def peak(self) -> int:
        """The largest sum at one time: at the loss, in the backward pass of a layer, or in an evaluation."""
        always = self.weights + self.state
        at_loss = self.activations + self.logits + self.gathered_head
        in_backward = self.activations + self.layer + self.gradients + self.gathered_layers
        return always + max(at_loss, in_backward, self.heldout)


def training_memory(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, heldout: BatchShape | None = None
) -> TrainingMemory:
    """Memory of a worker, from the content of the base's config.json and the largest batches of the data.

    An elastic run is planned for the number of workers that takes most: of a sharded model, fewer workers have larger
    parts, but more may gather more padding.
    """
    counts = config.workers.worker_counts if config.training.sharding == "fsdp2" else (1,)
    batch, heldout = _padded_batch(config, batch), heldout and _padded_batch(config, heldout)
    return max((_memory_of(config, base, batch, heldout, shards) for shards in counts), key=lambda plan: plan.peak)


def _padded_batch(config: FinetuneConfig, batch: BatchShape) -> BatchShape:
    """The batch as the collator makes it. Padding has no labels, so the places stay."""
    if uses_eager_attention(config):
        return batch
    return dataclasses.replace(batch, length=-(-batch.length // FLEX_BLOCK) * FLEX_BLOCK)


def _memory_of(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, heldout: BatchShape | None, shards: int
) -> TrainingMemory:
    """See training_memory. The model is divided among `shards` workers."""
    size = _bytes_of_value(config)
    is_lora = config.training.method == "lora"
    model = _largest_shard(base, shards)
    trained = math.ceil(count_trained_parameters(config, base) / shards) if is_lora else model
    layers = int(base["num_hidden_layers"])
    layer = layer_activations(config, base, batch)
    hidden = batch.rows * batch.length * int(base["hidden_size"]) * size
    scores = _attention_scores(config, base, batch)
    if config.uses_gradient_checkpointing:
        kept, at_work = layers * hidden, layer + SCORE_COPIES_AT_WORK * scores
    else:
        kept = layers_with_gradient(config, layers) * (layer + SCORE_COPIES * scores)
        at_work = (SCORE_COPIES_AT_WORK - SCORE_COPIES) * scores
    if is_lora and config.training.lora.experts:
        copies, gradient = _adapted_experts(base, frozen_bytes(config))
        at_work += copies + gradient
        if not config.uses_gradient_checkpointing:
            # Beside those of the layer at work, whose gradient is that of a copy.
            kept += (layers_with_gradient(config, layers) - 1) * copies
    uses_buckets = config.workers.num_workers > 1 and config.training.sharding == "none"
    head, gathered_layers = _gathered(config, base, shards, gradients=True)
    return TrainingMemory(
        weights=model * frozen_bytes(config) if is_lora else 0,
        state=trained * (STATE_BYTES + (BUCKET_BYTES if uses_buckets else 0)),
        gradients=trained * GRADIENT_BYTES,
        activations=kept,
        layer=at_work,
        logits=batch.rows * batch.places * int(base["vocab_size"]) * LOGIT_BYTES,
        gathered_head=head,
        gathered_layers=gathered_layers,
        heldout=_heldout_memory(config, base, heldout, shards) if heldout is not None else 0,
    )


def _heldout_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, shards: int) -> int:
    """Bytes at the loss or in a layer, whichever is more. Nothing is kept for a backward pass."""
    head, gathered_layers = _gathered(config, base, shards, gradients=False)
    at_loss = batch.rows * batch.places * int(base["vocab_size"]) * HELDOUT_LOGIT_BYTES + head
    in_layer = layer_activations(config, base, batch) + SCORE_COPIES_AT_WORK * _attention_scores(config, base, batch)
    if config.training.method == "lora" and config.training.lora.experts:
        in_layer += sum(_adapted_experts(base, frozen_bytes(config)))
    return max(at_loss, in_layer + gathered_layers)


def _attention_scores(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> int:
    """Bytes of one copy of a layer's attention scores; 0 for an attention that holds none."""
    if not uses_eager_attention(config):
        return 0
    return batch.rows * int(base["num_attention_heads"]) * batch.length**2 * _bytes_of_value(config)


def _gathered(config: FinetuneConfig, base: Mapping[str, Any], shards: int, *, gradients: bool) -> tuple[int, int]:
    """Bytes of the padded output head and of two padded layers, with the `gradients` of what is trained."""
    if config.training.sharding == "none":
        return 0, 0
    is_lora, layers = config.training.method == "lora", int(base["num_hidden_layers"])
    of_trained = STORED_BYTES + (GRADIENT_BYTES if gradients else 0)
    of_weight = frozen_bytes(config) if is_lora else of_trained
    in_layer = sum(_padded(shape, shards) for name, shape in expected_tensors(base).items() if ".layers.0." in name)
    adapters = math.ceil(count_trained_parameters(config, base) / layers) if is_lora else 0
    head = _padded((int(base["vocab_size"]), int(base["hidden_size"])), shards)
    return head * of_weight, 2 * (in_layer * of_weight + adapters * of_trained)


def _largest_shard(base: Mapping[str, Any], shards: int) -> int:
    """Parameters of the worker with most of them. Each tensor is divided along its first axis."""
    return sum(_padded(shape, shards) // shards for shape in expected_tensors(base).values())


def _padded(shape: Sequence[int], shards: int) -> int:
    """Values of a tensor whose first axis is padded to a multiple of `shards`."""
    return math.ceil(shape[0] / shards) * shards * math.prod(shape[1:])


def _bytes_of_value(config: FinetuneConfig) -> int:
    return 2 if config.precision == "bf16" else 4


def frozen_bytes(config: FinetuneConfig) -> int:
    """Bytes of a weight under adapters: on a GPU in the precision of the run, on a CPU always in fp32."""
    return _bytes_of_value(config) if config.workers.use_gpu else 4


def layer_activations(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> int:
    """Bytes that the backward pass of one layer needs, without attention scores.

    By token: the inputs of both norms in fp32; the inputs of the adapters of q, k, v and o; q, k, v and the output of
    attention; and for each expert of the token its gate and up projections, the clamped gate, its sigmoid, up + 1,
    their product, and the output; with adapters on experts also its input.
    """
    size = _bytes_of_value(config)
    hidden, inner = int(base["hidden_size"]), int(base["intermediate_size"])
    heads = int(base["num_attention_heads"]) * int(base["head_dim"])
    keys = int(base["num_key_value_heads"]) * int(base["head_dim"])
    norms = 2 * 4 * hidden
    inputs = 3 * hidden * size if size == 2 else hidden * size
    attention = (3 * heads + 2 * keys) * size
    has_adapted_experts = config.training.method == "lora" and config.training.lora.experts
    experts = int(base["num_experts_per_tok"]) * (6 * inner + (2 if has_adapted_experts else 1) * hidden) * size
    return batch.rows * batch.length * (norms + inputs + attention + experts)


def layers_with_gradient(config: FinetuneConfig, layers: int) -> int:
    """Of so many layers, those of which the backward pass needs anything: none below the first adapter."""
    lora = config.training.lora
    return layers if config.training.method == "full" else min(lora.last_layers or layers, layers)


def uses_eager_attention(config: FinetuneConfig) -> bool:
    """Whether attention holds a score for each pair of tokens."""
    return not config.workers.use_gpu or config.model.attention_implementation == "eager"


def _adapted_experts(base: Mapping[str, Any], size: int) -> tuple[int, int]:
    """PEFT adds expert adapters to the weights: per layer an adapted copy of both matrices, and the larger gradient.

    Both in bytes. The backward pass needs the copies of all layers, unless it computes them again.
    """
    shapes = {name.rpartition(".")[2]: math.prod(shape) for name, shape in expected_tensors(base).items()}
    gate_up, down = shapes["gate_up_proj"], shapes["down_proj"]
    return (gate_up + down) * size, gate_up * size


def in_gib(size: float) -> str:
    """Bytes as text."""
    return f"{size / GIB:.1f} GiB"
