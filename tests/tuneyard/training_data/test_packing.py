"""Best-fit packing: every row in one pack, no pack over its capacity, and few packs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.packing import pack_best_fit, packing_efficiency
from tuneyard.training_data.token_table import IGNORED_LABEL, build_token_table, pack_rows

lengths_strategy = st.lists(st.integers(1, 100), max_size=60)


@given(lengths=lengths_strategy, more=st.integers(0, 50))
def test_every_row_is_in_one_pack_and_no_pack_is_too_full(lengths: list[int], more: int) -> None:
    capacity = max(lengths, default=1) + more
    packs = pack_best_fit(lengths, capacity)
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in pack) <= capacity for pack in packs)
    # Two packs never fit in one: best fit would have put the rows of the second into the first.
    loads = sorted(sum(lengths[index] for index in pack) for pack in packs)
    assert len(loads) < 2 or loads[0] + loads[1] > capacity


def test_a_row_over_the_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 9 tokens does not fit in a pack of 8"):
        pack_best_fit([3, 9], 8)


def test_a_long_tailed_distribution_packs_tightly() -> None:
    rng = random.Random(1)
    lengths = [min(2048, int(rng.lognormvariate(5.3, 0.9)) + 16) for _ in range(5000)]
    assert packing_efficiency(lengths, 2048) >= 0.97


@given(texts=st.lists(st.text(min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=8))
def test_packed_rows_keep_every_token(tiny_oss: Path, texts: list[str]) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    examples = [
        ChatExample(messages=(ChatMessage(role="user", content=t), ChatMessage(role="assistant", content=t)), source=t)
        for t in texts
    ]
    table = build_token_table(examples, codec, 1024)
    segments = []
    for row in pack_rows(table.rows, 1024).to_pylist():
        assert len({len(row[name]) for name in ("input_ids", "labels", "position_ids", "segment_ids")}) == 1
        starts = [i for i, position in enumerate(row["position_ids"]) if position == 0]
        for start, end in zip(starts, [*starts[1:], len(row["input_ids"])], strict=True):
            assert row["position_ids"][start:end] == list(range(end - start))
            assert len(set(row["segment_ids"][start:end])) == 1
            # The first token of a segment has no label: the model must not predict it from the segment before.
            assert row["labels"][start] == IGNORED_LABEL
            segments.append((row["input_ids"][start:end], row["labels"][start:end]))
    unpacked = [(row["input_ids"], row["labels"]) for row in table.rows.to_pylist()]
    assert sorted(segments) == sorted(unpacked)
