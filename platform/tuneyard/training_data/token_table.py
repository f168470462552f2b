"""ChatExamples -> an Arrow table of token ids and labels: all that a training backend ever sees."""

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
"""Label of tokens that carry no loss (PyTorch's default ignore_index)."""

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
    """One row per assistant turn, or per pack of them.

    `labels[i]` is `input_ids[i]` where the model must produce it, else -100. `position_ids` start at
    0 with every turn, `segment_ids` count the turns of a row: a token attends to its own segment only.
    `too_long` names turns over the maximum length, which were left out, never cut.
    """

    rows: pa.Table
    too_long: list[str]

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows together."""
        return int(pc.sum(pc.list_value_length(self.rows["input_ids"])).as_py() or 0)


def build_token_table(
    examples: Iterable[ChatExample], codec: HarmonyCodec, max_length: int, train_on_reasoning: bool = True
) -> TokenTable:
    """The token table of examples, in their order, unpacked."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    over: list[str] = []
    for example in examples:
        for turn, sample in enumerate(codec.render_for_training(example, train_on_reasoning), start=1):
            length = len(sample.token_ids)
            if length > max_length:
                over.append(f"{example.source} turn {turn}: {length} tokens")
                continue
            pairs = zip(sample.token_ids, sample.loss_mask, strict=True)
            columns["input_ids"].append(sample.token_ids)
            columns["labels"].append([token if trained else IGNORED_LABEL for token, trained in pairs])
            columns["position_ids"].append(range(length))
            columns["segment_ids"].append([0] * length)
            columns["source"].append(example.source)
    return TokenTable(pa.table(columns, schema=SCHEMA), over)


def pack_rows(rows: pa.Table, capacity: int) -> pa.Table:
    """The same turns, several to a row of at most `capacity` tokens; no turn is cut and none sees another."""
    lengths = pc.list_value_length(rows["input_ids"]).to_numpy()
    packs = pack_best_fit(lengths.tolist(), capacity)
    order = [index for pack in packs for index in pack]
    ordered = rows.take(pa.array(order, pa.int64())).combine_chunks()
    of_pack = [lengths[pack].sum() for pack in packs]
    offsets = pa.array(np.concatenate(([0], np.cumsum(of_pack, dtype=np.int64))), pa.int32())
    columns = {name: pa.ListArray.from_arrays(offsets, _flat(ordered[name])) for name in TOKEN_COLUMNS}
    place_in_pack = np.array([place for pack in packs for place in range(len(pack))], dtype=np.int32)
    segments = np.repeat(place_in_pack, lengths[order])
    columns["segment_ids"] = pa.ListArray.from_arrays(offsets, pa.array(segments, pa.int32()))
    sources = rows["source"].to_pylist()
    columns["source"] = pa.array([" ".join(sources[index] for index in pack) for pack in packs], pa.string())
    return pa.table(columns, schema=SCHEMA)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return (
        pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
        if column.num_chunks
        else pa.array([], pa.int32())
    )
