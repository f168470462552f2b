"""RunRecords: what runs write down about themselves: their metrics while they train, and the model that they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What was measured at an optimizer step, by the run's names of metrics."""

    step: int
    values: Mapping[str, float]
    measured_at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """A run so far. `points` are in the order of steps; a step that an interrupted run repeated is there once.

    A step is there with all that was measured of it, but for a validation on the held-out rows that still runs."""

    points: Sequence[MetricPoint]
    train_tokens: int | None
    """Tokens of the training file, as the run rendered them; None if it has not said so yet."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model that a run registered. `version` is `name/version`, `checkpoint` a location."""

    version: str
    checkpoint: str
    step: int | None = None
    """The optimizer step after which it was saved; None if the run has not said so."""
    earlier: tuple[TrainedModel, ...] = ()
    """Those of the run's checkpoints before it that are registered too, oldest first, each with its step."""


class RunRecords(Protocol):
    """The records of the job's runs, of all attempts together, by the job's id.

    All methods raise StoreUnavailableError or RegistryError if the records cannot be read now.
    """

    async def training(self, job_id: str, after_step: int) -> TrainingRecord | None:
        """The record with the points after a step; None if no run has begun to train."""

    async def tags(self, job_id: str) -> Mapping[str, str]:
        """The tags that the newest run has set on itself; none if no run has begun to train."""

    async def result(self, job_id: str) -> TrainedModel | None:
        """The registered model, with the earlier checkpoints; None if there is none."""
