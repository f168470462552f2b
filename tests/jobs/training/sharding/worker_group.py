"""Training runs in several processes that form a gloo group, as Ray Train's workers do, without Ray."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from jobs.training.backend import TokenFiles
from jobs.workers.backend_factory import create_backend
from tests.forked_processes import call_in_processes
from tests.jobs.training.backend_contract import RecordingContext
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.ports import free_port

TIMEOUT_S = 600
"""Seconds that a worker waits for the others, who may load a model on a busy machine."""


@dataclass(frozen=True, slots=True)
class Run:
    """A training run; its results go into the new folder `folder`."""

    config: FinetuneConfig
    tokens: TokenFiles
    folder: Path
    resume_from: Path | None = None

    @property
    def steps(self) -> list[dict[str, float]]:
        """The reported metrics that have a loss."""
        return [metrics for metrics in self._metrics if "loss" in metrics]

    @property
    def evaluations(self) -> dict[float, float]:
        """Held-out loss by step."""
        return {metrics["step"]: metrics["eval_loss"] for metrics in self._metrics if "eval_loss" in metrics}

    def checkpoint(self, number: int) -> Path:
        """The checkpoint that was reported as number `number`, with the files of all workers."""
        return self.folder / f"checkpoint-{number}"

    @property
    def _metrics(self) -> list[dict[str, float]]:
        metrics: list[dict[str, float]] = json.loads((self.folder / "metrics.json").read_text())
        return metrics


class WorkerContext(RecordingContext):
    """TrainContext of a worker of a group: the files of all workers are merged, as Ray Train does."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.folder / f"work-{dist.get_rank()}", run.resume_from)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._run = run

    def report_checkpoint(self, metrics: dict[str, float], folder: Path) -> None:
        target = self._run.checkpoint(len(self.checkpoints))
        shutil.copytree(folder, target, dirs_exist_ok=True)
        self.checkpoints.append(target)
        self.checkpoint_metrics.append(metrics)
        dist.barrier()


def train_in_group(workers: int, runs: list[Run]) -> None:
    """Trains one run after the other in `workers` processes."""
    call_in_processes(_train, workers, workers, free_port(), runs)


@contextlib.contextmanager
def group_of_one(folder: Path, backend: str) -> Iterator[None]:
    """This process as the only member of a group; `folder` must exist."""
    dist.init_process_group(backend, init_method=f"file://{folder / 'group'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def in_group(rank: int, workers: int, port: int) -> None:
    """Makes this process a member of the group."""
    torch.set_num_threads(1)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers, "LOCAL_WORLD_SIZE": workers}
    os.environ |= {name: str(value) for name, value in ranks.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT_S))


def _train(rank: int, workers: int, port: int, runs: list[Run]) -> None:
    in_group(rank, workers, port)
    for run in runs:
        context = WorkerContext(run)
        create_backend(run.config).train(run.config, run.tokens, context)
        if rank == 0:
            (run.folder / "metrics.json").write_text(json.dumps(context.metrics))
    dist.destroy_process_group()


def sharded_config(config: FinetuneConfig, sharding: str, **training: Any) -> FinetuneConfig:
    """The config for a group of up to three workers, whose steps take six rows whatever their number."""
    changes = {"batch_size_per_worker": 1, "gradient_accumulation_steps": 2, "sharding": sharding} | training
    sections = config.model_dump(mode="json")
    sections["training"] |= changes
    sections["workers"] |= {"num_workers": 3, "min_workers": 1}
    return FinetuneConfig.model_validate(sections)
