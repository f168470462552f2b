"""The largest batch of a run's rows, by which its memory is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.training_data.token_table import IGNORED_LABEL

if TYPE_CHECKING:
    import datasets


def largest_batch(rows: datasets.Dataset, batch_rows: int) -> BatchShape:
    """The batch of the `batch_rows` longest rows. Reads only these; of the others, the lengths."""
    lengths = pc.list_value_length(rows.data.column("input_ids"))
    count = min(batch_rows, len(lengths))
    longest = np.argsort(lengths.to_numpy(), kind="stable")[len(lengths) - count :]
    table = rows.data.table.take(pa.array(np.sort(longest)))
    length = int(pc.max(lengths).as_py())
    labelled = np.zeros(length, dtype=bool)
    for labels in table.column("labels").to_pylist():
        labelled[: len(labels)] |= np.array(labels) != IGNORED_LABEL
    return BatchShape(batch_rows, length, int(labelled.sum()))
