"""The token table: every row whole, in order, labelled exactly where the assistant speaks."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tuneyard.dataset import load_chat_dataset
from tuneyard.errors import DatasetError
from tuneyard.harmony import CodecSettings, HarmonyCodec
from tuneyard.token_table import IGNORED_LABEL, build_token_table, write_token_table

HELDOUT = Path("jobs/data/brindle_heldout.jsonl")


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


def test_rows_are_the_codecs_samples(codec: HarmonyCodec, tmp_path: Path) -> None:
    examples = load_chat_dataset(HELDOUT).examples
    table = build_token_table(examples, codec, max_length=4096)
    samples = [sample for example in examples for sample in codec.render_for_training(example)]
    write_token_table(table, tmp_path / "t.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["input_ids"] for row in rows] == [sample.token_ids for sample in samples]
    for row, sample in zip(rows, samples, strict=True):
        assert [label != IGNORED_LABEL for label in row["labels"]] == sample.loss_mask
        assert all(
            label in (IGNORED_LABEL, token) for label, token in zip(row["labels"], row["input_ids"], strict=True)
        )
    assert table.num_tokens == sum(len(sample.token_ids) for sample in samples)
    assert table.too_long == []


def test_long_rows_are_refused_or_dropped_never_cut(codec: HarmonyCodec) -> None:
    examples = load_chat_dataset(HELDOUT).examples
    lengths = [len(s.token_ids) for e in examples for s in codec.render_for_training(e)]
    limit = sorted(lengths)[len(lengths) // 2]
    over = sum(length > limit for length in lengths)
    with pytest.raises(DatasetError, match=rf"{over} rows are longer than data.max_length={limit}:\n  brindle_heldout"):
        build_token_table(examples, codec, max_length=limit)
    table = build_token_table(examples, codec, max_length=limit, too_long="drop")
    assert table.rows.num_rows == len(lengths) - over
    assert len(table.too_long) == over
    assert max(map(len, table.rows["input_ids"].to_pylist())) <= limit


def test_dropping_everything_is_an_error(codec: HarmonyCodec) -> None:
    with pytest.raises(DatasetError, match=r"longer than data.max_length=16"):
        build_token_table(load_chat_dataset(HELDOUT).examples, codec, max_length=16, too_long="drop")
