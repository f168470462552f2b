"""The largest batch: the longest rows, and the places at which any of them has a label."""

from __future__ import annotations

import datasets
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.planning.training.batch_shapes import largest_batch
from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.training_data.token_table import IGNORED_LABEL


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=9), count=st.integers(1, 12)
)
def test_it_is_the_batch_of_the_longest_rows(rows: list[list[bool]], count: int) -> None:
    labels = [[1 if has_label else IGNORED_LABEL for has_label in row] for row in rows]
    table = datasets.Dataset.from_dict({"input_ids": [[5] * len(row) for row in rows], "labels": labels})
    shape = largest_batch(table, count)
    longest = max(map(len, rows))
    chosen = sorted(range(len(rows)), key=lambda i: len(rows[i]))[-count:]
    places = sum(any(i < len(rows[row]) and rows[row][i] for row in chosen) for i in range(longest))
    assert shape == BatchShape(count, longest, places)
