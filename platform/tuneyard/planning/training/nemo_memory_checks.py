"""Refuses a NeMo run that cannot fit its GPUs, with the cheapest changes after which it may."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import GIB
from tuneyard.planning.gpus import GPUS, Gpu
from tuneyard.planning.nemo_checks import check_nemo_config
from tuneyard.planning.nemo_parallelism import resolve_parallelism
from tuneyard.planning.training.memory_checks import MAX_WAYS_OUT, describe, run_gpu
from tuneyard.planning.training.memory_plan import BatchShape, TrainingMemory, in_gib
from tuneyard.planning.training.nemo_memory import NemoMemory, nemo_memory

MORE_RANKS = (2, 4, 8, 16, 32)
"""Pipeline and expert parallelism that is tried instead of the config's."""


def check_nemo_memory(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape) -> NemoMemory:
    """What the run takes at least. Raises ConfigError if that is more memory than a GPU has.

    `base` is the content of the base's config.json, `batch` the largest micro batch. The GPU is that of
    `workers.accelerator_type`; without one, or for a type that Tuneyard does not know, nothing is refused.
    """
    memory = nemo_memory(config, base, batch)
    gpu = run_gpu(config)
    if gpu is None or _may_fit(memory, gpu):
        return memory
    ways = list(_ways_out(config, base, batch, gpu))[:MAX_WAYS_OUT]
    raise ConfigError(
        f"The run needs at least {in_gib(memory.total)} on a GPU, but a {gpu.name} has {gpu.memory_gib:.1f} GiB. "
        f"{_parts(memory)}. What may fit: "
        f"{'; or '.join(ways) if ways else 'nothing that one setting changes: use a smaller model'}."
    )


def memory_in_words(memory: TrainingMemory | NemoMemory) -> str:
    """What a run takes on each GPU, of either backend, and what for."""
    if isinstance(memory, TrainingMemory):
        return f"about {in_gib(memory.peak)} on each GPU. {describe(memory)}"
    return f"at least {in_gib(memory.total)} on each GPU. {_parts(memory)}"


def _parts(memory: NemoMemory) -> str:
    return (
        f"Weights: {in_gib(memory.weights)}; gradients and optimizer: {in_gib(memory.state)}; activations: "
        f"{in_gib(memory.activations)}; logits: {in_gib(memory.logits)}"
    )


def _may_fit(memory: NemoMemory, gpu: Gpu) -> bool:
    return memory.total <= gpu.memory_gib * GIB


def _ways_out(config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, gpu: Gpu) -> Iterator[str]:
    """Changes after which the run may fit: first what costs time, then more GPUs, then what trains less."""
    training = config.training
    total_rows, half = training.batch_size_per_worker * training.gradient_accumulation_steps, batch.length // 2
    one_row = {"batch_size_per_worker": 1, "gradient_accumulation_steps": total_rows}
    changes = [
        ("training.precision: bf16", _with_training(config, precision="bf16"), batch),
        (
            f"training.batch_size_per_worker: 1 with gradient_accumulation_steps: {total_rows}",
            _with_training(config, **one_row),
            dataclasses.replace(batch, rows=1),
        ),
        *((words, changed, batch) for words, changed in _with_more_ranks(config, base, batch, gpu)),
        (f"data.max_length: {half}", _with_max_length(config, half), dataclasses.replace(batch, length=half)),
        ("training.method: lora", _with_training(config, method="lora"), batch),
    ]
    for words, changed, shape in changes:
        memory = nemo_memory(changed, base, shape)
        if _may_fit(memory, gpu):
            yield f"{words} (at least {in_gib(memory.total)})"
    needed = nemo_memory(config, base, batch)
    yield from (f"workers.accelerator_type: {gpu.name}" for gpu in GPUS.values() if _may_fit(needed, gpu))


def _with_more_ranks(
    config: FinetuneConfig, base: Mapping[str, Any], batch: BatchShape, gpu: Gpu
) -> Iterator[tuple[str, FinetuneConfig]]:
    """The smallest larger expert and pipeline parallelism with which the run may fit, with more workers if need be."""
    present = resolve_parallelism(config)
    for axis, ranks in (("expert", present.expert), ("pipeline", present.pipeline)):
        for more in (count for count in MORE_RANKS if count > ranks):
            workers = max(config.workers.num_workers, more * (present.pipeline if axis == "expert" else present.expert))
            changed = config.model_copy(
                update={
                    "nemo": config.nemo.model_copy(update={f"{axis}_parallel": more}),
                    "workers": config.workers.model_copy(update={"num_workers": workers}),
                }
            )
            try:
                check_nemo_config(changed, dict(base))
            except ConfigError:
                continue
            if _may_fit(nemo_memory(changed, base, batch), gpu):
                more_workers = f" with workers.num_workers: {workers}" if workers != config.workers.num_workers else ""
                yield f"nemo.{axis}_parallel: {more}{more_workers}", changed
                break


def _with_max_length(config: FinetuneConfig, length: int) -> FinetuneConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"max_length": length})})


def _with_training(config: FinetuneConfig, **update: Any) -> FinetuneConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=update)})
