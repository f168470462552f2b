"""The token table: chats as an Arrow table of token ids and labels, the only data that a training backend reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.loss_mask import TrainingSample
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
_NO_TOKENS = np.zeros(0, np.int32)
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


class TokenTableBuilder:
    """Collects training samples as a token table, with 8 bytes per token until `build`."""

    def __init__(self) -> None:
        self._token_ids: list[NDArray[np.int32]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._sources: list[str] = []
        self._too_long: list[str] = []
        self.num_tokens = 0

    def add(self, sample: TrainingSample, source: str) -> None:
        """Adds a row for the sample, which comes from the chat `source`."""
        token_ids = np.array(sample.token_ids, np.int32)
        self._token_ids.append(token_ids)
        self._labels.append(np.where(np.array(sample.loss_mask, bool), token_ids, np.int32(IGNORED_LABEL)))
        self._sources.append(source)
        self.num_tokens += len(token_ids)

    def leave_out(self, description: str) -> None:
        """Notes a turn that is over the maximum length."""
        self._too_long.append(description)

    def build(self) -> TokenTable:
        """The table of all rows that were added."""
        lengths = [len(row) for row in self._token_ids]
        offsets = pa.array(np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))), pa.int32())
        positions = [np.arange(length, dtype=np.int32) for length in lengths]
        columns = {
            name: pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([_NO_TOKENS, *rows])))
            for name, rows in (("input_ids", self._token_ids), ("labels", self._labels), ("position_ids", positions))
        }
        columns["segment_ids"] = pa.ListArray.from_arrays(offsets, pa.array(np.zeros(self.num_tokens, np.int32)))
        columns["source"] = pa.array(self._sources, pa.string())
        return TokenTable(pa.table(columns, schema=SCHEMA), self._too_long)


def build_token_tables(
    examples: Iterable[ChatExample],
    codec: HarmonyCodec,
    max_length: int,
    train_on_reasoning: bool = True,
    max_tokens: int | None = None,
) -> Iterator[TokenTable]:
    """The token tables of the examples, in their order, one turn per row; at least one.

    `max_length` is in tokens. Each table holds at most `max_tokens` tokens, or one row; None: all are in one table.
    """
    builder = TokenTableBuilder()
    for example in examples:
        for turn, sample in enumerate(codec.render_for_training(example, train_on_reasoning), start=1):
            length = len(sample.token_ids)
            if length > max_length:
                builder.leave_out(f"{example.source} turn {turn}: {length} tokens")
                continue
            if max_tokens is not None and builder.num_tokens and builder.num_tokens + length > max_tokens:
                yield builder.build()
                builder = TokenTableBuilder()
            builder.add(sample, example.source)
    yield builder.build()


def build_token_table(
    examples: Iterable[ChatExample], codec: HarmonyCodec, max_length: int, train_on_reasoning: bool = True
) -> TokenTable:
    """All examples in one token table; see build_token_tables."""
    (table,) = build_token_tables(examples, codec, max_length, train_on_reasoning)
    return table


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
