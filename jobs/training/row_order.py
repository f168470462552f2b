"""The order of training rows: each row once per epoch, the same for every worker and after a resume."""

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
"""Steps whose rows are sorted by length together in `grouped` batching."""


class EpochOrder(torch.utils.data.Sampler[int]):
    """A permutation of the rows per epoch, computed from seed and epoch alone.

    Workers and resumed runs therefore agree on the order without exchanging it. `step_rows` is the number of rows of
    an optimizer step, over all workers.

    With `lengths` (tokens per row), rows of one step have similar lengths: rows are sorted by length within random
    groups of STEPS_PER_GROUP steps, and the steps are taken in random order. The step with the longest row comes
    first, so that a run with too little memory fails at once.
    """

    def __init__(self, rows: Sized, seed: int, step_rows: int = 1, lengths: list[int] | None = None) -> None:
        self._rows = rows
        self._seed = seed
        self._step_rows = step_rows
        self._lengths = lengths
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch, counted from 0. The training loop calls it before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(len(self._rows)).tolist()
        return iter(order if self._lengths is None else self._group_by_length(order, self._lengths, random))

    def _group_by_length(self, order: list[int], lengths: list[int], random: np.random.Generator) -> list[int]:
        group = STEPS_PER_GROUP * self._step_rows
        groups = [order[start : start + group] for start in range(0, len(order), group)]
        by_length = [row for rows in groups for row in sorted(rows, key=lambda row: -lengths[row])]
        steps = [by_length[start : start + self._step_rows] for start in range(0, len(order), self._step_rows)]
        longest = max(range(len(steps)), key=lambda step: lengths[steps[step][0]])
        rest = [step for step in random.permutation(len(steps)).tolist() if step != longest]
        return [row for step in [longest, *rest] for row in steps[step]]


def row_lengths(rows: datasets.Dataset) -> list[int]:
    """The number of tokens of each row."""
    lengths: np.ndarray = pc.list_value_length(rows.data.column("input_ids")).to_numpy()
    return [int(length) for length in lengths]


def with_filler(rows: datasets.Dataset, multiple: int) -> datasets.Dataset:
    """The rows, followed by as many filler rows as bring their number to a multiple of `multiple`.

    A filler row is one token without a label, so it adds nothing to the loss. All workers must take the same number of
    batches; without filler rows the data loader would repeat real ones.
    """
    missing = -len(rows) % multiple
    if not missing:
        return rows
    empty = {"input_ids": [0], "labels": [IGNORED_LABEL], "position_ids": [0], "segment_ids": [0], "source": ""}
    filler = datasets.Dataset.from_list([empty] * missing, features=rows.features)
    return datasets.concatenate_datasets([rows, filler])


@dataclass(frozen=True, slots=True)
class RunSteps:
    """The number of optimizer steps of a run, per epoch and in total."""

    per_epoch: int
    total: int


def steps_of_run(rows: int, step_rows: int, epochs: float, max_steps: int | None) -> RunSteps:
    """Steps for `rows` filled up to whole steps of `step_rows`, counted as transformers.Trainer counts them.

    `max_steps` overrides `epochs`; None leaves it.
    """
    per_epoch = math.ceil(rows / step_rows)
    return RunSteps(per_epoch, max_steps or math.ceil(epochs * per_epoch))
