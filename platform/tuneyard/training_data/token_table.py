"""The token table: chats as an Arrow table of token ids and labels, the only data that a training backend reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.packing import pack_best_fit

IGNORED_LABEL = -100
"""Label of tokens without loss (the default `ignore_index` of PyTorch's cross entropy)."""

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("position_ids", pa.list_(pa.int32())),
        ("segment_ids", pa.list_(pa.int32())),
        ("source", pa.string()),
    ]
)
TOKEN_COLUMNS = ("input_ids", "labels", "position_ids", "segment_ids")


@dataclass(frozen=True, slots=True)
class TokenTable:
    """One row per assistant turn, or per pack of turns.

    `labels[i]` is `input_ids[i]` if the loss mask is true there, else IGNORED_LABEL. `position_ids` start at 0 in every
    turn. `segment_ids` number the turns of a row from 0: a token attends only to its own segment. `source` names the
    chat of each turn. `too_long` describes the turns over the maximum length, which are left out and never truncated.
    """

    rows: pa.Table
    too_long: list[str]

    @property
    def num_tokens(self) -> int:
        """The number of tokens in all rows."""
        return int(pc.sum(pc.list_value_length(self.rows["input_ids"])).as_py() or 0)


def build_token_table(
    examples: Iterable[ChatExample], codec: HarmonyCodec, max_length: int, train_on_reasoning: bool = True
) -> TokenTable:
    """The token table of the examples, in their order, one turn per row. `max_length` is in tokens."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    too_long: list[str] = []
    for example in examples:
        for turn, sample in enumerate(codec.render_for_training(example, train_on_reasoning), start=1):
            length = len(sample.token_ids)
            if length > max_length:
                too_long.append(f"{example.source} turn {turn}: {length} tokens")
                continue
            columns["input_ids"].append(sample.token_ids)
            columns["labels"].append(
                [
                    token if has_loss else IGNORED_LABEL
                    for token, has_loss in zip(sample.token_ids, sample.loss_mask, strict=True)
                ]
            )
            columns["position_ids"].append(range(length))
            columns["segment_ids"].append([0] * length)
            columns["source"].append(example.source)
    return TokenTable(pa.table(columns, schema=SCHEMA), too_long)


def pack_rows(rows: pa.Table, capacity: int) -> pa.Table:
    """The same turns, several per row of at most `capacity` tokens, each a segment of its own and never truncated."""
    lengths = pc.list_value_length(rows["input_ids"]).to_numpy()
    packs = pack_best_fit(lengths.tolist(), capacity)
    order = [index for pack in packs for index in pack]
    ordered = rows.take(pa.array(order, pa.int64())).combine_chunks()
    pack_lengths = [lengths[pack].sum() for pack in packs]
    offsets = pa.array(np.concatenate(([0], np.cumsum(pack_lengths, dtype=np.int64))), pa.int32())
    columns = {name: pa.ListArray.from_arrays(offsets, _flatten(ordered[name])) for name in TOKEN_COLUMNS}
    segment_of_turn = np.array([segment for pack in packs for segment in range(len(pack))], dtype=np.int32)
    segments = np.repeat(segment_of_turn, lengths[order])
    columns["segment_ids"] = pa.ListArray.from_arrays(offsets, pa.array(segments, pa.int32()))
    sources = rows["source"].to_pylist()
    columns["source"] = pa.array([" ".join(sources[index] for index in pack) for pack in packs], pa.string())
    return pa.table(columns, schema=SCHEMA)


def _flatten(column: pa.ChunkedArray) -> pa.Array:
    return (
        pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
        if column.num_chunks
        else pa.array([], pa.int32())
    )
