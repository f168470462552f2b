"""ShardedTrainer: a RowTrainer for a model that is divided among the workers, with sharded checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from transformers.trainer import SCHEDULER_NAME

from jobs.training.sharding.sharded_state import (
    load_optimizer,
    load_weights,
    save_optimizer,
    save_weights,
    whole_weights,
)
from jobs.training.trainer.row_trainer import RowTrainer
from tuneyard.core.errors import MissingDependencyError


class ShardedTrainer(RowTrainer):
    """A RowTrainer that leaves the model as jobs.training.sharding has divided it.

    accelerate's own plugin for FSDP2 is left out: it has none on CPUs (accelerate/state.py, 1.15), where it could be
    tested, and adds gradients up in bf16.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not hasattr(self, "is_distributed_loading_by_transformers"):
            raise MissingDependencyError(
                f"training.sharding=fsdp2 needs transformers 5.24, found {transformers.__version__}: pip install "
                "'transformers>=5.24'"
            )
        # transformers' name for a model that must not be wrapped again. Set only now, because its constructor refuses
        # to save the optimizer of such a model, which this class does.
        self.is_distributed_loading_by_transformers = True

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes this worker's part, and rank 0 also the config, or with LoRA the whole adapters in PEFT's files."""
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.model, folder)
        adapters = whole_weights(self.model) if isinstance(self.model, peft.PeftModel) else None
        if not self.args.should_save:
            return
        if adapters is not None:
            self.model.save_pretrained(folder, state_dict=adapters)
        else:
            self.model.config.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_optimizer(self.model, self.optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(model or self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        load_optimizer(self.model, self.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
