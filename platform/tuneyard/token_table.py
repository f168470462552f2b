"""ChatExamples -> an Arrow table of token ids and labels: all that a training backend ever sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tuneyard.chat import ChatExample
from tuneyard.errors import DatasetError
from tuneyard.harmony import HarmonyCodec
from tuneyard.packing import pack_best_fit

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


@dataclass(frozen=True, slots=True)
class TokenTable:
    """One row per assistant turn, or per pack of them.

    `labels[i]` is `input_ids[i]` where the model must produce it, else -100. `position_ids` start at
    0 with every turn, `segment_ids` count the turns of a row: a token attends to its own segment only.
    `too_long` names turns over the maximum length, which were left out.
    """

    rows: pa.Table
    too_long: list[str]

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows together."""
        return int(pc.sum(pc.list_value_length(self.rows["input_ids"])).as_py() or 0)


def build_token_table(
    examples: Iterable[ChatExample],
    codec: HarmonyCodec,
    max_length: int,
    too_long: str = "error",
    train_on_reasoning: bool = True,
) -> TokenTable:
    """The token table of examples, in their order, unpacked.

    Rows over max_length are never cut: `too_long="error"` raises DatasetError that counts and
    names them, `"drop"` leaves them out and lists them in the result.
    """
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    over: list[str] = []
    for example in examples:
        for turn, sample in enumerate(codec.render_for_training(example, train_on_reasoning), start=1):
            if len(sample.token_ids) > max_length:
                over.append(f"{example.source} turn {turn}: {len(sample.token_ids)} tokens")
                continue
            pairs = zip(sample.token_ids, sample.loss_mask, strict=True)
            columns["input_ids"].append(sample.token_ids)
            columns["labels"].append([token if trained else IGNORED_LABEL for token, trained in pairs])
            columns["position_ids"].append(range(len(sample.token_ids)))
            columns["segment_ids"].append([0] * len(sample.token_ids))
            columns["source"].append(example.source)
    if over and (too_long == "error" or not columns["input_ids"]):
        raise DatasetError(_too_long_message(over, max_length))
    return TokenTable(pa.table(columns, schema=SCHEMA), over)


def pack_token_table(table: TokenTable, capacity: int) -> TokenTable:
    """The same turns, several to a row of at most `capacity` tokens; no turn is cut and none sees another."""
    rows = table.rows.to_pylist()
    packs = pack_best_fit([len(row["input_ids"]) for row in rows], capacity)
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for pack in packs:
        members = [rows[index] for index in pack]
        for name in ("input_ids", "labels", "position_ids"):
            columns[name].append([value for member in members for value in member[name]])
        columns["segment_ids"].append([s for s, member in enumerate(members) for _ in member["input_ids"]])
        columns["source"].append(" ".join(member["source"] for member in members))
    return replace(table, rows=pa.table(columns, schema=SCHEMA))


def write_token_table(table: TokenTable, path: Path) -> None:
    """Writes the rows as Parquet, visible only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(table.rows, partial)
    partial.replace(path)


def _too_long_message(over: list[str], max_length: int) -> str:
    shown = "\n  ".join(over[:20] + ([f"… and {len(over) - 20} more"] if len(over) > 20 else []))
    return (
        f"{len(over)} row{'s are' if len(over) > 1 else ' is'} longer than data.max_length={max_length}:\n  {shown}\n"
        "Raise data.max_length, shorten the rows, or set data.too_long=drop to train without them."
    )
