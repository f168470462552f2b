"""Batches of preference pairs: two ordinary rows for each, whatever the pair and the batch."""

from __future__ import annotations

from typing import Any

import datasets
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.collator import ROW_ID, TokenCollator
from jobs.training.preference.dpo_loss import REFERENCE
from jobs.training.preference.pair_collator import PairCollator, half_lengths, split_pair
from jobs.training.row_order import with_filler
from tuneyard.harmony.loss_mask import TrainingSample
from tuneyard.training_data.token_table import TokenTableBuilder

SAMPLE = st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=7).map(
    lambda tokens: TrainingSample([token for token, _ in tokens], [is_trained for _, is_trained in tokens])
)
PAIRS = st.lists(st.tuples(SAMPLE, SAMPLE), min_size=1, max_size=5)


def stored_pairs(pairs: list[tuple[TrainingSample, TrainingSample]]) -> datasets.Dataset:
    builder = TokenTableBuilder()
    for number, pair in enumerate(pairs):
        builder.add(pair, f"pairs.jsonl:{number}")
    return datasets.Dataset(builder.build().rows)


def as_row(sample: TrainingSample) -> dict[str, Any]:
    """The row of the token table with this sample alone."""
    builder = TokenTableBuilder()
    builder.add((sample,), "")
    (row,) = builder.build().rows.to_pylist()
    return row


@given(PAIRS)
def test_a_batch_is_that_of_both_answers_as_ordinary_rows(pairs: list[tuple[TrainingSample, TrainingSample]]) -> None:
    plain = TokenCollator(0, 128, torch.float32)
    found = PairCollator(plain)(stored_pairs(pairs).to_list())
    expected = plain([*[as_row(chosen) for chosen, _ in pairs], *[as_row(rejected) for _, rejected in pairs]])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@given(PAIRS, st.integers(1, 4))
def test_filler_rows_stand_for_both_answers(pairs: list[tuple[TrainingSample, TrainingSample]], multiple: int) -> None:
    rows = with_filler(stored_pairs(pairs), multiple)
    rows = rows.add_column(ROW_ID, list(range(len(rows))))
    rows = rows.add_column(REFERENCE, [[0.5, float(number)] for number in range(len(rows))])
    batch = PairCollator(TokenCollator(0, 128, torch.float32))(rows.to_list())
    count = len(rows)
    assert batch[REFERENCE].tolist() == [[0.5, float(number)] for number in range(count)]
    assert batch[ROW_ID].tolist() == [*range(0, 2 * count, 2), *range(1, 2 * count, 2)]
    for row in (*range(len(pairs), count), *range(count + len(pairs), 2 * count)):
        assert not (batch["labels"][row] >= 0).any()
        assert batch["attention_mask"][row].sum() == 1


@given(PAIRS, st.integers(1, 4))
def test_half_lengths_are_those_of_the_rows_by_their_ids(
    pairs: list[tuple[TrainingSample, TrainingSample]], multiple: int
) -> None:
    rows = with_filler(stored_pairs(pairs), multiple)
    halves = [half for row in rows.to_list() for half in split_pair(row)]
    assert half_lengths(rows) == [len(half["input_ids"]) for half in halves]
