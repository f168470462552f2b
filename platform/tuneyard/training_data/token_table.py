"""The token table: chats as an Arrow table of token ids and labels, the only data that a training backend reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tuneyard.chats.messages import ChatExample
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.loss_mask import TrainingSample
from tuneyard.training_data.packing import pack_best_fit
from tuneyard.training_data.row_samples import name_samples, render_rows

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
    """One row per assistant turn, per pack of turns, or per preference pair.

    `labels[i]` is `input_ids[i]` if the loss mask is true there, else IGNORED_LABEL. `position_ids` start at 0 in every
    turn. `segment_ids` number the turns of a row from 0: a token attends only to its own segment. A pair has two: the
    prompt with the chosen answer, and again with the rejected one. `source` names the chat of each turn. `too_long`
    describes the turns over the maximum length, which are left out and never truncated.
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
        self._samples_of_row: list[int] = []
        self._sources: list[str] = []
        self._too_long: list[str] = []
        self.num_tokens = 0

    def add(self, samples: Sequence[TrainingSample], source: str) -> None:
        """Adds a row of the samples, each a segment of its own, which come from the chat `source`."""
        for sample in samples:
            token_ids = np.array(sample.token_ids, np.int32)
            self._token_ids.append(token_ids)
            self._labels.append(np.where(np.array(sample.loss_mask, bool), token_ids, np.int32(IGNORED_LABEL)))
            self.num_tokens += len(token_ids)
        self._samples_of_row.append(len(samples))
        self._sources.append(source)

    def leave_out(self, description: str) -> None:
        """Notes a turn that is over the maximum length."""
        self._too_long.append(description)

    def build(self) -> TokenTable:
        """The table of all rows that were added."""
        lengths = [len(sample) for sample in self._token_ids]
        ends = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        offsets = pa.array(ends[np.concatenate(([0], np.cumsum(self._samples_of_row, dtype=np.int64)))], pa.int32())
        positions = [np.arange(length, dtype=np.int32) for length in lengths]
        numbers = [segment for count in self._samples_of_row for segment in range(count)]
        segments = [np.repeat(np.array(numbers, np.int32), lengths)]
        columns = {
            name: pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([_NO_TOKENS, *values])))
            for name, values in zip(TOKEN_COLUMNS, (self._token_ids, self._labels, positions, segments), strict=True)
        }
        columns["source"] = pa.array(self._sources, pa.string())
        return TokenTable(pa.table(columns, schema=SCHEMA), self._too_long)


def build_token_tables(
    examples: Iterable[ChatExample],
    codec: HarmonyCodec,
    max_length: int,
    train_on_reasoning: bool = True,
    max_tokens: int | None = None,
) -> Iterator[TokenTable]:
    """The token tables of the examples, in their order, one turn or pair per row; at least one.

    `max_length` is in tokens, of a pair that of each answer with its prompt. Each table holds at most `max_tokens`
    tokens, or one row; None: all are in one table.
    """
    builder = TokenTableBuilder()
    for example in examples:
        for number, samples in enumerate(render_rows(codec, example, train_on_reasoning), start=1):
            lengths = [len(sample.token_ids) for sample in samples]
            if max(lengths) > max_length:
                name = name_samples(example, number)[lengths.index(max(lengths))]
                builder.leave_out(f"{example.source} {name}: {max(lengths)} tokens")
                continue
            length = sum(lengths)
            if max_tokens is not None and builder.num_tokens and builder.num_tokens + length > max_tokens:
                yield builder.build()
                builder = TokenTableBuilder()
            builder.add(samples, example.source)
    yield builder.build()


def build_token_table(
    examples: Iterable[ChatExample], codec: HarmonyCodec, max_length: int, train_on_reasoning: bool = True
) -> TokenTable:
    """All examples in one token table; see build_token_tables."""
    (table,) = build_token_tables(examples, codec, max_length, train_on_reasoning)
    return table


def split_pairs(rows: pa.Table) -> pa.Table:
    """The token columns with a row for each segment: those of preference pairs, the chosen answer first.

    The values are shared, not copied.
    """
    chunks = []
    for batch in rows.select(list(TOKEN_COLUMNS)).to_batches():
        offsets = batch["segment_ids"].offsets.to_numpy()
        values = {name: batch[name].flatten() for name in TOKEN_COLUMNS}
        ends = offsets[1:] - offsets[0]
        segments = values["segment_ids"].to_numpy()
        changes = np.flatnonzero(segments[1:] != segments[:-1]) + 1
        starts = pa.array(np.unique(np.concatenate(([0], changes, ends))).astype(np.int32))
        chunks.append(pa.table({name: pa.ListArray.from_arrays(starts, flat) for name, flat in values.items()}))
    schema = pa.schema([SCHEMA.field(name) for name in TOKEN_COLUMNS])
    return pa.concat_tables(chunks) if chunks else schema.empty_table()


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
