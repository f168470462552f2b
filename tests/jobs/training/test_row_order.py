"""Every row once per epoch, over all workers together, whatever their number; the same after a resume."""

from __future__ import annotations

import datasets
from accelerate import data_loader
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from jobs.training.row_order import EpochOrder, row_lengths, with_filler
from tuneyard.training_data.token_table import IGNORED_LABEL, SCHEMA


def dataset(lengths: list[int]) -> datasets.Dataset:
    rows = [
        {
            "input_ids": [7] * length,
            "labels": [7] * length,
            "position_ids": list(range(length)),
            "segment_ids": [0] * length,
            "source": str(number),
        }
        for number, length in enumerate(lengths)
    ]
    return datasets.Dataset.from_list(rows, features=datasets.Features.from_arrow_schema(SCHEMA))


lengths_strategy = st.lists(st.integers(2, 50), min_size=1, max_size=40)


@given(lengths=lengths_strategy, workers=st.integers(1, 4), batch=st.integers(1, 3), grouped=st.booleans())
def test_workers_share_an_epoch_without_overlap_or_loss(
    lengths: list[int], workers: int, batch: int, grouped: bool
) -> None:
    """Through the loader that the Trainer makes of it (accelerate), one per worker."""
    rows = with_filler(dataset(lengths), workers * batch)
    order = EpochOrder(rows, 1, workers * batch, row_lengths(rows) if grouped else None)
    loader = DataLoader(rows, batch_size=batch, sampler=order, collate_fn=list)
    seen: list[str] = []
    counts = set()
    for worker in range(workers):
        own = data_loader.prepare_data_loader(
            loader, num_processes=workers, process_index=worker, put_on_device=False, rng_types=[]
        )
        batches = list(own)
        counts.add(len(batches))
        seen += [row["source"] for rows in batches for row in rows if any(x != IGNORED_LABEL for x in row["labels"])]
    assert sorted(seen) == sorted(map(str, range(len(lengths))))
    assert len(counts) == 1


@given(lengths=lengths_strategy, grouped=st.booleans())
def test_an_epochs_order_is_the_seeds_and_the_epochs_alone(lengths: list[int], grouped: bool) -> None:
    def order(seed: int, *epochs: int) -> list[int]:
        found = EpochOrder(lengths, seed, 2, lengths if grouped else None)
        for epoch in epochs:
            found.set_epoch(epoch)
            list(found)
        return list(found)

    assert order(1, 3) == order(1, 0, 1, 2, 3)
    assert sorted(order(1, 3)) == list(range(len(lengths)))


def test_epochs_and_seeds_differ() -> None:
    orders = []
    for seed, epoch in ((1, 0), (1, 1), (2, 0)):
        order = EpochOrder(range(100), seed)
        order.set_epoch(epoch)
        orders.append(tuple(order))
    assert len(set(orders)) == 3


def test_grouped_steps_hold_rows_of_like_length_the_longest_first() -> None:
    lengths = [(n * 37) % 101 for n in range(100)]
    order = list(EpochOrder(lengths, 1, 4, lengths))
    steps = [[lengths[row] for row in order[start : start + 4]] for start in range(0, 100, 4)]
    assert max(steps[0]) == max(lengths)
    assert sum(max(step) - min(step) for step in steps) < 100
    assert steps != sorted(steps, reverse=True)
