"""The config of the rehearsed run: the run's own, with the small model, a few steps, and no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.rehearsal.layout import RehearsedLayout
from tuneyard.configs.finetune import FinetuneConfig

STEPS, CHECKPOINT_EVERY, EVALUATE_EVERY = 8, 4, 4

CPUS_PER_WORKER = 0.01
"""Ray starts all workers at once, however few cores there are."""

MIN_LEARNING_RATE = 1e-4
"""With a lower rate, so few steps change no weight of a bf16 export."""

MAX_MICRO_BATCH, MAX_ACCUMULATION, MAX_ROWS, HELDOUT_ROWS = 2, 2, 64, 4


@dataclass(frozen=True, slots=True)
class SmallFiles:
    """Where the files of the rehearsed run are."""

    base: Path
    train: Path
    heldout: Path | None
    storage: Path


def small_run(config: FinetuneConfig, layout: RehearsedLayout, files: SmallFiles, max_length: int) -> FinetuneConfig:
    """The rehearsed run's config. What GPUs decide by default (precision, recomputation) stays as in the run.

    `max_length` is the number of tokens of the longest row in `files`, or more.
    """
    fields: dict[str, Any] = config.model_dump(exclude_unset=True)
    training, uses_nemo = config.training, config.training.backend == "nemo"
    for section in ("training", "workers", "nemo"):
        fields.setdefault(section, {})
    fields["run"]["storage"] = str(files.storage)
    fields["run"]["resume"] = True
    fields["model"] = {"base": str(files.base)}
    fields["data"] = {
        name: value for name, value in fields["data"].items() if name not in ("format", "columns", "preference")
    } | {
        "train": str(files.train),
        "heldout": str(files.heldout) if files.heldout else None,
        "max_length": max_length,
        "too_long": "error",
    }
    fields["training"] |= {
        "max_steps": STEPS,
        "checkpoint_every_steps": CHECKPOINT_EVERY,
        "eval_every_steps": EVALUATE_EVERY,
        "learning_rate": max(training.learning_rate, MIN_LEARNING_RATE),
        "batch_size_per_worker": min(training.batch_size_per_worker, MAX_MICRO_BATCH),
        "gradient_accumulation_steps": small_accumulation(config, layout),
        "precision": config.precision,
        "gradient_checkpointing": None if uses_nemo else config.uses_gradient_checkpointing,
    }
    if training.lora.last_layers is not None:
        fields["training"]["lora"]["last_layers"] = 1
    fields["workers"] = {
        "num_workers": layout.workers,
        "min_workers": config.workers.min_workers if layout.workers == config.workers.num_workers else None,
        "cpus_per_worker": CPUS_PER_WORKER,
        "max_failures": max(1, config.workers.max_failures),
    }
    if uses_nemo:
        parallelism = layout.parallelism
        fields["nemo"] |= {
            "tensor_parallel": parallelism.tensor,
            "pipeline_parallel": parallelism.pipeline,
            "expert_parallel": parallelism.expert,
            "context_parallel": parallelism.context,
            "gpus_per_node": layout.workers,
        }
    fields.pop("deploy", None)
    return FinetuneConfig.model_validate(fields)


def small_accumulation(config: FinetuneConfig, layout: RehearsedLayout) -> int:
    """The smallest gradient accumulation that is like the run's: above 1 if the run's is, and valid when elastic."""
    accumulation = config.training.gradient_accumulation_steps
    counts = config.workers.worker_counts if layout.workers == config.workers.num_workers else (layout.workers,)
    candidates = range(min(accumulation, MAX_ACCUMULATION), accumulation)
    return next((a for a in candidates if all(a * layout.workers % count == 0 for count in counts)), accumulation)


def rows_needed(config: FinetuneConfig, layout: RehearsedLayout) -> int:
    """Number of training rows for the rehearsal: two steps of different rows, but no more than MAX_ROWS."""
    copies = max(1, layout.workers // layout.parallelism.model_ranks)
    micro = min(config.training.batch_size_per_worker, MAX_MICRO_BATCH)
    return min(MAX_ROWS, 2 * micro * small_accumulation(config, layout) * copies)
