"""How many workers a rehearsal has, and in which parallel layout: the run's own, or the part that fits this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.resources import GIB
from tuneyard.core.wording import count_of
from tuneyard.planning.nemo_parallelism import Parallelism, resolve_parallelism

WORKER_BYTES = {"nemo": int(0.6 * GIB), "transformers": int(0.7 * GIB)}
"""Main memory of one worker with the small model, by backend. NeMo itself is there once for all of them."""

OTHER_BYTES = 3 * GIB
"""Main memory of the driver, the fork server, Ray's own processes, and of the operating system."""

WORKERS_PER_CORE = 4
"""More start too slowly: a forked worker takes 2 s of CPU time, twice because one of them is killed."""

REDUCIBLE = ("expert", "context", "pipeline")
"""Axes that may be shortened, in this order, if even one copy of the layout does not fit."""


@dataclass(frozen=True, slots=True)
class RehearsedLayout:
    """Workers and layout of a rehearsal. `note` says what is smaller than in the run; "" if nothing is."""

    workers: int
    parallelism: Parallelism
    note: str

    def __str__(self) -> str:
        axes = {name: getattr(self.parallelism, name) for name in ("tensor", "pipeline", "expert", "context")}
        layout = " × ".join(f"{name} {ranks}" for name, ranks in axes.items() if ranks > 1) or "data parallel"
        text = f"{count_of(self.workers, 'worker')}, {layout}"
        return f"{text}; {self.note}" if self.note else text


def run_parallelism(config: FinetuneConfig) -> Parallelism:
    """The parallel layout of the run; that of the transformers backend is data parallel."""
    return resolve_parallelism(config) if config.training.backend == "nemo" else Parallelism()


def fit_layout(config: FinetuneConfig, available_bytes: int, cores: int) -> RehearsedLayout:
    """The run's workers and layout, or as much of them as fits in main memory of `available_bytes` and on the cores.

    Copies of the model are left out first. If one copy has too many workers, its axes are shortened to their next
    divisors: expert parallelism, then context, then pipeline. Nothing else needs several workers: check_layout, which
    must have passed, refuses tensor parallelism.
    """
    workers, layout = config.workers.num_workers, run_parallelism(config)
    in_memory = (available_bytes - OTHER_BYTES) // WORKER_BYTES[config.training.backend]
    limit = max(1, min(in_memory, WORKERS_PER_CORE * cores))
    if workers <= limit:
        return RehearsedLayout(workers, layout, "")
    smaller = layout
    while _ranks(smaller) > limit:
        axis = next(name for name in REDUCIBLE if getattr(smaller, name) > 1)
        ranks = getattr(smaller, axis)
        divisor = next(d for d in range(ranks - 1, 0, -1) if ranks % d == 0)
        smaller = replace(smaller, **{axis: divisor})
    rehearsed = max(1, limit // _ranks(smaller)) * _ranks(smaller)
    return RehearsedLayout(rehearsed, smaller, _note(workers, layout, smaller, limit))


def _ranks(layout: Parallelism) -> int:
    """The smallest number of workers with this layout. Experts are distributed over the ranks of data parallelism."""
    return math.lcm(layout.model_ranks, layout.expert * layout.pipeline)


def _note(workers: int, layout: Parallelism, smaller: Parallelism, limit: int) -> str:
    longer = [
        f"{axis} {getattr(layout, axis)}" for axis in REDUCIBLE if getattr(smaller, axis) != getattr(layout, axis)
    ]
    what = f" with {' × '.join(longer)}" if longer else ""
    return f"the run has {count_of(workers, 'worker')}{what}, and this machine holds {limit}"
