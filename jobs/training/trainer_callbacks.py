"""Callbacks of transformers.Trainer: they set the epoch of the row order, and report metrics and checkpoints."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import transformers

from jobs.training.backend import TrainContext
from jobs.training.row_order import EpochOrder
from tuneyard.core.errors import TrainingError

REPORTED = (
    "loss", "grad_norm", "learning_rate", "reward_margin", "preference_accuracy", "eval_loss", "eval_reward_margin",
    "eval_preference_accuracy",
)  # fmt: skip
"""The metrics of the Trainer that are reported."""


class EpochCallback(transformers.TrainerCallback):
    """Sets the epoch of the row order at the start of each epoch.

    The Trainer itself does not do so in the epoch in which a run is resumed.
    """

    def __init__(self, order: EpochOrder, steps_per_epoch: int) -> None:
        self._order = order
        self._steps_per_epoch = steps_per_epoch

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._order.set_epoch(state.global_step // self._steps_per_epoch)


class SaveEvaluatedModels(transformers.TrainerCallback):
    """Saves a checkpoint at each evaluation, for early stopping: only a saved model can be exported as the best."""

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        control.should_save = control.should_save or control.should_evaluate

    def on_epoch_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        control.should_save = control.should_save or control.should_evaluate


class ReportingCallback(transformers.TrainerCallback):
    """Reports the Trainer's metrics and checkpoints to the TrainContext.

    Raises TrainingError when the loss is not finite. Evaluation and saving do not count into tokens_per_s.
    """

    def __init__(self, context: TrainContext) -> None:
        self._context = context
        self._last_metrics: dict[str, float] = {}
        self._evaluated_step = -1
        self._tokens_seen = 0
        self._clock_start = time.monotonic()

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._clock_start = time.monotonic()
        self._tokens_seen = int(state.num_input_tokens_seen)

    def on_log(self, args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items() if name in REPORTED}
        if not metrics:
            return
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise TrainingError(
                f"The loss is {metrics['loss']} at step {state.global_step}. Lower training.learning_rate "
                f"(now {args.learning_rate:g}) or training.max_grad_norm (now {args.max_grad_norm:g})."
            )
        now = time.monotonic()
        if "loss" in metrics and now > self._clock_start:
            tokens_seen = int(state.num_input_tokens_seen)
            metrics["tokens_per_s"] = (tokens_seen - self._tokens_seen) / (now - self._clock_start)
            self._tokens_seen, self._clock_start = tokens_seen, now
        metrics |= {"step": state.global_step, "total_steps": state.max_steps, "epoch": float(state.epoch or 0)}
        self._last_metrics |= metrics
        if "eval_loss" in metrics:
            self._evaluated_step = state.global_step
        if self._context.rank == 0:
            self._context.report_metrics(metrics)

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._clock_start = time.monotonic()

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        metrics = dict(self._last_metrics)
        if self._evaluated_step != state.global_step:
            # The loss of an earlier step would rank this checkpoint by other weights.
            metrics = {name: value for name, value in metrics.items() if not name.startswith("eval_")}
        self._context.report_checkpoint(metrics, folder)
        if self._context.rank > 0:
            # The Trainer deletes old checkpoints on rank 0 only.
            shutil.rmtree(folder, ignore_errors=True)
        self._clock_start = time.monotonic()
