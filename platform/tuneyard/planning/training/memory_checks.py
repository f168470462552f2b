"""Refuses a run of the transformers backend that does not fit its GPUs, with the cheapest changes that make it fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import GIB
from tuneyard.planning.gpus import GPUS, OVERHEAD_GIB, Gpu
from tuneyard.planning.local_gpus import known_local_gpu
from tuneyard.planning.training.memory_plan import BatchShape, TrainingMemory, in_gib, training_memory

MAX_WAYS_OUT = 3


def check_training_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> TrainingMemory:
    """The run's plan. Raises ConfigError if it needs more memory than a GPU has.

    `base` is the content of the base's config.json, `batch` the largest batch of the data. The GPU is that of
    `workers.accelerator_type`, else this machine's own; if neither is known, nothing is refused.
    """
    memory = training_memory(config, base, batch)
    gpu = run_gpu(config)
    if gpu is None or _fits(memory, gpu):
        return memory
    ways = _ways_out(config, base, batch, gpu)
    raise ConfigError(
        f"The run needs about {in_gib(memory.peak)} on each GPU, but a {gpu.name} has {gpu.memory_gib:.1f} GiB, of "
        f"which CUDA and fragments take about {OVERHEAD_GIB:.0f}. {describe(memory)}. What would fit: "
        f"{'; or '.join(ways) if ways else 'nothing that one setting changes: use a smaller model'}."
    )


def run_gpu(config: FinetuneConfig) -> Gpu | None:
    """The GPU type that the run's workers get, if it is known."""
    name = config.workers.accelerator_type or known_local_gpu()
    return GPUS.get(name) if name is not None else None


def describe(memory: TrainingMemory) -> str:
    """What takes the memory, in words."""
    return (
        f"Weights: {in_gib(memory.weights)}; trained weights, gradients and optimizer: "
        f"{in_gib(memory.state + memory.gradients)}; activations: {in_gib(memory.activations + memory.layer)}; logits: "
        f"{in_gib(memory.logits)}"
    )


def _fits(memory: TrainingMemory, gpu: Gpu) -> bool:
    return memory.peak <= (gpu.memory_gib - OVERHEAD_GIB) * GIB


def _ways_out(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, gpu: Gpu) -> list[str]:
    """Changes that make the run fit, cheapest first: what costs time, then what trains less, then another GPU."""
    training = config.training
    one_row = dataclasses.replace(batch, rows=1)
    half = dataclasses.replace(batch, length=batch.length // 2, places=batch.places // 2)
    rows, steps = training.batch_size_per_worker, training.gradient_accumulation_steps
    changes: list[tuple[str, dict[str, Any], dict[str, Any], BatchShape]] = [
        ("training.precision: bf16", {"precision": "bf16"}, {}, batch),
        ("training.gradient_checkpointing: true", {"gradient_checkpointing": True}, {}, batch),
        ("model.attention_implementation: flex_attention", {}, {"attention_implementation": "flex_attention"}, batch),
        (
            f"training.batch_size_per_worker: 1 with gradient_accumulation_steps: {rows * steps}",
            {"batch_size_per_worker": 1},
            {},
            one_row,
        ),
        (f"data.max_length: {half.length}", {}, {}, half),
        ("training.method: lora", {"method": "lora"}, {}, batch),
        ("training.lora.experts: false", {"lora": training.lora.model_copy(update={"experts": False})}, {}, batch),
    ]
    ways = []
    for words, training_change, model_change, shape in changes:
        changed = config.model_copy(
            update={
                "training": training.model_copy(update=training_change),
                "model": config.model.model_copy(update=model_change),
            }
        )
        memory = training_memory(changed, base, shape)
        if _fits(memory, gpu):
            ways.append(f"{words} ({in_gib(memory.peak)})")
    larger = [
        other.name for other in GPUS.values() if _fits(training_memory(config, base, batch), other)
    ]  # in the order of memory
    if larger:
        ways.append(f"workers.accelerator_type: {larger[0]}")
    return ways[:MAX_WAYS_OUT]
