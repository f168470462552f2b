"""Lightning callbacks that report a NeMo run's metrics and checkpoints to a TrainContext."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from nemo import lightning as nl

import jobs.nemo.setup.patched
from jobs.nemo.checkpoint_folders import finished_checkpoints, step_folder, write_pointer
from jobs.nemo.data_module import RunRows, TokenStoreDataModule
from jobs.training.backend import TrainContext
from tuneyard.checkpoints.safety.written_folders import record_path, record_written_folder
from tuneyard.core.errors import TrainingError


class MetricsReporter(pl.Callback):
    """Reports the metrics that TrainingBackend names, after each step and each evaluation.

    Raises TrainingError when the loss is not finite. `last` holds the newest value of each metric.
    """

    def __init__(self, context: TrainContext, data: TokenStoreDataModule) -> None:
        self._context = context
        self._data = data
        self._rows: RunRows | None = None
        self._step_start = time.monotonic()
        self._evaluated_step = -1
        self._batch_losses: list[torch.Tensor] = []
        self._heldout_labels: torch.Tensor | None = None
        self.last: dict[str, float] = {}

    def on_train_start(self, *_: Any) -> None:
        self._rows = RunRows.open(self._data)
        self._step_start = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: pl.LightningModule, *_: Any) -> None:
        assert self._rows is not None
        step, logged = trainer.global_step, trainer.callback_metrics
        loss = float(logged["reduced_train_loss"])
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
            "grad_norm": float(logged.get("grad_norm", math.nan)),
            "learning_rate": float(logged["lr"]),
            "tokens_per_s": tokens / max(now - self._step_start, 1e-9),
        }
        self._step_start = now
        self._report(trainer, metrics)

    def on_validation_start(self, *_: Any) -> None:
        self._batch_losses = []

    def on_validation_batch_end(self, _trainer: pl.Trainer, _module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self._batch_losses.append(outputs.detach())

    def on_validation_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        self.restart_step_timer()
        if self._batch_losses:
            self._evaluated_step = trainer.global_step
            self._report(trainer, {"eval_loss": self._heldout_loss()})

    def _heldout_loss(self) -> float:
        """The mean over labelled tokens of all held-out rows.

        NeMo's own val_loss is the mean of the global batches' means, in which a token of a short batch counts more.
        """
        if self._heldout_labels is None:
            self._heldout_labels = self._data.heldout_labels()
        losses = torch.stack(self._batch_losses).double()
        # Zero on all pipeline stages but the last.
        torch.distributed.all_reduce(losses, group=parallel_state.get_pipeline_model_parallel_group())
        labels = self._heldout_labels[: len(losses)].to(losses.device)
        return float((losses * labels).sum() / labels.sum())

    def of_step(self, step: int) -> dict[str, float]:
        """The newest metrics. eval_loss only if it was measured at this very step, because it ranks checkpoints."""
        return {name: value for name, value in self.last.items() if name != "eval_loss" or step == self._evaluated_step}

    def restart_step_timer(self) -> None:
        """Leaves the time until now out of tokens_per_s. Call it after work that is not training."""
        self._step_start = time.monotonic()

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
    """Writes a NeMo checkpoint every `every_steps` steps and after the last one, and reports a pointer to it.

    Checkpoints contain the optimizer's state and NeMo's context. `folder` is the run's checkpoint_folder; the newest
    `keep` are kept there: one more than the pointers that Ray Train keeps, because the newest checkpoint may not have
    been reported yet when a worker dies.
    """

    def __init__(
        self, context: TrainContext, metrics: MetricsReporter, folder: Path, *, every_steps: int, keep: int
    ) -> None:
        super().__init__(
            dirpath=str(folder), save_top_k=-1, save_last=False, monitor=None, save_optim_on_train_end=True
        )
        self._context = context
        self._metrics = metrics
        self._folder = folder
        self._every_steps = every_steps
        self._keep = keep

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step % self._every_steps and step != trainer.max_steps:
            return
        path = step_folder(self._folder, step)
        if self._context.rank == 0:
            # A worker may have died after this step's checkpoint was written and before it was reported. NeMo waits
            # for rank 0 before it writes, so no other rank has begun to.
            shutil.rmtree(path, ignore_errors=True)
        self._save_checkpoint(trainer, str(path))
        pointer = self._context.work_dir / f"pointer-{step}"
        if self._context.rank == 0:
            write_pointer(pointer, path)
            record_written_folder(path)
        self._context.report_checkpoint(self._metrics.of_step(step), pointer)
        if self._context.rank == 0:
            for old in finished_checkpoints(self._folder)[: -self._keep]:
                shutil.rmtree(old, ignore_errors=True)
                record_path(old).unlink(missing_ok=True)
        self._metrics.restart_step_timer()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Writes nothing, unlike NeMo's callback: only the step number decides."""

    def on_validation_end(self, *_: Any) -> None:
        """Writes nothing, unlike NeMo's callback: only the step number decides."""

    def on_train_end(self, *_: Any) -> None:
        """Writes nothing, unlike NeMo's callback: on_train_batch_end has written the last step."""


class ResumedStepCounts(pl.Callback):
    """Corrects Lightning's batch counters after a resume: evaluations then happen at the steps of an uninterrupted run.

    Lightning evaluates by the number of the batch within its epoch. A checkpoint written in on_train_batch_end stores
    one batch less than were trained (lightning/pytorch/loops/training_epoch_loop.py, 2.4). Lightning recognises the
    last batch by the number of fetched batches, which NeMo's data loaders count in micro batches and Lightning, on a
    resume, in steps.
    """

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        steps = trainer.global_step
        if not steps:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        progress.ready = progress.started = progress.processed = progress.completed = steps
        fetcher = trainer.fit_loop._data_fetcher
        fetcher.fetched += steps * (trainer.datamodule.micro_batches_per_step - 1)
