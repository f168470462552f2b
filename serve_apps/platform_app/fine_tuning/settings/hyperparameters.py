"""Hyperparameters: what a request leaves to us is resolved, and all of them become fields of the run's config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from serve_apps.platform_app.fine_tuning.settings.bases import Base
from tuneyard.api.wire.platform_api.fine_tuning import DpoHyperparameters, SupervisedHyperparameters
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import RequestError
from tuneyard.core.wording import count_of
from tuneyard.planning.nemo_parallelism import resolve_parallelism

Requested = SupervisedHyperparameters | DpoHyperparameters

DEFAULT_EPOCHS, MAX_AUTO_EPOCHS = 3, 25
MIN_AUTO_ROWS, MAX_AUTO_ROWS = 100, 25_000
"""OpenAI's rule for n_epochs: 3, but such that 100 to 25,000 rows are seen, and at most 25. Source: OpenAI cookbook,
"Data preparation and analysis for chat model fine-tuning"."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The values that a job trains with. `beta` is None unless the method is dpo."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None = None

    def as_json(self) -> dict[str, Any]:
        """OpenAI's fields; `beta` only where there is one."""
        values: dict[str, Any] = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return values if self.beta is None else values | {"beta": self.beta}

    def training_fields(self, base: Base) -> dict[str, Any]:
        """The fields of `training` in the run's config, beyond those of the template."""
        template = base.template.training
        is_dpo = self.beta is not None
        # A pair takes the memory of two rows.
        largest = max(1, template.batch_size_per_worker // (2 if is_dpo else 1))
        per_worker, accumulation = _split_batch(self.batch_size, base.template, largest)
        rate = base.dpo_learning_rate if is_dpo else template.learning_rate
        fields: dict[str, Any] = {
            "epochs": float(self.n_epochs),
            "max_steps": None,
            "learning_rate": rate * self.learning_rate_multiplier,
            "batch_size_per_worker": per_worker,
            "gradient_accumulation_steps": accumulation,
            "objective": "dpo" if is_dpo else "supervised",
        }
        return fields | {"dpo": {"beta": self.beta}} if is_dpo else fields


def check_batch_size(requested: Requested, base: Base, param: str) -> None:
    """Raises RequestError, which names `param`, for a batch size that the base's workers cannot share evenly."""
    if requested.batch_size == "auto":
        return
    multiple = batch_multiple(base.template)
    if requested.batch_size % multiple:
        raise RequestError(
            f"Invalid value for {param!r}: {requested.batch_size} rows cannot be shared evenly by the workers that "
            f"train {base.name}. Give a multiple of {multiple}, or 'auto'.",
            param=param,
            code="invalid_value",
        )


def resolve(requested: Requested, base: Base, rows: int) -> tuple[Hyperparameters, str]:
    """The values for a training file of so many rows; and a sentence about those that the request left to us.

    "" if it left none.
    """
    template = base.template.training
    epochs = auto_epochs(base.template, rows) if requested.n_epochs == "auto" else requested.n_epochs
    batch = rows_per_step(base.template) if requested.batch_size == "auto" else requested.batch_size
    multiplier = 1.0 if requested.learning_rate_multiplier == "auto" else float(requested.learning_rate_multiplier)
    beta: float | None = None
    names = ["n_epochs", "batch_size", "learning_rate_multiplier"]
    if isinstance(requested, DpoHyperparameters):
        beta = template.dpo.beta if requested.beta == "auto" else float(requested.beta)
        names.append("beta")
    values = Hyperparameters(epochs, batch, multiplier, beta)
    chosen = [f"{name}={values.as_json()[name]:g}" for name in names if getattr(requested, name) == "auto"]
    return values, f"Hyperparameters chosen for {count_of(rows, 'row')}: {', '.join(chosen)}." if chosen else ""


def auto_epochs(template: FinetuneConfig, rows: int) -> int:
    """The template's own number of epochs if it has a whole one, otherwise that of OpenAI's rule."""
    training = template.training
    if "epochs" in training.model_fields_set and training.epochs == int(training.epochs):
        return int(training.epochs)
    if rows * DEFAULT_EPOCHS < MIN_AUTO_ROWS:
        return min(MAX_AUTO_EPOCHS, MIN_AUTO_ROWS // rows)
    if rows * DEFAULT_EPOCHS > MAX_AUTO_ROWS:
        return max(1, MAX_AUTO_ROWS // rows)
    return DEFAULT_EPOCHS


def rows_per_step(template: FinetuneConfig) -> int:
    """The batch size that the template has, on all workers together."""
    training = template.training
    return training.batch_size_per_worker * training.gradient_accumulation_steps * _row_shares(template)


def batch_multiple(template: FinetuneConfig) -> int:
    """What a batch size must be a multiple of. An elastic run may have any of several numbers of workers."""
    if template.training.backend == "nemo":
        return _row_shares(template)
    return math.lcm(*template.workers.worker_counts)


def _row_shares(template: FinetuneConfig) -> int:
    """Into how many shares the rows of a step are divided: one for each worker, or with NeMo for each model copy."""
    workers = template.workers.num_workers
    if template.training.backend == "nemo":
        return max(1, workers // resolve_parallelism(template).model_ranks)
    return workers


def _split_batch(batch_size: int, template: FinetuneConfig, largest: int) -> tuple[int, int]:
    """Rows of a forward pass of one worker, at most `largest`, and passes per step; `batch_size` is a valid multiple.

    passes × workers is a multiple of every number of workers that the run may have.
    """
    multiple = batch_multiple(template)
    sizes = (size for size in range(largest, 0, -1) if batch_size % size == 0 and batch_size // size % multiple == 0)
    per_worker = next(sizes)
    return per_worker, batch_size // per_worker // _row_shares(template)
