"""Refuses a run of the transformers backend that does not fit its GPUs, with the cheapest changes that make it fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import GIB
from tuneyard.planning.gpus import GPUS, OVERHEAD_GIB, Gpu
from tuneyard.planning.training.memory_plan import BatchShape, TrainingMemory, in_gib, training_memory

MAX_WAYS_OUT = 3


def check_training_memory(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, heldout: BatchShape | None = None
) -> TrainingMemory:
    """The run's plan. Raises ConfigError if it needs more memory than a GPU has.

    `base` is the content of the base's config.json, `batch` and `heldout` are the largest batches of the training and
    the held-out rows. The GPU is that of `workers.accelerator_type`; without one, or for a type that Tuneyard does not
    know, nothing is refused.
    """
    memory = training_memory(config, base, batch, heldout)
    gpu = run_gpu(config)
    if gpu is None or _fits(memory, gpu):
        return memory
    ways = _ways_out(config, base, batch, heldout, gpu)
    raise ConfigError(
        f"The run needs about {in_gib(memory.peak)} on each GPU, but a {gpu.name} has {gpu.memory_gib:.1f} GiB, of "
        f"which CUDA and fragments take about {OVERHEAD_GIB:.0f}. {describe(memory)}. What would fit: "
        f"{'; or '.join(ways) if ways else 'nothing that one setting changes: use a smaller model'}."
    )


def run_gpu(config: FinetuneConfig) -> Gpu | None:
    """The GPU type that the config names, if it is known. jobs.workers.gpu_type finds it where the config is silent."""
    name = config.workers.accelerator_type
    return GPUS.get(name) if name is not None else None


def describe(memory: TrainingMemory) -> str:
    """What takes the memory, in words."""
    parts = [
        f"Weights: {in_gib(memory.weights)}",
        f"trained weights, gradients and optimizer: {in_gib(memory.state + memory.gradients)}",
        f"activations: {in_gib(memory.activations + memory.layer)}",
        f"logits: {in_gib(memory.logits)}",
    ]
    if memory.gathered_layers:
        parts.append(f"layers gathered from all workers: {in_gib(memory.gathered_layers)}")
    if memory.heldout:
        parts.append(f"an evaluation, instead of the last two: {in_gib(memory.heldout)}")
    return "; ".join(parts)


def _fits(memory: TrainingMemory, gpu: Gpu) -> bool:
    return memory.peak <= (gpu.memory_gib - OVERHEAD_GIB) * GIB


def _ways_out(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, heldout: BatchShape | None, gpu: Gpu
) -> list[str]:
    """Changes that make the run fit, cheapest first: what costs time, then what trains less, then another GPU."""
    training = config.training
    batches = (batch, heldout)
    half_length = max(shape.length for shape in batches if shape is not None) // 2
    half = (_cut(batch, half_length), heldout and _cut(heldout, half_length))
    rows, steps = training.batch_size_per_worker, training.gradient_accumulation_steps
    fewest = 2 if training.objective == "dpo" else 1  # a pair is two rows of a batch
    one_row = (dataclasses.replace(batch, rows=fewest), heldout and dataclasses.replace(heldout, rows=fewest))
    changes: list[tuple[str, dict[str, Any], dict[str, Any], tuple[BatchShape, BatchShape | None]]] = [
        ("training.precision: bf16", {"precision": "bf16"}, {}, batches),
        ("training.gradient_checkpointing: true", {"gradient_checkpointing": True}, {}, batches),
        ("model.attention_implementation: flex_attention", {}, {"attention_implementation": "flex_attention"}, batches),
        (
            f"training.batch_size_per_worker: 1 with gradient_accumulation_steps: {rows * steps}",
            {"batch_size_per_worker": 1},
            {},
            one_row,
        ),
        (f"data.max_length: {half_length}", {}, {}, half),
        ("training.method: lora", {"method": "lora"}, {}, batches),
        ("training.lora.experts: false", {"lora": training.lora.model_copy(update={"experts": False})}, {}, batches),
    ]
    if config.workers.num_workers > 1:
        # Of the changes that train the same, the one that costs most time, if GPUs are slow to reach each other.
        changes.insert(3, ("training.sharding: fsdp2", {"sharding": "fsdp2"}, {}, batches))
    ways = []
    for words, training_change, model_change, shapes in changes:
        changed = config.model_copy(
            update={
                "training": training.model_copy(update=training_change),
                "model": config.model.model_copy(update=model_change),
            }
        )
        memory = training_memory(changed, base, *shapes)
        if _fits(memory, gpu):
            ways.append(f"{words} ({in_gib(memory.peak)})")
    larger = [
        other.name for other in GPUS.values() if _fits(training_memory(config, base, *batches), other)
    ]  # in the order of memory
    if larger:
        ways.append(f"workers.accelerator_type: {larger[0]}")
    return ways[:MAX_WAYS_OUT]


def _cut(batch: BatchShape, length: int) -> BatchShape:
    """A batch of rows of at most `length` tokens, of which as large a share has labels."""
    if batch.length <= length:
        return batch
    return dataclasses.replace(batch, length=length, places=batch.places * length // batch.length)
