"""The base's log-probabilities of the answers, computed once per run and kept in its checkpoints.

Before the first step, adapters change nothing and trained weights are the base's, so the model itself is the reference.
docs/decisions.md says why it is not asked again at every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
import transformers
from safetensors.torch import load_file, save_file

from jobs.training.preference.dpo_loss import REFERENCE, answer_log_probs
from jobs.training.preference.pair_collator import half_lengths

if TYPE_CHECKING:
    from jobs.training.trainer.row_trainer import RowTrainer

FILE_NAME = "reference_log_probs.safetensors"


class ReferenceCallback(transformers.TrainerCallback):
    """Writes the reference of a run into each of its checkpoints, so that a resumed run computes nothing again.

    `log_probs` holds tensors [pairs, 2] in nats by the names `train` and `heldout`. In a Trainer it must stand before
    the callback that reports checkpoints.
    """

    def __init__(self, pairs: dict[str, int]) -> None:
        """`pairs` are the numbers of pairs by name, without filler rows."""
        self._pairs = pairs
        self.log_probs: dict[str, torch.Tensor] = {}

    def add_to(self, trainer: RowTrainer, checkpoint: Path | None) -> None:
        """Gives the trainer's rows the reference: that which `checkpoint` keeps, or else the present model's.

        Every worker must call it, before training changes the model.
        """
        rows = {"train": trainer.train_dataset, "heldout": trainer.eval_dataset}
        self.log_probs = _kept_by(checkpoint, self._pairs) or {
            name: compute_log_probs(trainer, rows[name])[:count].contiguous() for name, count in self._pairs.items()
        }
        trainer.train_dataset = _with_reference(rows["train"], self.log_probs["train"])
        if "heldout" in self.log_probs:
            trainer.eval_dataset = _with_reference(rows["heldout"], self.log_probs["heldout"])

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            save_file(self.log_probs, Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE_NAME)


def compute_log_probs(trainer: RowTrainer, rows: datasets.Dataset) -> torch.Tensor:
    """The log-probabilities [rows, 2] of the answers under the trainer's present model, in nats, on the CPU.

    Each worker computes a share, of as many batches as the others: a model divided among them computes with all. So the
    number of `rows` must be a multiple of workers × rows per batch, as with_filler makes it.
    """
    model, size = trainer.model, trainer.args.per_device_eval_batch_size
    longest = [max(pair) for pair in zip(*[iter(half_lengths(rows))] * 2, strict=True)]
    order = sorted(range(len(rows)), key=lambda row: -longest[row])
    result = torch.zeros(len(rows), 2, device=trainer.args.device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        for start in range(trainer.args.process_index * size, len(rows), trainer.args.world_size * size):
            indices = order[start : start + size]
            batch = trainer.prepare_batch(trainer.data_collator([rows[index] for index in indices]))
            result[indices] = answer_log_probs(model, batch).float()
    model.train(was_training)
    total: torch.Tensor = trainer.accelerator.reduce(result, "sum")
    return total.cpu()


def _kept_by(checkpoint: Path | None, pairs: dict[str, int]) -> dict[str, torch.Tensor] | None:
    """The reference in a checkpoint; None if there is none for all pairs."""
    path = checkpoint / FILE_NAME if checkpoint is not None else None
    if path is None or not path.is_file():
        return None
    found: dict[str, torch.Tensor] = load_file(path)
    return found if {name: len(values) for name, values in found.items()} == pairs else None


def _with_reference(rows: datasets.Dataset, log_probs: torch.Tensor) -> datasets.Dataset:
    """The rows with REFERENCE; 0 for filler rows."""
    filler = torch.zeros(len(rows) - len(log_probs), 2)
    return rows.add_column(REFERENCE, torch.cat([log_probs, filler]).tolist())
