"""The largest batch of a run's rows, by which its memory is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.training_data.token_table import IGNORED_LABEL, split_pairs

if TYPE_CHECKING:
    import datasets


def largest_batch(rows: datasets.Dataset, batch_rows: int, *, are_pairs: bool = False) -> BatchShape:
    """The length of the longest row, with the places of the longest rows or of those with the most labels.

    Both are of `batch_rows` rows. The longest rows may have short answers, and a shorter row may be all answer. Of
    preference pairs each answer is a row of the batch, after its prompt.
    """
    table: pa.Table = rows.data.table
    if are_pairs:
        table, batch_rows = split_pairs(table), 2 * batch_rows
    lengths = pc.list_value_length(table.column("input_ids")).to_numpy()
    length = int(lengths.max())
    places = max(_places(table, _last(order, batch_rows), length) for order in (lengths, _label_counts(table)))
    return BatchShape(batch_rows, length, places)


def _last(order: np.ndarray, count: int) -> np.ndarray:
    """The indices of the `count` largest entries, ascending; all if there are fewer."""
    return np.sort(np.argsort(order, kind="stable")[max(0, len(order) - count) :])


def _label_counts(rows: pa.Table) -> np.ndarray:
    """The number of labels of each row. Holds the labels of one chunk at a time."""
    counts = [np.zeros(0, np.int64)]
    for chunk in rows.column("labels").chunks:
        has_label = chunk.flatten().to_numpy() != IGNORED_LABEL
        ends = np.cumsum(pc.list_value_length(chunk).to_numpy())
        counts.append(np.diff(np.concatenate([[0], np.cumsum(has_label)])[np.concatenate([[0], ends])]))
    return np.concatenate(counts)


def _places(rows: pa.Table, indices: np.ndarray, length: int) -> int:
    """The number of positions at which any of the rows has a label."""
    labelled = np.zeros(length, dtype=bool)
    for labels in rows.select(["labels"]).take(pa.array(indices)).column("labels").to_pylist():
        labelled[: len(labels)] |= np.array(labels) != IGNORED_LABEL
    return int(labelled.sum())
