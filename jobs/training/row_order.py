"""The order of training rows: every row once per epoch, shared out among workers, the same after a resume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow.compute as pc
import torch

from tuneyard.training_data.token_table import IGNORED_LABEL

STEPS_PER_GROUP = 50


class EpochOrder(torch.utils.data.Sampler[int]):
    """A permutation per epoch, from the seed and the epoch alone, so that all workers and a resumed run agree.

    With `lengths`, the rows of a step of `step_rows` are of like length: sorted within random groups of
    STEPS_PER_GROUP steps, the steps in random order, the one with the longest row first, so that too little
    memory shows at once.
    """

    def __init__(self, rows: Sized, seed: int, step_rows: int = 1, lengths: list[int] | None = None) -> None:
        self._rows = rows
        self._seed = seed
        self._step_rows = step_rows
        self._lengths = lengths
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop before each epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(len(self._rows)).tolist()
        return iter(order if self._lengths is None else self._grouped(order, self._lengths, random))

    def _grouped(self, order: list[int], lengths: list[int], random: np.random.Generator) -> list[int]:
        group = STEPS_PER_GROUP * self._step_rows
        groups = [order[start : start + group] for start in range(0, len(order), group)]
        by_length = [row for rows in groups for row in sorted(rows, key=lambda row: -lengths[row])]
        steps = [by_length[start : start + self._step_rows] for start in range(0, len(order), self._step_rows)]
        longest = max(range(len(steps)), key=lambda step: lengths[steps[step][0]])
        rest = [step for step in random.permutation(len(steps)).tolist() if step != longest]
        return [row for step in [longest, *rest] for row in steps[step]]


def row_lengths(rows: datasets.Dataset) -> list[int]:
    """Tokens of each row."""
    lengths: np.ndarray = pc.list_value_length(rows.data.column("input_ids")).to_numpy()
    return [int(length) for length in lengths]


def with_filler(rows: datasets.Dataset, multiple: int) -> datasets.Dataset:
    """The rows and as many of one token without a label as make their number a multiple.

    All workers must take equally many batches. Without these, the loader would repeat rows to fill the last ones.
    """
    missing = -len(rows) % multiple
    if not missing:
        return rows
    empty = {"input_ids": [0], "labels": [IGNORED_LABEL], "position_ids": [0], "segment_ids": [0], "source": ""}
    filler = datasets.Dataset.from_list([empty] * missing, features=rows.features)
    return datasets.concatenate_datasets([rows, filler])


@dataclass(frozen=True, slots=True)
class RunSteps:
    """Optimizer steps of a run."""

    per_epoch: int
    total: int


def steps_of_run(rows: int, step_rows: int, epochs: float, max_steps: int | None) -> RunSteps:
    """As transformers.Trainer counts them, for `rows` filled up to whole steps."""
    per_epoch = math.ceil(rows / step_rows)
    return RunSteps(per_epoch, max_steps or math.ceil(epochs * per_epoch))
