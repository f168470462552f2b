"""The token table: complete rows in order, with labels exactly where the loss mask is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.token_table import IGNORED_LABEL, build_token_table

HELDOUT = Path("jobs/data/brindle_heldout.jsonl")


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


def test_rows_equal_the_samples_of_the_codec(codec: HarmonyCodec) -> None:
    examples = load_chat_dataset(HELDOUT).examples
    table = build_token_table(examples, codec, max_length=4096)
    samples = [sample for example in examples for sample in codec.render_for_training(example)]
    rows = table.rows.to_pylist()
    assert [row["input_ids"] for row in rows] == [sample.token_ids for sample in samples]
    for row, sample in zip(rows, samples, strict=True):
        assert [label != IGNORED_LABEL for label in row["labels"]] == sample.loss_mask
        assert all(
            label in (IGNORED_LABEL, token) for label, token in zip(row["labels"], row["input_ids"], strict=True)
        )
    assert table.num_tokens == sum(len(sample.token_ids) for sample in samples)
    assert table.too_long == []


def test_rows_over_the_maximum_length_are_left_out_and_named(codec: HarmonyCodec) -> None:
    examples = load_chat_dataset(HELDOUT).examples
    lengths = [len(s.token_ids) for e in examples for s in codec.render_for_training(e)]
    limit = sorted(lengths)[len(lengths) // 2]
    over = sum(length > limit for length in lengths)
    table = build_token_table(examples, codec, max_length=limit)
    assert table.rows.num_rows == len(lengths) - over
    assert len(table.too_long) == over
    assert table.too_long[0].startswith("brindle_heldout.jsonl:")
    assert max(map(len, table.rows["input_ids"].to_pylist())) <= limit
