"""The largest batch: the longest row, and the places at which rows of a batch have labels."""

from __future__ import annotations

import datasets
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.harmony.loss_mask import TrainingSample
from tuneyard.planning.training.batch_shapes import largest_batch
from tuneyard.planning.training.memory_plan import BatchShape
from tuneyard.training_data.token_table import IGNORED_LABEL, TokenTableBuilder


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=9), count=st.integers(1, 12)
)
def test_it_is_the_longest_row_and_the_most_places(rows: list[list[bool]], count: int) -> None:
    labels = [[1 if has_label else IGNORED_LABEL for has_label in row] for row in rows]
    table = datasets.Dataset.from_dict({"input_ids": [[5] * len(row) for row in rows], "labels": labels})
    shape = largest_batch(table, count)
    longest = max(map(len, rows))
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))[-count:]
    by_labels = sorted(range(len(rows)), key=lambda i: sum(rows[i]))[-count:]
    places = [
        sum(any(i < len(rows[row]) and rows[row][i] for row in chosen) for i in range(longest))
        for chosen in (by_length, by_labels)
    ]
    assert shape == BatchShape(count, longest, max(places))


def test_each_answer_of_a_pair_is_a_row_of_the_batch() -> None:
    builder = TokenTableBuilder()
    for prompt, chosen, rejected in ((5, 3, 4), (2, 6, 1), (1, 1, 1)):
        samples = [
            TrainingSample([1] * (prompt + answer), [False] * prompt + [True] * answer) for answer in (chosen, rejected)
        ]
        builder.add(samples, "p")
    rows = datasets.Dataset(builder.build().rows)
    # The longest rows have labels from position 2 to 8; of the rows with most labels, one has its label at 1.
    assert largest_batch(rows, 1, are_pairs=True) == BatchShape(2, 9, 7)
    assert largest_batch(rows, 2, are_pairs=True) == BatchShape(4, 9, 8)


def test_a_shorter_row_that_is_all_answer_counts() -> None:
    """As with a long document and a short summary of it, beside a short prompt and a long answer."""
    labels = [[IGNORED_LABEL] * 90 + [1] * 10, [1] * 60, [1] * 5]
    table = datasets.Dataset.from_dict({"input_ids": [[5] * len(row) for row in labels], "labels": labels})
    parts = datasets.concatenate_datasets([table.select([i]) for i in range(3)])
    assert largest_batch(parts, 1) == BatchShape(1, 100, 60)
