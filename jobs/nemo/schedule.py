"""transformers' learning rate schedules for NeMo's optimizer, so that both backends step alike."""

from __future__ import annotations

import math
from typing import Any

from nemo.lightning.pytorch.optim.base import LRSchedulerModule
from transformers import get_scheduler


class TransformersSchedule(LRSchedulerModule):
    """`schedule` by transformers' name, with a share of all steps as linear warm-up."""

    def __init__(self, schedule: str, warmup_ratio: float, max_steps: int | None = None) -> None:
        super().__init__()
        self.schedule = schedule
        self.warmup_ratio = warmup_ratio
        self.max_steps = max_steps  # NeMo sets it to the trainer's

    def scheduler(self, _model: Any, optimizer: Any) -> dict[str, Any]:
        """What Lightning's configure_optimizers returns."""
        assert self.max_steps is not None
        warmup = math.ceil(self.max_steps * self.warmup_ratio)
        schedule = get_scheduler(self.schedule, optimizer, warmup, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}
