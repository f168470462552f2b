"""Learning rate schedules of transformers for NeMo's optimizer, so that both backends use the same rates."""

from __future__ import annotations

import math
from typing import Any

from nemo.lightning.pytorch.optim.base import LRSchedulerModule
from transformers import get_scheduler

import jobs.nemo.setup.patched


class TransformersSchedule(LRSchedulerModule):
    """The transformers schedule named `schedule`, after a linear warm-up over `warmup_ratio` (0 to 1) of all steps."""

    def __init__(self, schedule: str, warmup_ratio: float, max_steps: int | None = None) -> None:
        super().__init__()
        self.schedule = schedule
        self.warmup_ratio = warmup_ratio
        self.max_steps = max_steps  # NeMo sets this to the trainer's max_steps

    def scheduler(self, _model: Any, optimizer: Any) -> dict[str, Any]:
        """The value for Lightning's configure_optimizers; NeMo calls this."""
        assert self.max_steps is not None
        warmup = math.ceil(self.max_steps * self.warmup_ratio)
        schedule = get_scheduler(self.schedule, optimizer, warmup, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 1}}
