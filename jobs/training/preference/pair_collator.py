"""PairCollator: makes one batch of two rows for each preference pair, its chosen and its rejected answer."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch

from jobs.training.collator import ROW_ID, TokenCollator
from jobs.training.preference.dpo_loss import REFERENCE
from jobs.training.row_order import row_lengths
from tuneyard.training_data.token_table import TOKEN_COLUMNS


class PairCollator:
    """TokenCollator's batch of 2 × pairs rows: all chosen answers, then all rejected ones, each after its prompt.

    Rows with REFERENCE give it as a tensor [pairs, 2]. A row of one segment, which is a filler row, stands for both.
    """

    def __init__(self, collator: TokenCollator) -> None:
        self._collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        halves = [split_pair(row) for row in rows]
        batch = self._collator([chosen for chosen, _ in halves] + [rejected for _, rejected in halves])
        if REFERENCE in rows[0]:
            batch[REFERENCE] = torch.tensor([row[REFERENCE] for row in rows], dtype=torch.float32)
        return batch


def split_pair(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two rows of a pair, both in segment 0. Their row ids are 2 × that of the pair, and one more."""
    segments = row["segment_ids"]
    middle = segments.index(1) if segments[-1] == 1 else 0
    parts = (slice(0, middle), slice(middle, None)) if middle else (slice(None), slice(None))
    chosen, rejected = ({name: row[name][part] for name in TOKEN_COLUMNS} for part in parts)
    for number, half in enumerate((chosen, rejected)):
        half["segment_ids"] = [0] * len(half["segment_ids"])
        if ROW_ID in row:
            half[ROW_ID] = 2 * row[ROW_ID] + number
    return chosen, rejected


def half_lengths(rows: datasets.Dataset) -> list[int]:
    """The number of tokens of each row that PairCollator makes of `rows`, by their row ids."""
    lengths = np.array(row_lengths(rows))
    segments = rows.data.column("segment_ids")
    ends = np.cumsum(lengths)
    second = np.diff(np.concatenate([[0], np.cumsum(pc.list_flatten(segments).to_numpy())[ends - 1]]))
    halves = np.stack([np.where(second == 0, lengths, lengths - second), np.where(second == 0, lengths, second)], -1)
    return [int(length) for length in halves.flatten()]
