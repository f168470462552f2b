"""Lightning callbacks that tell a TrainContext how a NeMo run goes, and write its checkpoints."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from nemo import lightning as nl

from jobs.nemo.data import RunRows, TokenStoreDataModule
from jobs.nemo.folders import step_folder, written_checkpoints
from jobs.training.backend import TrainContext
from tuneyard.core.errors import TrainingError

POINTER = "nemo_checkpoint.json"
KEPT_CHECKPOINTS = 3
"""One more than the pointers that Ray Train keeps: the newest may not have been reported when a worker dies."""


class MetricsReporter(pl.Callback):
    """Reports the metrics that TrainingBackend names."""

    def __init__(self, context: TrainContext, data: TokenStoreDataModule) -> None:
        self._context = context
        self._data = data
        self._rows: RunRows | None = None
        self._since = time.monotonic()
        self.last: dict[str, float] = {}

    def on_train_start(self, *_: Any) -> None:
        self._rows = RunRows.open(self._data)
        self._since = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: pl.LightningModule, *_: Any) -> None:
        assert self._rows is not None
        step, found = trainer.global_step, trainer.callback_metrics
        loss = float(found["reduced_train_loss"])
        if not math.isfinite(loss):
            optimizer = trainer.optimizers[0].param_groups[0]
            raise TrainingError(
                f"The loss is {loss} at step {step}. Lower training.learning_rate (now {optimizer['max_lr']:g}) or "
                "training.max_grad_norm."
            )
        now = time.monotonic()
        tokens = self._rows.tokens_of_step(step - 1, self._data.global_batch_size)
        metrics = {
            "loss": loss,
            "grad_norm": float(found.get("grad_norm", math.nan)),
            "learning_rate": float(found["lr"]),
            "tokens_per_s": tokens / max(now - self._since, 1e-9),
        }
        self._since = now
        self._report(trainer, metrics)

    def on_validation_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        self.restart_clock()
        if "val_loss" in trainer.callback_metrics:
            self._report(trainer, {"eval_loss": float(trainer.callback_metrics["val_loss"])})

    def restart_clock(self) -> None:
        """Time spent on other things than training is not training time."""
        self._since = time.monotonic()

    def _report(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        assert self._rows is not None
        samples = trainer.global_step * self._data.global_batch_size
        metrics |= {
            "step": trainer.global_step,
            "total_steps": trainer.max_steps,
            "epoch": samples / self._rows.rows_per_epoch,
        }
        self.last |= metrics
        if self._context.rank == 0:
            self._context.report_metrics(metrics)


class CheckpointReporter(nl.ModelCheckpoint):
    """NeMo's checkpoint every so many steps and at the end, with optimizer state and context; reported as a pointer."""

    def __init__(self, context: TrainContext, metrics: MetricsReporter, folder: Path, every: int) -> None:
        super().__init__(
            dirpath=str(folder), save_top_k=-1, save_last=False, monitor=None, save_optim_on_train_end=True
        )
        self._context = context
        self._metrics = metrics
        self._folder = folder
        self._every = every

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step % self._every and step != trainer.max_steps:
            return
        path = step_folder(self._folder, step)
        if self._context.rank == 0:
            # One that was written and not reported, before a worker died. NeMo waits for rank 0 before it writes.
            shutil.rmtree(path, ignore_errors=True)
        self._save_checkpoint(trainer, str(path))
        pointer = self._context.work_dir / f"pointer-{step}"
        if self._context.rank == 0:
            pointer.mkdir(parents=True, exist_ok=True)
            (pointer / POINTER).write_text(json.dumps({"path": str(path)}), encoding="utf-8")
        self._context.report_checkpoint(dict(self._metrics.last), pointer)
        if self._context.rank == 0:
            for old in written_checkpoints(self._folder)[:-KEPT_CHECKPOINTS]:
                shutil.rmtree(old, ignore_errors=True)
        self._metrics.restart_clock()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Nothing: steps decide."""

    def on_validation_end(self, *_: Any) -> None:
        """Nothing: steps decide."""

    def on_train_end(self, *_: Any) -> None:
        """Nothing: the last step has been written."""


class ResumeInPlace(pl.Callback):
    """A resumed run evaluates at the steps at which an undisturbed one does, and at its end.

    Lightning evaluates by the number of the batch in its epoch, and a checkpoint written in on_train_batch_end holds
    one less than were taken (lightning/pytorch/loops/training_epoch_loop.py, 2.4); it knows the last batch by the
    number fetched, micro batches among NeMo's loaders, to which it adds steps.
    """

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        steps = trainer.global_step
        if not steps:
            return
        taken = trainer.fit_loop.epoch_loop.batch_progress.current
        taken.ready = taken.started = taken.processed = taken.completed = steps
        fetcher = trainer.fit_loop._data_fetcher
        fetcher.fetched += steps * (trainer.datamodule.micro_batches_per_step - 1)
